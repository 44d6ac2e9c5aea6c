// What AVX-512 does better with VBMI2, which compresses 16-bit lanes, and GFNI, which
// transposes matrices of bits; the same bytes.
#ifndef EPMC_SPARSE_FIXED_RATE_SPARSE_FIXED_RATE_VBMI2_H_
#define EPMC_SPARSE_FIXED_RATE_SPARSE_FIXED_RATE_VBMI2_H_

#if defined(__x86_64__)

#include <cstdint>

#include "xla_ffi/common/cache_lines.h"
#include "xla_ffi/common/isa.h"
#include "xla_ffi/common/x86.h"
#include "xla_ffi/sparse_fixed_rate/planes.h"
#include "xla_ffi/sparse_fixed_rate/sparse_fixed_rate_avx512.h"

namespace epmc::sparse_fixed_rate::vbmi2 {

// The bits of 64 codes below 2^8, of which each lane of 8 bytes has 8: plane j of block b is
// word 8 b + j of the result.
EPMC_VBMI2 inline __m512i EightPlanes(__m512i codes) {
  // Bit i of a byte k of the product is bit k of byte 7 - i of the lane.
  const __m512i rows = _mm512_gf2p8affine_epi64_epi8(
      _mm512_set1_epi64(static_cast<int64_t>(0x8040201008040201u)), codes, 0);
  const __m512i word_of_bytes = _mm512_set_epi8(
      63, 55, 47, 39, 62, 54, 46, 38, 61, 53, 45, 37, 60, 52, 44, 36, 59, 51, 43, 35, 58, 50,
      42, 34, 57, 49, 41, 33, 56, 48, 40, 32, 31, 23, 15, 7, 30, 22, 14, 6, 29, 21, 13, 5, 28,
      20, 12, 4, 27, 19, 11, 3, 26, 18, 10, 2, 25, 17, 9, 1, 24, 16, 8, 0);
  return _mm512_permutexvar_epi8(word_of_bytes, rows);
}

// A byte of each of 64 codes, in lanes whose order EightPlanes turns round: the lower bytes,
// or the upper ones.
EPMC_VBMI2 inline __m512i BytesOf(const uint16_t* codes, int upper) {
  const __m512i lower = _mm512_set_epi8(
      112, 114, 116, 118, 120, 122, 124, 126, 96, 98, 100, 102, 104, 106, 108, 110, 80, 82, 84,
      86, 88, 90, 92, 94, 64, 66, 68, 70, 72, 74, 76, 78, 48, 50, 52, 54, 56, 58, 60, 62, 32, 34,
      36, 38, 40, 42, 44, 46, 16, 18, 20, 22, 24, 26, 28, 30, 0, 2, 4, 6, 8, 10, 12, 14);
  const __m512i chosen = _mm512_add_epi8(lower, _mm512_set1_epi8(static_cast<char>(upper)));
  return _mm512_permutex2var_epi8(_mm512_loadu_si512(codes), chosen,
                                  _mm512_loadu_si512(codes + kBlock));
}

struct Planes : avx512::Planes {
  template <int kPlanes>
  EPMC_VBMI2 static void Store(const uint16_t* codes, int blocks, uint8_t* out) {
    constexpr __mmask8 kLow = (1u << (kPlanes < 8 ? kPlanes : 8)) - 1;
    constexpr __mmask8 kHigh = (1u << (kPlanes < 8 ? 0 : kPlanes - 8)) - 1;
    int block = 0;
    for (; block + 2 <= blocks; block += 2, codes += 2 * kBlock, out += 8 * kPlanes) {
      StoreTwo<kLow>(EightPlanes(BytesOf(codes, 0)), out, out + 4 * kPlanes);
      if (kHigh == 0) continue;
      StoreTwo<kHigh>(EightPlanes(BytesOf(codes, 1)), out + 32, out + 4 * kPlanes + 32);
    }
    avx512::Planes::Store<kPlanes>(codes, blocks - block, out);
  }

  template <__mmask8 kWords>
  EPMC_VBMI2 static void StoreTwo(__m512i planes, uint8_t* first, uint8_t* second) {
    _mm256_mask_storeu_epi32(first, kWords, _mm512_castsi512_si256(planes));
    _mm256_mask_storeu_epi32(second, kWords, _mm512_extracti64x4_epi64(planes, 1));
  }
};

struct Steps : avx512::Steps {
  using avx512::Steps::Scan;

  template <typename Half>
  static int Scan(const Half* x, int blocks, uint32_t* words, Half* values, Range* range) {
    return CompactThenRange<Steps>(x, blocks, words, values, range);
  }

  EPMC_VBMI2 static int Compact(const Bf16* x, int blocks, uint32_t* words, Bf16* values) {
    return CompactHalves(x, blocks, words, values);
  }

  EPMC_VBMI2 static int Compact(const F16* x, int blocks, uint32_t* words, F16* values) {
    return CompactHalves(x, blocks, words, values);
  }

  template <typename Half>
  EPMC_VBMI2 static int CompactHalves(const Half* x, int blocks, uint32_t* words,
                                      Half* values) {
    Half* next = values;
    for (int block = 0; block < blocks; ++block, x += kBlock) {
      PrefetchEvenLines(x, block);
      const __m512i bits = _mm512_loadu_si512(x);
      const __mmask32 word = _mm512_test_epi16_mask(bits, _mm512_set1_epi16(0x7fff));
      const __m512i kept = _mm512_maskz_compress_epi16(word, bits);
      // Half a register is stored faster than a whole one where neither is aligned.
      __m256i* to = reinterpret_cast<__m256i*>(next);
      _mm256_storeu_si256(to, _mm512_castsi512_si256(kept));
      _mm256_storeu_si256(to + 1, _mm512_extracti64x4_epi64(kept, 1));
      next += __builtin_popcount(word);
      words[block] = word;
    }
    return static_cast<int>(next - values);
  }

  static void StorePlanes(const uint16_t* codes, int blocks, int planes, uint8_t* out) {
    sparse_fixed_rate::StorePlanes<Planes>(planes, codes, blocks, out);
  }
};

}  // namespace epmc::sparse_fixed_rate::vbmi2

#endif  // defined(__x86_64__)
#endif  // EPMC_SPARSE_FIXED_RATE_SPARSE_FIXED_RATE_VBMI2_H_
