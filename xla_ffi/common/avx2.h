// AVX2 registers: loads and stores, masks from the bits of a word, conversions.
#ifndef EPMC_COMMON_AVX2_H_
#define EPMC_COMMON_AVX2_H_

#if defined(__x86_64__)

#include <cstdint>

#include "xla_ffi/common/float_types.h"
#include "xla_ffi/common/isa.h"
#include "xla_ffi/common/x86.h"

namespace epmc::avx2 {

EPMC_AVX2 inline __m256i Load(const void* x) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(x));
}

EPMC_AVX2 inline __m128i LoadHalves(const void* x) {
  return _mm_loadu_si128(static_cast<const __m128i*>(x));
}

// 8 elements as floats. A bfloat16 is the upper half of one.
EPMC_AVX2 inline __m256 LoadFloats(const F32* x) {
  return _mm256_loadu_ps(reinterpret_cast<const float*>(x));
}

EPMC_AVX2 inline __m256 LoadFloats(const Bf16* x) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(LoadHalves(x)), 16));
}

EPMC_AVX2 inline __m256 LoadFloats(const F16* x) {
  return _mm256_cvtph_ps(LoadHalves(x));
}

// FromFloat of bfloat16, 32 bits each.
EPMC_AVX2 inline __m256i BfloatBits(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i upper = _mm256_srli_epi32(bits, 16);
  const __m256i odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
  const __m256i half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
  const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, half), 16);
  const __m256i quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
  const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  return _mm256_blendv_epi8(rounded, quiet, is_nan);
}

// 64 bytes, a whole cache line if they bypass the cache. Both halves at once: with other
// stores between them, Zen 5 writes half lines to memory, at a twentieth of the speed.
template <bool kBypass>
EPMC_AVX2 inline void StoreLine(__m256i low, __m256i high, void* out) {
  __m256i* to = static_cast<__m256i*>(out);
  if (kBypass) {
    _mm256_stream_si256(to, low);
    _mm256_stream_si256(to + 1, high);
  } else {
    _mm256_storeu_si256(to, low);
    _mm256_storeu_si256(to + 1, high);
  }
}

// Byte i is 0xff where bit i is set.
EPMC_AVX2 inline __m256i BytesOf(uint32_t bits) {
  const __m256i byte_of_bit = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1,  //
                                               2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
  const __m256i own_bit = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201u));
  const __m256i bytes =
      _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int32_t>(bits)), byte_of_bit);
  return _mm256_cmpeq_epi8(_mm256_and_si256(bytes, own_bit), own_bit);
}

}  // namespace epmc::avx2

#endif  // defined(__x86_64__)
#endif  // EPMC_COMMON_AVX2_H_
