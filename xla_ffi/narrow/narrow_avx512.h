// Whole blocks of Narrow with AVX-512; the same bytes as narrow.h.
//
// In 8 bits, for groups without NaN, infinity or numbers that rounding carries beyond the
// array's type: what is left is half of the work, and of float16 and bfloat16 the compiler's
// own vectors reach half of this.
#ifndef EPMC_NARROW_NARROW_AVX512_H_
#define EPMC_NARROW_NARROW_AVX512_H_

#if defined(__x86_64__)

#include <cstdint>

#include "xla_ffi/common/avx512.h"
#include "xla_ffi/common/cache_lines.h"
#include "xla_ffi/narrow/narrow.h"
#include "xla_ffi/narrow/narrow_simd.h"

namespace epmc::narrow::avx512 {

using epmc::avx512::BfloatBits;
using epmc::avx512::StoreLine;

EPMC_AVX512 inline GroupRange RangeOf(const F32* x, int count) {
  const __m512i magnitude_mask = _mm512_set1_epi32(0x7fffffff);
  __m512i a = _mm512_setzero_si512(), b = a;
  for (int i = 0; i < count; i += 32) {
    PrefetchBlock(x + i);
    a = _mm512_max_epu32(a, _mm512_and_si512(_mm512_loadu_si512(x + i), magnitude_mask));
    b = _mm512_max_epu32(b, _mm512_and_si512(_mm512_loadu_si512(x + i + 16), magnitude_mask));
  }
  const uint32_t largest = _mm512_reduce_max_epu32(_mm512_max_epu32(a, b));
  return {largest, largest < kExponentMask};
}

// Of both 16-bit types: magnitudes are ordered as their bits are.
template <typename T>
EPMC_AVX512 inline GroupRange RangeOf(const T* x, int count) {
  const __m512i magnitude_mask = _mm512_set1_epi16(0x7fff);
  __m512i largest = _mm512_setzero_si512();
  for (int i = 0; i < count; i += 32) {
    PrefetchBlock(x + i);
    const __m512i bits = _mm512_loadu_si512(x + i);
    largest = _mm512_max_epu16(largest, _mm512_and_si512(bits, magnitude_mask));
  }
  const __m512i low = _mm512_and_si512(largest, _mm512_set1_epi32(0xffff));
  const __m512i high = _mm512_srli_epi32(largest, 16);
  const uint32_t bits = _mm512_reduce_max_epu32(_mm512_max_epu32(low, high));
  const uint32_t widened = ToFloatBits(T{static_cast<uint16_t>(bits)});
  return {widened, widened < kExponentMask};
}

// The bits of 16 elements as floats.
EPMC_AVX512 inline __m512i Load(const F32* x) { return _mm512_loadu_si512(x); }

EPMC_AVX512 inline __m512i Load(const Bf16* x) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
  return _mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16);
}

EPMC_AVX512 inline __m512i Load(const F16* x) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
  return _mm512_castps_si512(_mm512_cvtph_ps(half));
}

// The elements of a block that have a sign, one bit each.
EPMC_AVX512 inline __mmask32 SignsOf(const F32* x) {
  const uint32_t low = _mm512_movepi32_mask(_mm512_loadu_si512(x));
  const uint32_t high = _mm512_movepi32_mask(_mm512_loadu_si512(x + 16));
  return low | high << 16;
}

template <typename Half>
EPMC_AVX512 inline __mmask32 SignsOf(const Half* x) {
  return _mm512_movepi16_mask(_mm512_loadu_si512(x));
}

// The steps of `Rounding`, the last one excepted.
template <typename As>
EPMC_AVX512 inline __m128i Rounded(__m512i bits, __m512 inverse) {
  using R = Rounding<As>;
  const __m512i magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff));
  const __m512 y = _mm512_mul_ps(_mm512_castsi512_ps(magnitude), inverse);
  const __m512i exponent_mask = _mm512_set1_epi32(static_cast<int>(kExponentMask));
  const __m512i own = _mm512_and_si512(_mm512_castps_si512(y), exponent_mask);
  const __m512i binade = _mm512_max_epi32(own, _mm512_set1_epi32(R::kLeast));
  const __m512i power = _mm512_add_epi32(binade, _mm512_set1_epi32(R::kPower));
  const __m512 sum = _mm512_add_ps(y, _mm512_castsi512_ps(power));
  return _mm512_cvtepi32_epi8(
      _mm512_add_epi32(_mm512_castps_si512(sum), _mm512_srli_epi32(binade, R::kShift)));
}

// Codes as the bits of float16, which has the exponent of e5m2, and one bit more than that
// of e4m3fn: there, the numbers are 2^-8 of what they should be. Subnormal ones are right.
template <typename As>
EPMC_AVX512 inline __m512i AsFloat16(__m256i codes) {
  const __m512i wide = _mm512_cvtepu8_epi16(codes);
  if (As::kMantissaBits == 2) return _mm512_slli_epi16(wide, 8);
  const __m512i sign = _mm512_and_si512(_mm512_slli_epi16(wide, 8), _mm512_set1_epi16(-32768));
  const __m512i magnitude =
      _mm512_and_si512(_mm512_slli_epi16(wide, 7), _mm512_set1_epi16(0x3f80));
  return _mm512_or_si512(sign, magnitude);
}

// The upper, or the lower, 16 bits of 32 numbers.
EPMC_AVX512 inline __m512i Narrowed(__m512i low, __m512i high) {
  return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(low)),
                            _mm512_cvtepi32_epi16(high), 1);
}

// 32 numbers, the first 16 in `low`.
template <bool kBypass>
EPMC_AVX512 inline void StoreBlock(__m512 low, __m512 high, F32* out) {
  StoreLine<kBypass>(_mm512_castps_si512(low), out);
  StoreLine<kBypass>(_mm512_castps_si512(high), out + 16);
}

// Values have 4 significant bits, and are not below 2^-126: nothing is rounded.
template <bool kBypass>
EPMC_AVX512 inline void StoreBlock(__m512 low, __m512 high, Bf16* out) {
  const __m512i low_bits = _mm512_srli_epi32(_mm512_castps_si512(low), 16);
  const __m512i high_bits = _mm512_srli_epi32(_mm512_castps_si512(high), 16);
  StoreLine<kBypass>(Narrowed(low_bits, high_bits), out);
}

template <bool kBypass>
EPMC_AVX512 inline void StoreBlock(__m512 low, __m512 high, F16* out) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  const __m512i first = _mm512_castsi256_si512(_mm512_cvtps_ph(low, kNearest));
  StoreLine<kBypass>(_mm512_inserti64x4(first, _mm512_cvtps_ph(high, kNearest), 1), out);
}

// `DecodeBf16` of 16 values, where some are beyond `largest`, the largest of float16.
EPMC_AVX512 inline __m512 Clamped(__m512i bits, uint32_t largest) {
  const __m512i limit = _mm512_set1_epi32(static_cast<int>(largest));
  const __m512i sign = _mm512_and_si512(bits, _mm512_set1_epi32(INT32_MIN));
  const __m512i magnitude = _mm512_xor_si512(bits, sign);
  const __mmask16 is_finite = _mm512_cmplt_epu32_mask(
      magnitude, _mm512_set1_epi32(static_cast<int>(kExponentMask)));
  const __m512i least = _mm512_mask_min_epu32(magnitude, is_finite, magnitude, limit);
  return _mm512_castsi512_ps(_mm512_or_si512(sign, least));
}

struct Simd {
  template <typename T>
  EPMC_AVX512 static GroupRange Range(const T* x, int count) {
    return RangeOf(x, count);
  }

  template <typename As, typename T>
  EPMC_AVX512 static void Encode(const T* x, int count, int exponent, uint8_t* values) {
    const __m512 inverse = _mm512_set1_ps(InverseScale(exponent));
    for (int i = 0; i < count; i += 32) {
      const __m256i low = _mm256_castsi128_si256(Rounded<As>(Load(x + i), inverse));
      const __m128i high = Rounded<As>(Load(x + i + 16), inverse);
      const __m256i codes = _mm256_sub_epi8(_mm256_inserti128_si256(low, high, 1),
                                            _mm256_set1_epi8(Rounding<As>::kFirst));
      const __m256i sign = _mm256_maskz_set1_epi8(SignsOf(x + i), INT8_MIN);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(values + i),
                          _mm256_or_si256(codes, sign));
    }
  }

  template <typename As>
  EPMC_AVX512 static bool AreFinite(const uint8_t* values, int count) {
    const __m256i infinity = _mm256_set1_epi8(static_cast<char>(As::kInf));
    __mmask32 found = 0;
    for (int i = 0; i < count; i += 32) {
      const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values + i));
      const __m256i magnitude = _mm256_and_si256(codes, _mm256_set1_epi8(0x7f));
      found |= _mm256_cmpge_epu8_mask(magnitude, infinity);
    }
    return found == 0;
  }

  template <typename As, bool kBypass, typename T>
  EPMC_AVX512 static void Decode(const uint8_t* values, int count, uint8_t exponent, T* x) {
    const __m512 scale = _mm512_set1_ps(ScaleOfFloat16<As>(exponent));
    for (int i = 0; i < count; i += 32) {
      const __m512i half =
          AsFloat16<As>(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(values + i)));
      const __m512 low = _mm512_cvtph_ps(_mm512_castsi512_si256(half));
      const __m512 high = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(half, 1));
      StoreBlock<kBypass>(_mm512_mul_ps(low, scale), _mm512_mul_ps(high, scale), x + i);
    }
  }

  template <typename T>
  EPMC_AVX512 static void EncodeBf16s(const T* x, int64_t count, uint8_t* values) {
    for (int64_t i = 0; i < count; i += 32) {
      PrefetchBlock(x + i);
      const __m512i low = BfloatBits(_mm512_castsi512_ps(Load(x + i)));
      const __m512i high = BfloatBits(_mm512_castsi512_ps(Load(x + i + 16)));
      _mm512_storeu_si512(values + 2 * i, Narrowed(low, high));
    }
  }

  template <bool kBypass, typename T>
  EPMC_AVX512 static void DecodeBf16s(const uint8_t* values, int64_t count, T* x) {
    const Bf16* from = reinterpret_cast<const Bf16*>(values);
    for (int64_t i = 0; i < count; i += 32) {
      PrefetchBlock(from + i);
      const __m512 low = Clamped(Load(from + i), LargestFinite(T{}));
      const __m512 high = Clamped(Load(from + i + 16), LargestFinite(T{}));
      StoreBlock<kBypass>(low, high, x + i);
    }
  }
};

}  // namespace epmc::narrow::avx512

#endif  // defined(__x86_64__)
#endif  // EPMC_NARROW_NARROW_AVX512_H_
