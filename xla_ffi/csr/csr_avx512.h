// The nonzero elements of a block with AVX-512, 16 at a time; the same bytes as csr_cpu.cc.
//
// A register is compressed and stored whole, which writes up to 15 places too many: a store
// of the compressed part alone takes six times as long (Zen 4).
#ifndef EPMC_CSR_CSR_AVX512_H_
#define EPMC_CSR_CSR_AVX512_H_

#if defined(__x86_64__)

#include <cstdint>

#include "xla_ffi/common/isa.h"
#include "xla_ffi/common/x86.h"
#include "xla_ffi/csr/csr.h"

namespace epmc::csr::avx512 {

constexpr int kLanes = 16;

EPMC_AVX512 inline __m512i Load(const uint32_t* x) { return _mm512_loadu_si512(x); }

// In the upper half, where the sign is that of a float.
EPMC_AVX512 inline __m512i Load(const uint16_t* x) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
  return _mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16);
}

EPMC_AVX512 inline void Store(__m512i lanes, uint32_t* out) { _mm512_storeu_si512(out, lanes); }

EPMC_AVX512 inline void Store(__m512i lanes, uint16_t* out) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_cvtepi32_epi16(lanes));
}

EPMC_AVX512 inline void Store(__m512i lanes, uint8_t* out) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtepi32_epi8(lanes));
}

// `first`: the index of x[0]. Returns how many of the block's elements are not zero; there
// must be room for all of them.
template <typename Word, typename Index>
EPMC_AVX512 inline int64_t CompactBlock(const Word* x, int64_t first, Index* indices,
                                        Word* values) {
  const __m512i lanes =
      _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  int64_t count = 0;
  for (int i = 0; i < kBlock; i += kLanes) {
    const __m512i bits = Load(x + i);
    const __mmask16 mask = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x7fffffff));
    const __m512i index = _mm512_add_epi32(lanes, _mm512_set1_epi32(static_cast<int>(first + i)));
    const __m512i kept = _mm512_maskz_compress_epi32(mask, bits);
    Store(sizeof(Word) == 2 ? _mm512_srli_epi32(kept, 16) : kept, values + count);
    Store(_mm512_maskz_compress_epi32(mask, index), indices + count);
    count += __builtin_popcount(mask);
  }
  return count;
}

}  // namespace epmc::csr::avx512

#endif  // defined(__x86_64__)
#endif  // EPMC_CSR_CSR_AVX512_H_
