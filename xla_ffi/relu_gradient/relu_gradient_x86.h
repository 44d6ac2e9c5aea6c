// Whole blocks of the gradient of ReLU with AVX2 and AVX-512: lines that can bypass the cache.
#ifndef EPMC_RELU_GRADIENT_RELU_GRADIENT_X86_H_
#define EPMC_RELU_GRADIENT_RELU_GRADIENT_X86_H_

#if defined(__x86_64__)

#include <cstdint>

#include "xla_ffi/common/avx2.h"
#include "xla_ffi/common/avx512.h"

namespace epmc::relu_gradient {

struct Avx2Block {
  // The numbers of lane i are kept where bit i is set.
  EPMC_AVX2 static __m256i Mask8(uint32_t bits, const uint32_t* ct) {
    const __m256i own_bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i both = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits)), own_bit);
    return _mm256_and_si256(avx2::Load(ct), _mm256_cmpeq_epi32(both, own_bit));
  }

  template <bool kBypass>
  EPMC_AVX2 static void Mask(uint32_t word, const uint32_t* ct, uint32_t* ct_x) {
    for (int i = 0; i < 32; i += 16) {
      const __m256i low = Mask8(word >> i, ct + i);
      const __m256i high = Mask8(word >> (i + 8), ct + i + 8);
      avx2::StoreLine<kBypass>(low, high, ct_x + i);
    }
  }

  template <bool kBypass>
  EPMC_AVX2 static void Mask(uint32_t word, const uint16_t* ct, uint16_t* ct_x) {
    const __m256i bytes = avx2::BytesOf(word);
    const __m256i low = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(bytes));
    const __m256i high = _mm256_cvtepi8_epi16(_mm256_extracti128_si256(bytes, 1));
    avx2::StoreLine<kBypass>(_mm256_and_si256(low, avx2::Load(ct)),
                             _mm256_and_si256(high, avx2::Load(ct + 16)), ct_x);
  }
};

struct Avx512Block {
  template <bool kBypass>
  EPMC_AVX512 static void Mask(uint32_t word, const uint32_t* ct, uint32_t* ct_x) {
    for (int i = 0; i < 32; i += 16) {
      const __mmask16 keep = static_cast<__mmask16>(word >> i);
      const __m512i masked = _mm512_maskz_mov_epi32(keep, _mm512_loadu_si512(ct + i));
      avx512::StoreLine<kBypass>(masked, ct_x + i);
    }
  }

  template <bool kBypass>
  EPMC_AVX512 static void Mask(uint32_t word, const uint16_t* ct, uint16_t* ct_x) {
    const __m512i masked = _mm512_maskz_mov_epi16(word, _mm512_loadu_si512(ct));
    avx512::StoreLine<kBypass>(masked, ct_x);
  }
};

}  // namespace epmc::relu_gradient

#endif  // defined(__x86_64__)
#endif  // EPMC_RELU_GRADIENT_RELU_GRADIENT_X86_H_
