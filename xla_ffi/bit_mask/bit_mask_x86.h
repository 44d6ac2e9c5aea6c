// Whole blocks of BitMask, decoded with AVX2 and AVX-512 as lines that can bypass the cache.
#ifndef EPMC_BIT_MASK_BIT_MASK_X86_H_
#define EPMC_BIT_MASK_BIT_MASK_X86_H_

#if defined(__x86_64__)

#include <cstdint>
#include <cstring>

#include "xla_ffi/common/avx2.h"
#include "xla_ffi/common/avx512.h"

namespace epmc::bit_mask {

// Two blocks, 64 booleans, from their two words.
struct Avx2Line {
  template <bool kBypass>
  EPMC_AVX2 static void Decode(const uint8_t* words, uint8_t* x) {
    uint32_t word[2];
    memcpy(word, words, sizeof(word));
    const __m256i one = _mm256_set1_epi8(1);
    const __m256i low = _mm256_and_si256(avx2::BytesOf(word[0]), one);
    const __m256i high = _mm256_and_si256(avx2::BytesOf(word[1]), one);
    avx2::StoreLine<kBypass>(low, high, x);
  }
};

struct Avx512Line {
  template <bool kBypass>
  EPMC_AVX512 static void Decode(const uint8_t* words, uint8_t* x) {
    uint64_t both;
    memcpy(&both, words, sizeof(both));
    avx512::StoreLine<kBypass>(_mm512_maskz_set1_epi8(both, 1), x);
  }
};

}  // namespace epmc::bit_mask

#endif  // defined(__x86_64__)
#endif  // EPMC_BIT_MASK_BIT_MASK_X86_H_
