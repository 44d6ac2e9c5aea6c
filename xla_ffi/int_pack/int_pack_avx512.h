// Pairs of blocks of IntPack with AVX-512; the same bytes as int_pack.h.
//
// Bits are transposed, 8 elements by 8 planes, within registers: the work does not grow with
// the planes. Elements wider than a byte are taken apart into bytes, 8 planes each.
#ifndef EPMC_INT_PACK_INT_PACK_AVX512_H_
#define EPMC_INT_PACK_INT_PACK_AVX512_H_

#if defined(__x86_64__)

#include <cstdint>

#include "xla_ffi/common/avx512.h"
#include "xla_ffi/common/layout.h"

namespace epmc::int_pack::avx512 {

using epmc::avx512::StoreLine;

template <int kShift>
EPMC_AVX512 inline __m512i SwapBits(__m512i x, int64_t moved) {
  constexpr int kXorThenAnd = 0x28;  // (a ^ b) & c
  constexpr int kXorOfThree = 0x96;
  const __m512i differ = _mm512_ternarylogic_epi64(x, _mm512_srli_epi64(x, kShift),
                                                   _mm512_set1_epi64(moved), kXorThenAnd);
  return _mm512_ternarylogic_epi64(x, differ, _mm512_slli_epi64(differ, kShift), kXorOfThree);
}

// Of each 8 bytes: bit k of byte j becomes bit j of byte k.
EPMC_AVX512 inline __m512i TransposeBits(__m512i x) {
  x = SwapBits<7>(x, 0x00aa00aa00aa00aa);
  x = SwapBits<14>(x, 0x0000cccc0000cccc);
  return SwapBits<28>(x, 0x00000000f0f0f0f0);
}

// Of each 16 bytes: byte k of word j becomes byte j of word k.
EPMC_AVX512 inline __m512i TransposeBytes(__m512i x) {
  const __m128i order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_shuffle_epi8(x, _mm512_broadcast_i32x4(order));
}

// The bytes of 64 elements as 8 words of each of the two blocks: word k has bit k of all.
EPMC_AVX512 inline __m512i PlanesOf(__m512i bytes) {
  const __m512i low_then_high =
      _mm512_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
  return TransposeBytes(_mm512_permutexvar_epi32(low_then_high, TransposeBits(bytes)));
}

EPMC_AVX512 inline __m512i BytesOf(__m512i planes) {
  const __m512i side_by_side =
      _mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
  return TransposeBits(_mm512_permutexvar_epi32(side_by_side, TransposeBytes(planes)));
}

// Byte `part` of each of 64 elements.
EPMC_AVX512 inline __m512i LoadPart(const uint8_t* x, int) { return _mm512_loadu_si512(x); }

EPMC_AVX512 inline __m512i LoadPart(const uint16_t* x, int part) {
  const __m128i shift = _mm_cvtsi32_si128(8 * part);
  const __m512i lowest = _mm512_set1_epi16(0xff);
  const __m512i a = _mm512_srl_epi16(_mm512_loadu_si512(x), shift);
  const __m512i b = _mm512_srl_epi16(_mm512_loadu_si512(x + 32), shift);
  const __m512i bytes =
      _mm512_packus_epi16(_mm512_and_si512(a, lowest), _mm512_and_si512(b, lowest));
  return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), bytes);
}

EPMC_AVX512 inline __m512i LoadPart(const uint32_t* x, int part) {
  const __m128i shift = _mm_cvtsi32_si128(8 * part);
  __m512i words[4];
  for (int i = 0; i < 4; ++i) {
    const __m512i shifted = _mm512_srl_epi32(_mm512_loadu_si512(x + 16 * i), shift);
    words[i] = _mm512_and_si512(shifted, _mm512_set1_epi32(0xff));
  }
  const __m512i bytes = _mm512_packus_epi16(_mm512_packus_epi32(words[0], words[1]),
                                            _mm512_packus_epi32(words[2], words[3]));
  const __m512i in_order =
      _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(in_order, bytes);
}

// The bytes of 64 elements, lowest first.
template <int kParts>
struct Parts {
  __m512i bytes[kParts];
};

template <bool kBypass>
EPMC_AVX512 inline void StoreParts(const Parts<1>& parts, uint8_t* x) {
  StoreLine<kBypass>(parts.bytes[0], x);
}

// Elements 32 i ... 32 i + 31.
template <int i, int kParts>
EPMC_AVX512 inline __m512i Widen16(const Parts<kParts>& parts) {
  const __m512i x = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(parts.bytes[0], i));
  if (kParts == 1) return x;
  const __m256i upper = _mm512_extracti64x4_epi64(parts.bytes[kParts - 1], i);
  return _mm512_or_si512(x, _mm512_slli_epi16(_mm512_cvtepu8_epi16(upper), 8));
}

template <bool kBypass, int kParts>
EPMC_AVX512 inline void StoreParts(const Parts<kParts>& parts, uint16_t* x) {
  StoreLine<kBypass>(Widen16<0>(parts), x);
  StoreLine<kBypass>(Widen16<1>(parts), x + 32);
}

// Elements 16 i ... 16 i + 15.
template <int i, int kParts>
EPMC_AVX512 inline __m512i Widen32(const Parts<kParts>& parts) {
  __m512i x = _mm512_setzero_si512();
  for (int part = 0; part < kParts; ++part) {
    const __m128i quarter = _mm512_extracti32x4_epi32(parts.bytes[part], i);
    const __m128i shift = _mm_cvtsi32_si128(8 * part);
    x = _mm512_or_si512(x, _mm512_sll_epi32(_mm512_cvtepu8_epi32(quarter), shift));
  }
  return x;
}

template <bool kBypass, int kParts>
EPMC_AVX512 inline void StoreParts(const Parts<kParts>& parts, uint32_t* x) {
  StoreLine<kBypass>(Widen32<0>(parts), x);
  StoreLine<kBypass>(Widen32<1>(parts), x + 16);
  StoreLine<kBypass>(Widen32<2>(parts), x + 32);
  StoreLine<kBypass>(Widen32<3>(parts), x + 48);
}

// The words of a block that part `part` has: up to 8.
EPMC_AVX512 inline __mmask8 WordsOf(int part, int bit_width) {
  const int rest = bit_width - 8 * part;
  return static_cast<__mmask8>(rest >= 8 ? 0xff : (1 << rest) - 1);
}

// Up to 8 words of each block, one behind the other: in one store, of more than they are if
// there is room. Masked stores of a part of them each take half as long again.
EPMC_AVX512 inline void StoreOnePart(__m512i planes, int bit_width, int64_t room,
                                     uint8_t* out) {
  const __m512i word = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __mmask16 is_second = _mm512_cmpge_epi32_mask(word, _mm512_set1_epi32(bit_width));
  const __m512i from =
      _mm512_mask_add_epi32(word, is_second, word, _mm512_set1_epi32(8 - bit_width));
  const __m512i words = _mm512_permutexvar_epi32(from, planes);
  if (room >= 64) {
    _mm512_storeu_si512(out, words);
  } else {
    _mm512_mask_storeu_epi32(out, static_cast<__mmask16>((1 << 2 * bit_width) - 1), words);
  }
}

struct Simd {
  // `room`: bytes behind `out` that this range writes, now or later.
  template <typename T>
  EPMC_AVX512 static void EncodePair(const T* x, int bit_width, int64_t room, uint8_t* out) {
    if (bit_width <= 8) return StoreOnePart(PlanesOf(LoadPart(x, 0)), bit_width, room, out);
    for (int part = 0; 8 * part < bit_width; ++part) {
      const bool has_part = part < static_cast<int>(sizeof(T));
      const __m512i planes = has_part ? PlanesOf(LoadPart(x, part)) : _mm512_setzero_si512();
      const __mmask8 words = WordsOf(part, bit_width);
      uint8_t* to = out + 32 * part;
      _mm256_mask_storeu_epi32(to, words, _mm512_castsi512_si256(planes));
      _mm256_mask_storeu_epi32(to + 4 * bit_width, words,
                               _mm512_extracti64x4_epi64(planes, 1));
    }
  }

  // `kParts`: the bytes of an element that have planes.
  template <bool kBypass, int kParts, typename T>
  EPMC_AVX512 static void DecodePair(const uint8_t* in, int bit_width, T* x) {
    Parts<kParts> parts;
    for (int i = 0; i < kParts; ++i) {
      const __mmask8 words = WordsOf(i, bit_width);
      const uint8_t* from = in + 32 * i;
      const __m256i low = _mm256_maskz_loadu_epi32(words, from);
      const __m256i high = _mm256_maskz_loadu_epi32(words, from + 4 * bit_width);
      parts.bytes[i] = BytesOf(_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1));
    }
    StoreParts<kBypass>(parts, x);
  }
};

}  // namespace epmc::int_pack::avx512

#endif  // defined(__x86_64__)
#endif  // EPMC_INT_PACK_INT_PACK_AVX512_H_
