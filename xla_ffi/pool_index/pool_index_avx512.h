// Sums of the gradient with AVX-512: the bits that say which cotangents count are its masks.
// Half floats take 0.4 of the time of what the compiler makes of float_types.h (Zen 4).
#ifndef EPMC_POOL_INDEX_POOL_INDEX_AVX512_H_
#define EPMC_POOL_INDEX_POOL_INDEX_AVX512_H_

#if defined(__x86_64__)

#include "xla_ffi/common/avx512.h"
#include "xla_ffi/pool_index/pool_index.h"

namespace epmc::pool_index::avx512 {

using epmc::avx512::Load;
using epmc::avx512::Round;
using epmc::avx512::Store;

constexpr int kLanes = 16;

// The lanes of vector `v` that hold one of `count` elements.
EPMC_AVX512 inline __mmask16 LanesOf(int count, int v) {
  const int rest = count - v * kLanes;
  return static_cast<__mmask16>(rest >= kLanes ? 0xffff : rest <= 0 ? 0 : (1 << rest) - 1);
}

// The sums of a block's channels, as they are after being stored as T.
template <typename T>
struct Sums {
  __m512 sum[kBlock / kLanes];

  EPMC_AVX512 inline void Clear() {
    for (__m512& s : sum) s = _mm512_setzero_ps();
  }

  // A lane without a cotangent is left alone: it cannot be -0, the only number that adding
  // +0 changes.
  EPMC_AVX512 inline void Add(const T* ct, uint32_t selected, int count) {
    for (int v = 0; v < kBlock / kLanes; ++v) {
      const __mmask16 lanes =
          LanesOf(count, v) & static_cast<__mmask16>(selected >> v * kLanes);
      const __m512 value = Load(ct + v * kLanes, lanes);
      sum[v] = Round(_mm512_mask_add_ps(sum[v], lanes, sum[v], value), T{});
    }
  }

  EPMC_AVX512 inline void StoreTo(T* out, int count) const {
    for (int v = 0; v < kBlock / kLanes; ++v) {
      Store(sum[v], LanesOf(count, v), out + v * kLanes);
    }
  }
};

}  // namespace epmc::pool_index::avx512

#endif  // defined(__x86_64__)
#endif  // EPMC_POOL_INDEX_POOL_INDEX_AVX512_H_
