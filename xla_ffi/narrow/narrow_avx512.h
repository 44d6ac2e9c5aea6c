// Whole groups of Narrow's 8-bit formats with AVX-512; the same bytes as narrow.h.
//
// For groups without NaN, infinity or numbers that rounding carries beyond the array's type:
// what is left is half of the work, and of float16 and bfloat16 the compiler's own vectors
// reach half of this.
#ifndef EPMC_NARROW_NARROW_AVX512_H_
#define EPMC_NARROW_NARROW_AVX512_H_

#if defined(__x86_64__)

#include <cstdint>

#include "xla_ffi/common/isa.h"
#include "xla_ffi/common/x86.h"
#include "xla_ffi/narrow/narrow.h"

namespace epmc::narrow::avx512 {

// The largest magnitude of a group, and whether all of it is finite.
struct GroupRange {
  uint32_t largest;  // as the bits of a float
  bool is_finite;
};

EPMC_AVX512 inline GroupRange RangeOf(const F32* x, int count) {
  const __m512i magnitude_mask = _mm512_set1_epi32(0x7fffffff);
  __m512i a = _mm512_setzero_si512(), b = a;
  for (int i = 0; i < count; i += 32) {
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

// `EncodeOne` of finite numbers.
template <typename As>
EPMC_AVX512 inline __m128i Encode16(__m512i bits, __m512 inverse) {
  constexpr int kShift = kFloatMantissaBits - As::kMantissaBits;
  constexpr int kLeast = (kFloatBias + 1 - As::kBias) << kFloatMantissaBits;
  const __m512i exponent_mask = _mm512_set1_epi32(static_cast<int>(kExponentMask));
  const __mmask16 is_normal = _mm512_test_epi32_mask(bits, exponent_mask);
  const __m512 magnitude =
      _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff)));
  const __m512 y = _mm512_maskz_mul_ps(is_normal, magnitude, inverse);
  const __m512i own = _mm512_and_si512(_mm512_castps_si512(y), exponent_mask);
  const __m512i binade = _mm512_max_epu32(own, _mm512_set1_epi32(kLeast));
  const __m512i power =
      _mm512_add_epi32(binade, _mm512_set1_epi32(kShift << kFloatMantissaBits));
  const __m512 sum = _mm512_add_ps(y, _mm512_castsi512_ps(power));
  const __m512i units = _mm512_sub_epi32(_mm512_castps_si512(sum), power);
  const __m512i first =
      _mm512_srli_epi32(_mm512_sub_epi32(binade, _mm512_set1_epi32(kLeast)), kShift);
  const __m512i sign = _mm512_and_si512(_mm512_srli_epi32(bits, 24), _mm512_set1_epi32(0x80));
  return _mm512_cvtepi32_epi8(_mm512_or_si512(sign, _mm512_add_epi32(first, units)));
}

template <typename As, typename T>
EPMC_AVX512 inline void EncodeGroup(const T* x, int count, int exponent, uint8_t* values) {
  const __m512 inverse = _mm512_set1_ps(InverseScale(exponent));
  for (int i = 0; i < count; i += 16) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(values + i),
                     Encode16<As>(Load(x + i), inverse));
  }
}

// The largest exponent of a group whose largest value fits into the array's type, without
// a clamp: that value is 1.75 * 2^kTopExponent in both formats.
template <typename As, typename T>
EPMC_HD bool FitsInto(uint8_t exponent) {
  const int top = static_cast<int>(LargestFinite(T{}) >> kFloatMantissaBits);
  return exponent >= kMinExponent<As> && exponent <= top - As::kTopExponent;
}

template <typename As>
EPMC_AVX512 inline bool AreFinite(const uint8_t* values, int count) {
  const __m256i infinity = _mm256_set1_epi8(static_cast<char>(As::kInf));
  __mmask32 found = 0;
  for (int i = 0; i < count; i += 32) {
    const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values + i));
    const __m256i magnitude = _mm256_and_si256(codes, _mm256_set1_epi8(0x7f));
    found |= _mm256_cmpge_epu8_mask(magnitude, infinity);
  }
  return found == 0;
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

EPMC_AVX512 inline void Store(__m512 x, F32* out) {
  _mm512_storeu_ps(reinterpret_cast<float*>(out), x);
}

// Values have 4 significant bits, and are not below 2^-126: nothing is rounded.
EPMC_AVX512 inline void Store(__m512 x, Bf16* out) {
  const __m512i upper = _mm512_srli_epi32(_mm512_castps_si512(x), 16);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_cvtepi32_epi16(upper));
}

EPMC_AVX512 inline void Store(__m512 x, F16* out) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out),
                      _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

template <typename As, typename T>
EPMC_AVX512 inline void DecodeGroup(const uint8_t* values, int count, uint8_t exponent, T* x) {
  constexpr float kOfFloat16 = As::kMantissaBits == 3 ? 256.0f : 1.0f;
  const __m512 scale = _mm512_set1_ps(ScaleOf<As>(exponent) * kOfFloat16);
  for (int i = 0; i < count; i += 32) {
    const __m512i half =
        AsFloat16<As>(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(values + i)));
    const __m512 low = _mm512_cvtph_ps(_mm512_castsi512_si256(half));
    const __m512 high = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(half, 1));
    Store(_mm512_mul_ps(low, scale), x + i);
    Store(_mm512_mul_ps(high, scale), x + i + 16);
  }
}

}  // namespace epmc::narrow::avx512

#endif  // defined(__x86_64__)
#endif  // EPMC_NARROW_NARROW_AVX512_H_
