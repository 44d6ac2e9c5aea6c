// Pairs of blocks of IntPack with AVX2; the same bytes as int_pack.h.
//
// Bits are transposed, 8 elements by 8 planes, within registers; a few planes are faster
// taken one by one.
#ifndef EPMC_INT_PACK_INT_PACK_AVX2_H_
#define EPMC_INT_PACK_INT_PACK_AVX2_H_

#if defined(__x86_64__)

#include <cstdint>
#include <cstring>

#include "xla_ffi/common/avx2.h"
#include "xla_ffi/common/layout.h"

namespace epmc::int_pack::avx2 {

using epmc::avx2::Load;
using epmc::avx2::StoreLine;

template <int kShift>
EPMC_AVX2 inline __m256i SwapBits(__m256i x, int64_t moved) {
  const __m256i differ = _mm256_and_si256(_mm256_xor_si256(x, _mm256_srli_epi64(x, kShift)),
                                          _mm256_set1_epi64x(moved));
  return _mm256_xor_si256(x, _mm256_xor_si256(differ, _mm256_slli_epi64(differ, kShift)));
}

// Of each 8 bytes: bit k of byte j becomes bit j of byte k.
EPMC_AVX2 inline __m256i TransposeBits(__m256i x) {
  x = SwapBits<7>(x, 0x00aa00aa00aa00aa);
  x = SwapBits<14>(x, 0x0000cccc0000cccc);
  return SwapBits<28>(x, 0x00000000f0f0f0f0);
}

// Of each 16 bytes: byte k of word j becomes byte j of word k.
EPMC_AVX2 inline __m256i TransposeBytes(__m256i x) {
  const __m128i order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm256_shuffle_epi8(x, _mm256_broadcastsi128_si256(order));
}

// The bytes of 32 elements as 8 words: word k has bit k of all.
EPMC_AVX2 inline __m256i PlanesOf(__m256i bytes) {
  const __m256i low_then_high = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
  return TransposeBytes(_mm256_permutevar8x32_epi32(TransposeBits(bytes), low_then_high));
}

EPMC_AVX2 inline __m256i BytesOf(__m256i planes) {
  const __m256i side_by_side = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  return TransposeBits(_mm256_permutevar8x32_epi32(TransposeBytes(planes), side_by_side));
}

// Byte `part` of each of 32 elements.
EPMC_AVX2 inline __m256i LoadPart(const uint8_t* x, int) { return Load(x); }

EPMC_AVX2 inline __m256i LoadPart(const uint16_t* x, int part) {
  const __m128i shift = _mm_cvtsi32_si128(8 * part);
  const __m256i lowest = _mm256_set1_epi16(0xff);
  const __m256i a = _mm256_and_si256(_mm256_srl_epi16(Load(x), shift), lowest);
  const __m256i b = _mm256_and_si256(_mm256_srl_epi16(Load(x + 16), shift), lowest);
  return _mm256_permute4x64_epi64(_mm256_packus_epi16(a, b), 0xd8);
}

EPMC_AVX2 inline __m256i LoadPart(const uint32_t* x, int part) {
  const __m128i shift = _mm_cvtsi32_si128(8 * part);
  __m256i words[4];
  for (int i = 0; i < 4; ++i) {
    const __m256i shifted = _mm256_srl_epi32(Load(x + 8 * i), shift);
    words[i] = _mm256_and_si256(shifted, _mm256_set1_epi32(0xff));
  }
  const __m256i bytes = _mm256_packus_epi16(_mm256_packus_epi32(words[0], words[1]),
                                            _mm256_packus_epi32(words[2], words[3]));
  return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

// The words of a block that part `part` has: up to 8.
EPMC_AVX2 inline int NumWords(int part, int bit_width) {
  const int rest = bit_width - 8 * part;
  return rest < 8 ? rest : 8;
}

EPMC_AVX2 inline __m256i LoadWords(const uint8_t* from, int count) {
  const __m256i word = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i is_read = _mm256_cmpgt_epi32(_mm256_set1_epi32(count), word);
  return _mm256_maskload_epi32(reinterpret_cast<const int*>(from), is_read);
}

// The bytes of a block's elements, lowest first.
template <int kParts>
struct Parts {
  __m256i bytes[kParts];
};

template <int kParts>
EPMC_AVX2 inline Parts<kParts> LoadParts(const uint8_t* in, int bit_width) {
  Parts<kParts> parts;
  for (int i = 0; i < kParts; ++i) {
    parts.bytes[i] = BytesOf(LoadWords(in + 32 * i, NumWords(i, bit_width)));
  }
  return parts;
}

// Elements 16 i ... 16 i + 15 of a block.
template <int i, int kParts>
EPMC_AVX2 inline __m256i Widen16(const Parts<kParts>& parts) {
  __m256i x = _mm256_cvtepu8_epi16(_mm256_extracti128_si256(parts.bytes[0], i));
  if (kParts == 1) return x;
  const __m128i upper = _mm256_extracti128_si256(parts.bytes[kParts - 1], i);
  return _mm256_or_si256(x, _mm256_slli_epi16(_mm256_cvtepu8_epi16(upper), 8));
}

// Elements 8 i ... 8 i + 7 of a block.
template <int i, int kParts>
EPMC_AVX2 inline __m256i Widen32(const Parts<kParts>& parts) {
  __m256i x = _mm256_setzero_si256();
  for (int part = 0; part < kParts; ++part) {
    const __m128i half = _mm256_extracti128_si256(parts.bytes[part], i / 2);
    const __m128i quarter = i % 2 == 0 ? half : _mm_unpackhi_epi64(half, half);
    const __m256i words = _mm256_cvtepu8_epi32(quarter);
    x = _mm256_or_si256(x, _mm256_sll_epi32(words, _mm_cvtsi32_si128(8 * part)));
  }
  return x;
}

template <bool kBypass, int kParts>
EPMC_AVX2 inline void StoreBlock(const Parts<kParts>& parts, uint16_t* x) {
  StoreLine<kBypass>(Widen16<0>(parts), Widen16<1>(parts), x);
}

template <bool kBypass, int kParts>
EPMC_AVX2 inline void StoreBlock(const Parts<kParts>& parts, uint32_t* x) {
  StoreLine<kBypass>(Widen32<0>(parts), Widen32<1>(parts), x);
  StoreLine<kBypass>(Widen32<2>(parts), Widen32<3>(parts), x + 16);
}

constexpr int kFewPlanes = 4;

// The highest bits of all bytes are a word: planes come from the highest down.
EPMC_AVX2 inline void StoreFewPlanes(__m256i bytes, int count, uint8_t* to) {
  bytes = _mm256_sll_epi16(bytes, _mm_cvtsi32_si128(8 - count));
  for (int plane = count - 1; plane >= 0; --plane) {
    const int word = _mm256_movemask_epi8(bytes);
    memcpy(to + 4 * plane, &word, 4);
    bytes = _mm256_add_epi8(bytes, bytes);
  }
}

struct Simd {
  // `room`: bytes behind `out` that this range writes, now or later.
  template <typename T>
  EPMC_AVX2 static void EncodePair(const T* x, int bit_width, int64_t room, uint8_t* out) {
    if (bit_width <= kFewPlanes) {
      StoreFewPlanes(LoadPart(x, 0), bit_width, out);
      StoreFewPlanes(LoadPart(x + kBlock, 0), bit_width, out + 4 * bit_width);
      return;
    }
    EncodeBlock(x, bit_width, room, out);
    EncodeBlock(x + kBlock, bit_width, room - 4 * bit_width, out + 4 * bit_width);
  }

  template <typename T>
  EPMC_AVX2 static void EncodeBlock(const T* x, int bit_width, int64_t room, uint8_t* out) {
    for (int part = 0; 8 * part < bit_width; ++part, room -= 32, out += 32) {
      const bool has_part = part < static_cast<int>(sizeof(T));
      const __m256i bytes = has_part ? LoadPart(x, part) : _mm256_setzero_si256();
      if (room >= 32) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), PlanesOf(bytes));
      } else {
        StoreFewPlanes(bytes, NumWords(part, bit_width), out);
      }
    }
  }

  // `kParts`: the bytes of an element that have planes.
  template <bool kBypass, int kParts, typename T>
  EPMC_AVX2 static void DecodePair(const uint8_t* in, int bit_width, T* x) {
    const Parts<kParts> first = LoadParts<kParts>(in, bit_width);
    const Parts<kParts> second = LoadParts<kParts>(in + 4 * bit_width, bit_width);
    if constexpr (sizeof(T) == 1) {
      StoreLine<kBypass>(first.bytes[0], second.bytes[0], x);
    } else {
      StoreBlock<kBypass>(first, x);
      StoreBlock<kBypass>(second, x + kBlock);
    }
  }
};

}  // namespace epmc::int_pack::avx2

#endif  // defined(__x86_64__)
#endif  // EPMC_INT_PACK_INT_PACK_AVX2_H_
