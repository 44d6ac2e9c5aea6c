// Whole blocks of Narrow with AVX2; the same bytes as narrow.h. narrow_avx512.h has the
// reasons.
#ifndef EPMC_NARROW_NARROW_AVX2_H_
#define EPMC_NARROW_NARROW_AVX2_H_

#if defined(__x86_64__)

#include <cstdint>

#include "xla_ffi/common/avx2.h"
#include "xla_ffi/common/cache_lines.h"
#include "xla_ffi/narrow/narrow.h"
#include "xla_ffi/narrow/narrow_simd.h"

namespace epmc::narrow::avx2 {

using epmc::avx2::BfloatBits;
using epmc::avx2::LoadFloats;
using epmc::avx2::LoadHalves;
using epmc::avx2::StoreLine;

EPMC_AVX2 inline __m256i LoadBits(const void* x) { return epmc::avx2::Load(x); }

EPMC_AVX2 inline uint32_t LargestOf(__m256i x) {
  __m128i largest = _mm_max_epu32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  largest = _mm_max_epu32(largest, _mm_unpackhi_epi64(largest, largest));
  largest = _mm_max_epu32(largest, _mm_srli_epi64(largest, 32));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(largest));
}

EPMC_AVX2 inline GroupRange RangeOf(const F32* x, int count) {
  const __m256i magnitude_mask = _mm256_set1_epi32(0x7fffffff);
  __m256i a = _mm256_setzero_si256(), b = a;
  for (int i = 0; i < count; i += 16) {
    if (i % kBlock == 0) PrefetchBlock(x + i);
    a = _mm256_max_epu32(a, _mm256_and_si256(LoadBits(x + i), magnitude_mask));
    b = _mm256_max_epu32(b, _mm256_and_si256(LoadBits(x + i + 8), magnitude_mask));
  }
  const uint32_t largest = LargestOf(_mm256_max_epu32(a, b));
  return {largest, largest < kExponentMask};
}

// Of both 16-bit types: magnitudes are ordered as their bits are.
template <typename T>
EPMC_AVX2 inline GroupRange RangeOf(const T* x, int count) {
  const __m256i magnitude_mask = _mm256_set1_epi16(0x7fff);
  __m256i a = _mm256_setzero_si256(), b = a;
  for (int i = 0; i < count; i += 32) {
    PrefetchBlock(x + i);
    a = _mm256_max_epu16(a, _mm256_and_si256(LoadBits(x + i), magnitude_mask));
    b = _mm256_max_epu16(b, _mm256_and_si256(LoadBits(x + i + 16), magnitude_mask));
  }
  a = _mm256_max_epu16(a, b);
  const __m256i low = _mm256_and_si256(a, _mm256_set1_epi32(0xffff));
  const uint32_t bits = LargestOf(_mm256_max_epu32(low, _mm256_srli_epi32(a, 16)));
  const uint32_t widened = ToFloatBits(T{static_cast<uint16_t>(bits)});
  return {widened, widened < kExponentMask};
}

// The bits of 8 elements as floats.
template <typename T>
EPMC_AVX2 inline __m256i Load(const T* x) {
  return _mm256_castps_si256(LoadFloats(x));
}

// The magnitudes of 32 elements, 8 in each vector, in an order that `InOrder` undoes.
struct Magnitudes {
  __m256i bits[4];
};

template <typename T>
EPMC_AVX2 inline Magnitudes MagnitudesOf(const T* x) {
  Magnitudes m;
  for (int i = 0; i < 4; ++i) {
    m.bits[i] = _mm256_and_si256(Load(x + 8 * i), _mm256_set1_epi32(0x7fffffff));
  }
  return m;
}

EPMC_AVX2 inline Magnitudes MagnitudesOf(const Bf16* x) {
  const __m256i zero = _mm256_setzero_si256();
  Magnitudes m;
  for (int i = 0; i < 2; ++i) {
    const __m256i halves = _mm256_and_si256(LoadBits(x + 16 * i), _mm256_set1_epi16(0x7fff));
    m.bits[2 * i] = _mm256_unpacklo_epi16(zero, halves);
    m.bits[2 * i + 1] = _mm256_unpackhi_epi16(zero, halves);
  }
  return m;
}

// Of bytes as two packs leave them.
template <typename T>
EPMC_AVX2 inline __m256i InOrder(__m256i bytes, T) {
  return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

EPMC_AVX2 inline __m256i InOrder(__m256i bytes, Bf16) {
  return _mm256_permute4x64_epi64(bytes, 0xd8);
}

// The steps of `Rounding`, the last one excepted, in the lowest byte of each number.
template <typename As>
EPMC_AVX2 inline __m256i Rounded(__m256i magnitude, __m256 inverse) {
  using R = Rounding<As>;
  const __m256 y = _mm256_mul_ps(_mm256_castsi256_ps(magnitude), inverse);
  const __m256i exponent_mask = _mm256_set1_epi32(static_cast<int>(kExponentMask));
  const __m256i own = _mm256_and_si256(_mm256_castps_si256(y), exponent_mask);
  const __m256i binade = _mm256_max_epi32(own, _mm256_set1_epi32(R::kLeast));
  const __m256i power = _mm256_add_epi32(binade, _mm256_set1_epi32(R::kPower));
  const __m256 sum = _mm256_add_ps(y, _mm256_castsi256_ps(power));
  const __m256i code =
      _mm256_add_epi32(_mm256_castps_si256(sum), _mm256_srli_epi32(binade, R::kShift));
  return _mm256_and_si256(code, _mm256_set1_epi32(0xff));
}

// Bytes that have the signs of a block's elements: saturation keeps them.
EPMC_AVX2 inline __m256i SignedBytes(const F32* x) {
  const __m256i low = _mm256_packs_epi32(LoadBits(x), LoadBits(x + 8));
  const __m256i high = _mm256_packs_epi32(LoadBits(x + 16), LoadBits(x + 24));
  return InOrder(_mm256_packs_epi16(low, high), F32{});
}

template <typename Half>
EPMC_AVX2 inline __m256i SignedBytes(const Half* x) {
  return _mm256_permute4x64_epi64(_mm256_packs_epi16(LoadBits(x), LoadBits(x + 16)), 0xd8);
}

// The lower 16 bits, unsigned, of 16 numbers that have no others.
EPMC_AVX2 inline __m256i Narrowed(__m256i low, __m256i high) {
  return _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xd8);
}

// Codes as the bits of float16, times 2^8 for e4m3fn.
template <typename As>
EPMC_AVX2 inline __m256i AsFloat16(__m128i codes) {
  const __m256i wide = _mm256_cvtepu8_epi16(codes);
  if (As::kMantissaBits == 2) return _mm256_slli_epi16(wide, 8);
  const __m256i sign = _mm256_and_si256(_mm256_slli_epi16(wide, 8), _mm256_set1_epi16(-32768));
  const __m256i magnitude =
      _mm256_and_si256(_mm256_slli_epi16(wide, 7), _mm256_set1_epi16(0x3f80));
  return _mm256_or_si256(sign, magnitude);
}

// 32 numbers, 8 in each vector.
struct Block {
  __m256 x[4];
};

template <bool kBypass>
EPMC_AVX2 inline void StoreBlock(const Block& block, F32* out) {
  for (int i = 0; i < 2; ++i) {
    StoreLine<kBypass>(_mm256_castps_si256(block.x[2 * i]),
                       _mm256_castps_si256(block.x[2 * i + 1]), out + 16 * i);
  }
}

// Nothing is rounded.
template <bool kBypass>
EPMC_AVX2 inline void StoreBlock(const Block& block, Bf16* out) {
  __m256i upper[4];
  for (int i = 0; i < 4; ++i) {
    upper[i] = _mm256_srli_epi32(_mm256_castps_si256(block.x[i]), 16);
  }
  StoreLine<kBypass>(Narrowed(upper[0], upper[1]), Narrowed(upper[2], upper[3]), out);
}

template <bool kBypass>
EPMC_AVX2 inline void StoreBlock(const Block& block, F16* out) {
  __m128i halves[4];
  for (int i = 0; i < 4; ++i) {
    halves[i] = _mm256_cvtps_ph(block.x[i], _MM_FROUND_TO_NEAREST_INT);
  }
  StoreLine<kBypass>(_mm256_set_m128i(halves[1], halves[0]),
                     _mm256_set_m128i(halves[3], halves[2]), out);
}

// `DecodeBf16` of 8 values, where some are beyond `largest`, the largest of float16.
EPMC_AVX2 inline __m256 Clamped(__m256i bits, uint32_t largest) {
  const __m256i limit = _mm256_set1_epi32(static_cast<int>(largest));
  const __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff));
  const __m256i sign = _mm256_xor_si256(bits, magnitude);
  const __m256i is_finite =
      _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(kExponentMask)), magnitude);
  const __m256i least = _mm256_min_epu32(magnitude, limit);
  return _mm256_castsi256_ps(
      _mm256_or_si256(sign, _mm256_blendv_epi8(magnitude, least, is_finite)));
}

struct Simd {
  template <typename T>
  EPMC_AVX2 static GroupRange Range(const T* x, int count) {
    return RangeOf(x, count);
  }

  template <typename As, typename T>
  EPMC_AVX2 static void Encode(const T* x, int count, int exponent, uint8_t* values) {
    const __m256 inverse = _mm256_set1_ps(InverseScale(exponent));
    for (int i = 0; i < count; i += 32) {
      const Magnitudes m = MagnitudesOf(x + i);
      __m256i rounded[4];
      for (int j = 0; j < 4; ++j) rounded[j] = Rounded<As>(m.bits[j], inverse);
      const __m256i mixed = _mm256_packus_epi16(_mm256_packus_epi32(rounded[0], rounded[1]),
                                                _mm256_packus_epi32(rounded[2], rounded[3]));
      const __m256i codes =
          _mm256_sub_epi8(InOrder(mixed, T{}), _mm256_set1_epi8(Rounding<As>::kFirst));
      const __m256i sign = _mm256_and_si256(SignedBytes(x + i), _mm256_set1_epi8(INT8_MIN));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(values + i),
                          _mm256_or_si256(codes, sign));
    }
  }

  template <typename As>
  EPMC_AVX2 static bool AreFinite(const uint8_t* values, int count) {
    const __m256i infinity = _mm256_set1_epi8(static_cast<char>(As::kInf));
    __m256i largest = _mm256_setzero_si256();
    for (int i = 0; i < count; i += 32) {
      const __m256i magnitude = _mm256_and_si256(LoadBits(values + i), _mm256_set1_epi8(0x7f));
      largest = _mm256_max_epu8(largest, magnitude);
    }
    return _mm256_movemask_epi8(_mm256_cmpgt_epi8(infinity, largest)) == -1;
  }

  template <typename As, bool kBypass, typename T>
  EPMC_AVX2 static void Decode(const uint8_t* values, int count, uint8_t exponent, T* x) {
    const __m256 scale = _mm256_set1_ps(ScaleOfFloat16<As>(exponent));
    for (int i = 0; i < count; i += 32) {
      Block block;
      for (int j = 0; j < 2; ++j) {
        const __m256i half = AsFloat16<As>(LoadHalves(values + i + 16 * j));
        const __m256 low = _mm256_cvtph_ps(_mm256_castsi256_si128(half));
        const __m256 high = _mm256_cvtph_ps(_mm256_extracti128_si256(half, 1));
        block.x[2 * j] = _mm256_mul_ps(low, scale);
        block.x[2 * j + 1] = _mm256_mul_ps(high, scale);
      }
      StoreBlock<kBypass>(block, x + i);
    }
  }

  template <typename T>
  EPMC_AVX2 static void EncodeBf16s(const T* x, int64_t count, uint8_t* values) {
    for (int64_t i = 0; i < count; i += 32) {
      PrefetchBlock(x + i);
      __m256i bits[4];
      for (int j = 0; j < 4; ++j) bits[j] = BfloatBits(LoadFloats(x + i + 8 * j));
      StoreLine<false>(Narrowed(bits[0], bits[1]), Narrowed(bits[2], bits[3]), values + 2 * i);
    }
  }

  template <bool kBypass, typename T>
  EPMC_AVX2 static void DecodeBf16s(const uint8_t* values, int64_t count, T* x) {
    const Bf16* from = reinterpret_cast<const Bf16*>(values);
    for (int64_t i = 0; i < count; i += 32) {
      PrefetchBlock(from + i);
      Block block;
      for (int j = 0; j < 4; ++j) {
        block.x[j] = Clamped(Load(from + i + 8 * j), LargestFinite(T{}));
      }
      StoreBlock<kBypass>(block, x + i);
    }
  }
};

}  // namespace epmc::narrow::avx2

#endif  // defined(__x86_64__)
#endif  // EPMC_NARROW_NARROW_AVX2_H_
