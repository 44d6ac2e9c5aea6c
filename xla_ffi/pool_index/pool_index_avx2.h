// PoolIndex with AVX2, 8 channels at a time. pool_index_avx512.h has the reasons.
#ifndef EPMC_POOL_INDEX_POOL_INDEX_AVX2_H_
#define EPMC_POOL_INDEX_POOL_INDEX_AVX2_H_

#if defined(__x86_64__)

#include <cstdint>
#include <cstring>

#include "xla_ffi/common/avx2.h"
#include "xla_ffi/common/float_types.h"
#include "xla_ffi/pool_index/max_pool.h"

namespace epmc::pool_index::avx2 {

using epmc::avx2::LoadFloats;

// Numbers that `LoadFloats` has read: nothing is rounded.
EPMC_AVX2 inline void StoreSame(__m256 x, F32* out) {
  _mm256_storeu_ps(reinterpret_cast<float*>(out), x);
}

EPMC_AVX2 inline void StoreSame(__m256 x, Bf16* out) {
  const __m256i upper = _mm256_srli_epi32(_mm256_castps_si256(x), 16);
  const __m128i halves = _mm_packus_epi32(_mm256_castsi256_si128(upper),
                                          _mm256_extracti128_si256(upper, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), halves);
}

EPMC_AVX2 inline void StoreSame(__m256 x, F16* out) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out),
                   _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

struct MaxPool {
  static constexpr int kLanes = 8;

  template <typename T>
  EPMC_AVX2 static bool Pool(const T* x, const Places& places, int64_t channel,
                             int bit_width, int lane, T* y, uint8_t* words) {
    const int64_t start = places.start + channel;
    __m256 best = _mm256_set1_ps(kNegativeInfinity);
    __m256i index = _mm256_setzero_si256();
    __m256 is_nan = _mm256_setzero_ps();
    for (int i = 0; i < places.count; ++i) {
      const T* from = x + (start + places.offset[i]);
      __builtin_prefetch(reinterpret_cast<const char*>(from) + kLinesAheadNbytes);
      const __m256 candidate = LoadFloats(from);
      const __m256 take = i == 0 ? _mm256_castsi256_ps(_mm256_set1_epi32(-1))
                                 : _mm256_cmp_ps(best, candidate, _CMP_NGE_UQ);
      is_nan = _mm256_or_ps(is_nan, _mm256_cmp_ps(candidate, candidate, _CMP_UNORD_Q));
      best = _mm256_blendv_ps(best, candidate, take);
      index = _mm256_blendv_epi8(index, _mm256_set1_epi32(places.index[i]),
                                 _mm256_castps_si256(take));
    }
    if (_mm256_movemask_ps(is_nan) != 0) return false;
    StoreSame(best, y);
    for (int plane = 0; plane < bit_width; ++plane) {
      const __m256i highest = _mm256_sll_epi32(index, _mm_cvtsi32_si128(31 - plane));
      const uint32_t bits = _mm256_movemask_ps(_mm256_castsi256_ps(highest));
      PutBits(bits, lane, words + 4 * plane);
    }
    return true;
  }
};

struct HalfMaxPool {
  static constexpr int kLanes = 16;

  template <typename T>
  EPMC_AVX2 static bool Pool(const T* x, const Places& places, int64_t channel,
                             int bit_width, int lane, T* y, uint8_t* words) {
    const int64_t start = places.start + channel;
    const __m256i one = _mm256_set1_epi16(1);
    __m256i best = _mm256_set1_epi16(Ordered<T>::kLargest | INT16_MIN);
    __m256i best_key = _mm256_set1_epi16(INT16_MIN);
    __m256i index = _mm256_setzero_si256();
    __m256i largest = _mm256_setzero_si256(), smallest = _mm256_set1_epi16(-1);
    for (int i = 0; i < places.count; ++i) {
      const T* from = x + (start + places.offset[i]);
      __builtin_prefetch(reinterpret_cast<const char*>(from) + kLinesAheadNbytes);
      const __m256i candidate = epmc::avx2::Load(from);
      const __m256i magnitude = _mm256_and_si256(candidate, _mm256_set1_epi16(INT16_MAX));
      const __m256i key = _mm256_sign_epi16(magnitude, _mm256_or_si256(candidate, one));
      largest = _mm256_max_epu16(largest, magnitude);
      if (Ordered<T>::kSmallest > 1) {
        smallest = _mm256_min_epu16(smallest, _mm256_sub_epi16(magnitude, one));
      }
      const __m256i take = _mm256_cmpgt_epi16(key, best_key);
      best = _mm256_blendv_epi8(best, candidate, take);
      best_key = _mm256_max_epi16(best_key, key);
      const __m256i place = _mm256_set1_epi16(static_cast<int16_t>(places.index[i]));
      index = _mm256_blendv_epi8(index, place, take);
    }
    const __m256i infinity = _mm256_set1_epi16(Ordered<T>::kLargest);
    const __m256i least = _mm256_set1_epi16(Ordered<T>::kSmallest - 1);
    const __m256i is_usual =
        _mm256_and_si256(_mm256_cmpeq_epi16(_mm256_max_epu16(largest, infinity), infinity),
                         _mm256_cmpeq_epi16(_mm256_min_epu16(smallest, least), least));
    if (_mm256_movemask_epi8(is_usual) != -1) return false;
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), best);
    const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(index),
                                           _mm256_extracti128_si256(index, 1));
    for (int plane = 0; plane < bit_width; ++plane) {
      const __m128i highest = _mm_sll_epi16(bytes, _mm_cvtsi32_si128(7 - plane));
      PutBits(_mm_movemask_epi8(highest), lane, words + 4 * plane);
    }
    return true;
  }
};

// `x` as it is after being stored as the type of the second argument.
EPMC_AVX2 inline __m256 Round(__m256 x, F32) { return x; }

EPMC_AVX2 inline __m256 Round(__m256 x, Bf16) {
  const __m256i bits = epmc::avx2::BfloatBits(x);
  return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
}

EPMC_AVX2 inline __m256 Round(__m256 x, F16) {
  return _mm256_cvtph_ps(_mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

// The sums of a block's channels, as they are after being stored as T.
template <typename T>
struct Sums {
  __m256 sum[kBlock / 8];

  EPMC_AVX2 inline void Clear() {
    for (__m256& s : sum) s = _mm256_setzero_ps();
  }

  EPMC_AVX2 inline void Add(const T* ct, uint32_t selected, int count) {
    if (count == kBlock) return AddBlock(ct, selected);
    T block[kBlock] = {};
    memcpy(block, ct, count * sizeof(T));
    AddBlock(block, selected);
  }

  EPMC_AVX2 inline void AddBlock(const T* ct, uint32_t selected) {
    const __m256i own_bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    for (int v = 0; v < kBlock / 8; ++v) {
      const __m256i bits = _mm256_set1_epi32(static_cast<int>(selected >> 8 * v));
      const __m256i is_selected = _mm256_cmpeq_epi32(_mm256_and_si256(bits, own_bit), own_bit);
      const __m256 value = _mm256_and_ps(LoadFloats(ct + 8 * v), _mm256_castsi256_ps(is_selected));
      sum[v] = Round(_mm256_add_ps(sum[v], value), T{});
    }
  }

  EPMC_AVX2 inline void StoreTo(T* out, int count) const {
    T block[kBlock];
    T* to = count == kBlock ? out : block;
    for (int v = 0; v < kBlock / 8; ++v) StoreSame(sum[v], to + 8 * v);
    if (count < kBlock) memcpy(out, block, count * sizeof(T));
  }
};

}  // namespace epmc::pool_index::avx2

#endif  // defined(__x86_64__)
#endif  // EPMC_POOL_INDEX_POOL_INDEX_AVX2_H_
