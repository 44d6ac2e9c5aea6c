// Lanes that a mask keeps, moved together and apart again. AVX2 has no instruction for that:
// a table has the permutation of each mask of 8 lanes.
#ifndef EPMC_SPARSE_FIXED_RATE_PERMUTATIONS_AVX2_H_
#define EPMC_SPARSE_FIXED_RATE_PERMUTATIONS_AVX2_H_

#if defined(__x86_64__)

#include <cstdint>

#include "xla_ffi/common/isa.h"
#include "xla_ffi/common/x86.h"

namespace epmc::sparse_fixed_rate::avx2 {

constexpr int kLanes = 8;

struct Permutations {
  uint64_t compress[256];  // byte i: the lane of the i-th bit that is set
  uint64_t expand[256];    // byte i: how many bits are set below i; 0x80 if bit i is not
};

constexpr Permutations MakePermutations() {
  Permutations table = {};
  for (int mask = 0; mask < 256; ++mask) {
    int count = 0;
    for (int lane = 0; lane < kLanes; ++lane) {
      const bool is_set = (mask >> lane & 1) != 0;
      const uint64_t rank = is_set ? static_cast<uint64_t>(count) : 0x80u;
      table.expand[mask] |= rank << (8 * lane);
      if (is_set) table.compress[mask] |= static_cast<uint64_t>(lane) << (8 * count++);
    }
  }
  return table;
}

inline constexpr Permutations kPermutations = MakePermutations();

EPMC_AVX2 inline __m256i Compressed(__m256i x, uint32_t mask) {
  const __m128i lanes = _mm_loadl_epi64(
      reinterpret_cast<const __m128i*>(kPermutations.compress + mask));
  return _mm256_permutevar8x32_epi32(x, _mm256_cvtepu8_epi32(lanes));
}

EPMC_AVX2 inline __m256i Expanded(__m256i x, uint32_t mask) {
  const __m128i ranks =
      _mm_loadl_epi64(reinterpret_cast<const __m128i*>(kPermutations.expand + mask));
  const __m256i index = _mm256_cvtepi8_epi32(ranks);
  return _mm256_andnot_si256(_mm256_srai_epi32(index, 31),
                             _mm256_permutevar8x32_epi32(x, index));
}

EPMC_AVX2 inline __m256 Expanded(__m256 x, uint32_t mask) {
  return _mm256_castsi256_ps(Expanded(_mm256_castps_si256(x), mask));
}

}  // namespace epmc::sparse_fixed_rate::avx2

#endif  // defined(__x86_64__)
#endif  // EPMC_SPARSE_FIXED_RATE_PERMUTATIONS_AVX2_H_
