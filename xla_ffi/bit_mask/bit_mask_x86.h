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
    for (int i = 0; i < 2; ++i) {
      const __m256i bools = _mm256_and_si256(avx2::BytesOf(word[i]), one);
      avx2::StoreHalfLine<kBypass>(bools, x + 32 * i);
    }
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
