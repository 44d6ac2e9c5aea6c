// PoolIndex with AVX-512, 16 channels at a time.
//
// The bits that say which cotangents count are masks of the gradient's sums: half floats take
// 0.4 of the time of what the compiler makes of float_types.h (Zen 4).
#ifndef EPMC_POOL_INDEX_POOL_INDEX_AVX512_H_
#define EPMC_POOL_INDEX_POOL_INDEX_AVX512_H_

#if defined(__x86_64__)

#include <cstdint>
#include <cstring>

#include "xla_ffi/common/avx512.h"
#include "xla_ffi/pool_index/max_pool.h"
#include "xla_ffi/pool_index/pool_index.h"

namespace epmc::pool_index::avx512 {

using epmc::avx512::Load;
using epmc::avx512::Round;
using epmc::avx512::Store;

struct MaxPool {
  static constexpr int kLanes = 16;

  // 16 results, and the bits of their indices from bit `lane` on of each word; false,
  // and nothing is written, if there is a NaN. Without one, `Consider` keeps one number, not two.
  template <typename T>
  EPMC_AVX512 static bool Pool(const T* x, const Places& places, int64_t channel,
                               int bit_width, int lane, T* y, uint8_t* words) {
    const int64_t start = places.start + channel;
    constexpr __mmask16 kAll = 0xffff;
    __m512 best = _mm512_set1_ps(kNegativeInfinity);
    __m512i index = _mm512_setzero_si512();
    __mmask16 is_nan = 0;
    for (int i = 0; i < places.count; ++i) {
      const T* from = x + (start + places.offset[i]);
      __builtin_prefetch(reinterpret_cast<const char*>(from) + kLinesAheadNbytes);
      const __m512 candidate = Load(from, kAll);
      const __mmask16 take = i == 0 ? kAll : _mm512_cmp_ps_mask(best, candidate, _CMP_NGE_UQ);
      is_nan |= _mm512_cmp_ps_mask(candidate, candidate, _CMP_UNORD_Q);
      best = _mm512_mask_mov_ps(best, take, candidate);
      index = _mm512_mask_set1_epi32(index, take, places.index[i]);
    }
    if (is_nan != 0) return false;
    Store(best, kAll, y);
    for (int plane = 0; plane < bit_width; ++plane) {
      const uint32_t bits = _mm512_test_epi32_mask(index, _mm512_set1_epi32(1 << plane));
      PutBits(bits, lane, words + 4 * plane);
    }
    return true;
  }
};

// The same for 32 halves, compared as integers: `Ordered`.
struct HalfMaxPool {
  static constexpr int kLanes = 32;

  template <typename T>
  EPMC_AVX512 static bool Pool(const T* x, const Places& places, int64_t channel,
                               int bit_width, int lane, T* y, uint8_t* words) {
    const int64_t start = places.start + channel;
    const __m512i one = _mm512_set1_epi16(1);
    __m512i best = _mm512_set1_epi16(Ordered<T>::kLargest | INT16_MIN);
    __m512i best_key = _mm512_set1_epi16(INT16_MIN);
    __m512i index = _mm512_setzero_si512();
    __m512i largest = _mm512_setzero_si512(), smallest = _mm512_set1_epi16(-1);
    for (int i = 0; i < places.count; ++i) {
      const T* from = x + (start + places.offset[i]);
      __builtin_prefetch(reinterpret_cast<const char*>(from) + kLinesAheadNbytes);
      const __m512i candidate = _mm512_loadu_si512(from);
      const __m512i magnitude = _mm512_and_si512(candidate, _mm512_set1_epi16(INT16_MAX));
      const __m512i key = _mm512_mask_sub_epi16(magnitude, _mm512_movepi16_mask(candidate),
                                                _mm512_setzero_si512(), magnitude);
      largest = _mm512_max_epu16(largest, magnitude);
      if (Ordered<T>::kSmallest > 1) {
        smallest = _mm512_min_epu16(smallest, _mm512_sub_epi16(magnitude, one));
      }
      const __mmask32 take = _mm512_cmpgt_epi16_mask(key, best_key);
      best = _mm512_mask_mov_epi16(best, take, candidate);
      best_key = _mm512_max_epi16(best_key, key);
      index = _mm512_mask_set1_epi16(index, take, static_cast<int16_t>(places.index[i]));
    }
    const __mmask32 is_nan =
        _mm512_cmpgt_epu16_mask(largest, _mm512_set1_epi16(Ordered<T>::kLargest));
    const __mmask32 is_subnormal = _mm512_cmplt_epu16_mask(
        smallest, _mm512_set1_epi16(Ordered<T>::kSmallest - 1));
    if ((is_nan | is_subnormal) != 0) return false;
    _mm512_storeu_si512(y, best);
    for (int plane = 0; plane < bit_width; ++plane) {
      const __m512i bit = _mm512_set1_epi16(static_cast<int16_t>(1 << plane));
      PutBits(_mm512_test_epi16_mask(index, bit), lane, words + 4 * plane);
    }
    return true;
  }
};

// The sums of a block's channels, as they are after being stored as T.
template <typename T>
struct Sums {
  static constexpr int kLanes = 16;
  static constexpr __mmask16 kAll = 0xffff;
  __m512 sum[kBlock / kLanes];

  EPMC_AVX512 inline void Clear() {
    for (__m512& s : sum) s = _mm512_setzero_ps();
  }

  EPMC_AVX512 inline void Add(const T* ct, uint32_t selected, int count) {
    if (count == kBlock) return AddBlock(ct, selected);
    T block[kBlock] = {};
    memcpy(block, ct, count * sizeof(T));
    AddBlock(block, selected);
  }

  // A lane without a cotangent is left alone: it cannot be -0, the only number that adding
  // +0 changes. All lanes are read: loads with a mask take twice as long.
  EPMC_AVX512 inline void AddBlock(const T* ct, uint32_t selected) {
    for (int v = 0; v < kBlock / kLanes; ++v) {
      const __mmask16 lanes = static_cast<__mmask16>(selected >> v * kLanes);
      const __m512 value = Load(ct + v * kLanes, kAll);
      sum[v] = Round(_mm512_mask_add_ps(sum[v], lanes, sum[v], value), T{});
    }
  }

  EPMC_AVX512 inline void StoreTo(T* out, int count) const {
    T block[kBlock];
    T* to = count == kBlock ? out : block;
    for (int v = 0; v < kBlock / kLanes; ++v) Store(sum[v], kAll, to + v * kLanes);
    if (count < kBlock) memcpy(out, block, count * sizeof(T));
  }
};

}  // namespace epmc::pool_index::avx512

#endif  // defined(__x86_64__)
#endif  // EPMC_POOL_INDEX_POOL_INDEX_AVX512_H_
