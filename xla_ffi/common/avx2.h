// Stores of AVX2 registers, and the masks that bits of a word stand for.
#ifndef EPMC_COMMON_AVX2_H_
#define EPMC_COMMON_AVX2_H_

#if defined(__x86_64__)

#include <cstdint>

#include "xla_ffi/common/isa.h"
#include "xla_ffi/common/x86.h"

namespace epmc::avx2 {

EPMC_AVX2 inline __m256i Load(const void* x) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(x));
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
