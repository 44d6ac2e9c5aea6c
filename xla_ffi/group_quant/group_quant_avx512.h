// Whole groups of GroupQuant with AVX-512; the same bytes as group_quant.h, 16 at a time.
//
// For groups that are a multiple of 32 elements and not the tail of a row: the compiler's
// own vectors reach a third of this for stochastic rounding (it widens the hash twice).
#ifndef EPMC_GROUP_QUANT_GROUP_QUANT_AVX512_H_
#define EPMC_GROUP_QUANT_GROUP_QUANT_AVX512_H_

#if defined(__x86_64__)

// GCC 12 takes the deliberately undefined registers of its own header for mistakes.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop

#include <cstdint>

#include "xla_ffi/common/isa.h"
#include "xla_ffi/group_quant/group_quant.h"

namespace epmc::group_quant::avx512 {

// A group is read twice, the second time from the first cache: no load of the next one is
// on its way then unless it is asked for. A tenth faster than without (Zen 4, f32).
constexpr int kPrefetchElements = 512;

// 16 elements as floats with subnormals flushed; bfloat16 is the upper half of a float.
EPMC_AVX512 inline __m512 Load(const F32* x) {
  const __m512i bits = _mm512_loadu_si512(x);
  const __mmask16 is_normal = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x7f800000));
  return _mm512_castsi512_ps(_mm512_maskz_mov_epi32(is_normal, bits));
}

EPMC_AVX512 inline __m512 Load(const Bf16* x) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
  const __m512i bits = _mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16);
  const __mmask16 is_normal = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x7f800000));
  return _mm512_castsi512_ps(_mm512_maskz_mov_epi32(is_normal, bits));
}

EPMC_AVX512 inline __m512i OrderedKeys(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i sign = _mm512_srai_epi32(bits, 31);
  return _mm512_xor_si512(bits, _mm512_and_si512(sign, _mm512_set1_epi32(0x7fffffff)));
}

template <typename T>
EPMC_AVX512 inline GroupScale FindScale(const T* x, int group_size, int bit_width) {
  __m512i lo0 = _mm512_set1_epi32(INT32_MAX), lo1 = lo0;
  __m512i hi0 = _mm512_set1_epi32(INT32_MIN), hi1 = hi0;
  for (int i = 0; i < group_size; i += 32) {
    const __m512i a = OrderedKeys(Load(x + i));
    const __m512i b = OrderedKeys(Load(x + i + 16));
    lo0 = _mm512_min_epi32(lo0, a);
    hi0 = _mm512_max_epi32(hi0, a);
    lo1 = _mm512_min_epi32(lo1, b);
    hi1 = _mm512_max_epi32(hi1, b);
  }
  return ScaleOf(_mm512_reduce_min_epi32(_mm512_min_epi32(lo0, lo1)),
                 _mm512_reduce_max_epi32(_mm512_max_epi32(hi0, hi1)), bit_width);
}

// `Mix` of dither.h.
EPMC_AVX512 inline __m512i MixAll(__m512i x) {
  x = _mm512_xor_si512(x, _mm512_srli_epi32(x, 16));
  x = _mm512_mullo_epi32(x, _mm512_set1_epi32(0x7feb352d));
  x = _mm512_xor_si512(x, _mm512_srli_epi32(x, 15));
  x = _mm512_mullo_epi32(x, _mm512_set1_epi32(static_cast<int32_t>(0x846ca68bu)));
  return _mm512_xor_si512(x, _mm512_srli_epi32(x, 16));
}

struct EncodeConstants {
  __m512 lo;
  __m512 inv16;
  __m512i levels;
};

EPMC_AVX512 inline __m512i Encode16(__m512 x, const EncodeConstants& c, __m512i dither16) {
  const __m512 scaled = _mm512_mul_ps(_mm512_sub_ps(x, c.lo), c.inv16);
  const __m512i sum = _mm512_add_epi32(_mm512_cvttps_epi32(scaled), dither16);
  return _mm512_min_epi32(_mm512_srai_epi32(sum, 16), c.levels);
}

// The codes of one block of 32 elements, the first 16 in `a`, packed as in group_quant.h.
template <int kBitWidth>
EPMC_AVX512 inline void StoreBlock(__m512i a, __m512i b, uint8_t* out) {
  if (kBitWidth == 8) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtepi32_epi8(a));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 16), _mm512_cvtepi32_epi8(b));
    return;
  }
  const __m512i pair = _mm512_or_si512(a, _mm512_slli_epi32(b, 4));
  if (kBitWidth == 4) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtepi32_epi8(pair));
    return;
  }
  const __m256i low = _mm512_castsi512_si256(pair);
  const __m256i high = _mm256_slli_epi32(_mm512_extracti64x4_epi64(pair, 1), 2);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(out),
                   _mm256_cvtepi32_epi8(_mm256_or_si256(low, high)));
}

template <int kBitWidth, bool kStochastic, typename T>
EPMC_AVX512 void EncodeGroup(const T* x, int group_size, GroupScale scale, uint32_t key,
                             uint8_t* out) {
  const EncodeConstants c = {_mm512_set1_ps(scale.lo),
                             _mm512_set1_ps(InverseStep16(scale.step)),
                             _mm512_set1_epi32((1 << kBitWidth) - 1)};
  const __m512i golden = _mm512_set1_epi32(static_cast<int32_t>(0x9e3779b9u));
  const __m512i lanes =
      _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  __m512i counter = _mm512_add_epi32(_mm512_set1_epi32(static_cast<int32_t>(key)),
                                     _mm512_mullo_epi32(lanes, golden));
  const __m512i stride = _mm512_slli_epi32(golden, 4);  // 16 pairs
  __m512i dither_a = _mm512_set1_epi32(kHalf16);
  __m512i dither_b = dither_a;
  for (int i = 0; i < group_size; i += 32) {
    if (kStochastic) {
      const __m512i hash = MixAll(counter);
      counter = _mm512_add_epi32(counter, stride);
      dither_a = _mm512_and_si512(hash, _mm512_set1_epi32(0xffff));
      dither_b = _mm512_srli_epi32(hash, 16);
    }
    _mm_prefetch(reinterpret_cast<const char*>(x + i + kPrefetchElements), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(x + i + kPrefetchElements + 16), _MM_HINT_T0);
    const __m512i a = Encode16(Load(x + i), c, dither_a);
    const __m512i b = Encode16(Load(x + i + 16), c, dither_b);
    StoreBlock<kBitWidth>(a, b, out + i * kBitWidth / 8);
  }
}

// The codes of one block of 32 elements, the first 16 in `a`.
template <int kBitWidth>
EPMC_AVX512 inline void LoadBlock(const uint8_t* in, __m512i* a, __m512i* b) {
  if (kBitWidth == 2) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(in));
    const __m256i low = _mm256_cvtepu8_epi32(bytes);
    const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(low),
                                            _mm256_srli_epi32(low, 2), 1);
    *a = _mm512_and_si512(both, _mm512_set1_epi32(3));
    *b = _mm512_and_si512(_mm512_srli_epi32(both, 4), _mm512_set1_epi32(3));
    return;
  }
  const __m128i* from = reinterpret_cast<const __m128i*>(in);
  const __m512i first = _mm512_cvtepu8_epi32(_mm_loadu_si128(from));
  if (kBitWidth == 4) {
    *a = _mm512_and_si512(first, _mm512_set1_epi32(15));
    *b = _mm512_srli_epi32(first, 4);
    return;
  }
  *a = first;
  *b = _mm512_cvtepu8_epi32(_mm_loadu_si128(from + 1));
}

template <bool kBypass>
EPMC_AVX512 inline void Store(__m512 x, F32* out) {
  if (kBypass) {
    _mm512_stream_ps(reinterpret_cast<float*>(out), x);
  } else {
    _mm512_storeu_ps(reinterpret_cast<float*>(out), x);
  }
}

// Rounds as FromFloat does.
template <bool kBypass>
EPMC_AVX512 inline void Store(__m512 x, Bf16* out) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i upper = _mm512_srli_epi32(bits, 16);
  const __m512i odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
  const __m512i half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
  const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, half), 16);
  const __mmask16 is_nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  const __m512i result =
      _mm512_mask_or_epi32(rounded, is_nan, upper, _mm512_set1_epi32(0x40));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_cvtepi32_epi16(result));
}

template <int kBitWidth, bool kBypass, typename T>
EPMC_AVX512 void DecodeGroup(const uint8_t* codes, int group_size, GroupScale scale, T* out) {
  const __m512 lo = _mm512_set1_ps(scale.lo);
  const __m512 step = _mm512_set1_ps(scale.step);
  for (int i = 0; i < group_size; i += kBlock) {
    __m512i a, b;
    LoadBlock<kBitWidth>(codes + i * kBitWidth / 8, &a, &b);
    const __m512 low = _mm512_mul_ps(_mm512_cvtepi32_ps(a), step);
    const __m512 high = _mm512_mul_ps(_mm512_cvtepi32_ps(b), step);
    Store<kBypass>(_mm512_add_ps(lo, low), out + i);
    Store<kBypass>(_mm512_add_ps(lo, high), out + i + 16);
  }
}

}  // namespace epmc::group_quant::avx512

#endif  // defined(__x86_64__)
#endif  // EPMC_GROUP_QUANT_GROUP_QUANT_AVX512_H_
