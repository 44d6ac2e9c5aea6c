// Whole groups of GroupQuant with AVX2, 8 elements at a time: group_quant_avx512.h has the
// reasons, this is the same arithmetic on narrower registers.
#ifndef EPMC_GROUP_QUANT_GROUP_QUANT_AVX2_H_
#define EPMC_GROUP_QUANT_GROUP_QUANT_AVX2_H_

#if defined(__x86_64__)

#include <cstdint>
#include <cstring>

#include "xla_ffi/common/avx2.h"
#include "xla_ffi/common/cache_lines.h"
#include "xla_ffi/common/isa.h"
#include "xla_ffi/common/x86.h"
#include "xla_ffi/group_quant/group_quant.h"
#include "xla_ffi/group_quant/group_quant_simd.h"

namespace epmc::group_quant::avx2 {

using epmc::avx2::BfloatBits;
using epmc::avx2::BytesOf;
using epmc::avx2::LoadFloats;

template <typename Combine>
EPMC_AVX2 inline float Reduce(__m256 x, const Combine& combine) {
  __m128 four = combine(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  four = combine(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(combine(four, _mm_shuffle_ps(four, four, 1)));
}

struct Min {
  EPMC_AVX2 __m128 operator()(__m128 a, __m128 b) const { return _mm_min_ps(a, b); }
};
struct Max {
  EPMC_AVX2 __m128 operator()(__m128 a, __m128 b) const { return _mm_max_ps(a, b); }
};

template <typename T>
EPMC_AVX2 KeyRange FindRange(const T* x, int group_size) {
  __m256 lo0 = LoadFloats(x), lo1 = lo0, hi0 = lo0, hi1 = lo0;
  __m256 bad = _mm256_setzero_ps();
  for (int i = 0; i < group_size; i += 16) {
    if (i % 32 == 0) PrefetchBlock(x + i);
    const __m256 a = LoadFloats(x + i);
    const __m256 b = LoadFloats(x + i + 8);
    lo0 = _mm256_min_ps(lo0, a);
    lo1 = _mm256_min_ps(lo1, b);
    hi0 = _mm256_max_ps(hi0, a);
    hi1 = _mm256_max_ps(hi1, b);
    // NaN if a or b is NaN or infinite, 0 otherwise; each element counts once.
    bad = _mm256_add_ps(bad, _mm256_mul_ps(a, _mm256_setzero_ps()));
    bad = _mm256_add_ps(bad, _mm256_mul_ps(b, _mm256_setzero_ps()));
  }
  if (_mm256_movemask_ps(_mm256_cmp_ps(bad, bad, _CMP_UNORD_Q)) != 0) {
    return {INT32_MIN, INT32_MAX};
  }
  const float lo = Reduce(_mm256_min_ps(lo0, lo1), Min{});
  const float hi = Reduce(_mm256_max_ps(hi0, hi1), Max{});
  return {OrderedKey(FlushedBits(FloatBits(lo))), OrderedKey(FlushedBits(FloatBits(hi)))};
}

EPMC_AVX2 inline __m256i MixAll(__m256i x) {
  x = _mm256_xor_si256(x, _mm256_srli_epi32(x, 16));
  x = _mm256_mullo_epi32(x, _mm256_set1_epi32(0x7feb352d));
  x = _mm256_xor_si256(x, _mm256_srli_epi32(x, 15));
  x = _mm256_mullo_epi32(x, _mm256_set1_epi32(static_cast<int32_t>(0x846ca68bu)));
  return _mm256_xor_si256(x, _mm256_srli_epi32(x, 16));
}

struct EncodeConstants {
  __m256 lo;
  __m256 inv16;
  __m256i levels;  // 16 bits each
};

template <typename T>
EPMC_AVX2 inline __m256i Scaled16(const T* x, const EncodeConstants& c, __m256i dither16) {
  const __m256 scaled = _mm256_mul_ps(_mm256_sub_ps(LoadFloats(x), c.lo), c.inv16);
  const __m256i sum = _mm256_add_epi32(_mm256_cvttps_epi32(scaled), dither16);
  return _mm256_srli_epi32(sum, 16);
}

// The codes of 16 elements, 16 bits each, in the order a0 b0 a1 b1 of their quarters.
EPMC_AVX2 inline __m256i Codes(__m256i a, __m256i b, const EncodeConstants& c) {
  return _mm256_min_epu16(_mm256_packus_epi32(a, b), c.levels);
}

// The codes of a block, a byte each; `low` has the first 16.
EPMC_AVX2 inline __m256i InOrder(__m256i low, __m256i high) {
  const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  return _mm256_permutevar8x32_epi32(_mm256_packus_epi16(low, high), in_order);
}

template <int kBitWidth>
EPMC_AVX2 inline void StoreFields(__m256i low, __m256i high, uint8_t* out) {
  if (kBitWidth == 8) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), InOrder(low, high));
    return;
  }
  const __m256i pairs = _mm256_or_si256(low, _mm256_slli_epi16(high, 4));
  const __m128i bytes = _mm256_castsi256_si128(InOrder(pairs, pairs));
  if (kBitWidth == 4) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), bytes);
    return;
  }
  const __m128i upper = _mm_slli_epi16(_mm_srli_si128(bytes, 8), 2);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(out), _mm_or_si128(bytes, upper));
}

// Packs block `block` of a group as group_quant.h says; `low` has its first 16 codes.
template <int kBitWidth>
EPMC_AVX2 inline void StoreBlock(__m256i low, __m256i high, CodePlace<uint8_t> to,
                                 int block) {
  constexpr int kFieldBits = FieldBits(kBitWidth);
  if (PlaneBits(kBitWidth)) {
    // In 16-bit lanes: bits cross from one byte to the next, but not into its highest bit.
    const __m256i shifted = _mm256_slli_epi16(InOrder(low, high), 8 - kBitWidth);
    const int32_t word = _mm256_movemask_epi8(shifted);
    _mm_storeu_si32(to.plane + 4 * block, _mm_cvtsi32_si128(word));
    const __m256i mask = _mm256_set1_epi16((1 << kFieldBits) - 1);
    low = _mm256_and_si256(low, mask);
    high = _mm256_and_si256(high, mask);
  }
  if (kFieldBits) StoreFields<kFieldBits>(low, high, to.fields + block * 4 * kFieldBits);
}

// The codes of a block, the first 16 in `low`.
template <int kBitWidth>
EPMC_AVX2 inline void LoadFields(const uint8_t* in, __m128i* low, __m128i* high) {
  const __m128i* from = reinterpret_cast<const __m128i*>(in);
  if (kBitWidth == 8) {
    *low = _mm_loadu_si128(from);
    *high = _mm_loadu_si128(from + 1);
  } else if (kBitWidth == 4) {
    const __m128i mask = _mm_set1_epi8(15);
    const __m128i bytes = _mm_loadu_si128(from);
    *low = _mm_and_si128(bytes, mask);
    *high = _mm_and_si128(_mm_srli_epi16(bytes, 4), mask);
  } else {
    const __m128i mask = _mm_set1_epi8(3);
    const __m128i bytes = _mm_loadl_epi64(from);
    const __m128i both = _mm_unpacklo_epi64(bytes, _mm_srli_epi16(bytes, 2));
    *low = _mm_and_si128(both, mask);
    *high = _mm_and_si128(_mm_srli_epi16(both, 4), mask);
  }
}

template <int kBitWidth>
EPMC_AVX2 inline void LoadBlock(CodePlace<const uint8_t> from, int block, __m128i* low,
                                __m128i* high) {
  constexpr int kFieldBits = FieldBits(kBitWidth);
  *low = *high = _mm_setzero_si128();
  if (kFieldBits) LoadFields<kFieldBits>(from.fields + block * 4 * kFieldBits, low, high);
  if (PlaneBits(kBitWidth)) {
    uint32_t word;
    memcpy(&word, from.plane + 4 * block, 4);
    const __m256i top = _mm256_and_si256(BytesOf(word), _mm256_set1_epi8(1 << kFieldBits));
    *low = _mm_or_si128(*low, _mm256_castsi256_si128(top));
    *high = _mm_or_si128(*high, _mm256_extracti128_si256(top, 1));
  }
}

template <bool kBypass>
EPMC_AVX2 inline void Store(__m256 a, __m256 b, F32* out) {
  float* to = reinterpret_cast<float*>(out);
  if (kBypass) {
    _mm256_stream_ps(to, a);
    _mm256_stream_ps(to + 8, b);
  } else {
    _mm256_storeu_ps(to, a);
    _mm256_storeu_ps(to + 8, b);
  }
}

template <bool kBypass>
EPMC_AVX2 inline void Store(__m256 a, __m256 b, Bf16* out) {
  const __m256i both = _mm256_packus_epi32(BfloatBits(a), BfloatBits(b));
  const __m256i in_order = _mm256_permute4x64_epi64(both, 0xd8);
  __m256i* to = reinterpret_cast<__m256i*>(out);
  kBypass ? _mm256_stream_si256(to, in_order) : _mm256_storeu_si256(to, in_order);
}

template <bool kBypass>
EPMC_AVX2 inline void Store(__m256 a, __m256 b, F16* out) {
  const __m256i both = _mm256_set_m128i(_mm256_cvtps_ph(b, _MM_FROUND_TO_NEAREST_INT),
                                        _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
  __m256i* to = reinterpret_cast<__m256i*>(out);
  kBypass ? _mm256_stream_si256(to, both) : _mm256_storeu_si256(to, both);
}

EPMC_AVX2 inline __m256 Decode8(__m128i codes, __m256 lo, __m256 step) {
  const __m256 code = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(codes));
  return _mm256_add_ps(lo, _mm256_mul_ps(code, step));
}

struct Simd {
  static constexpr int kMultiple = kBlock;  // of group sizes

  template <typename T>
  EPMC_AVX2 static GroupScale FindScale(const T* x, int group_size, int bit_width) {
    const KeyRange range = FindRange(x, group_size);
    return ScaleOf(range.lo, range.hi, bit_width);
  }

  template <int kBitWidth, bool kStochastic, typename T>
  EPMC_AVX2 static void EncodeGroup(const T* x, int group_size, GroupScale scale,
                                    uint32_t key, CodePlace<uint8_t> to) {
    const EncodeConstants c = {_mm256_set1_ps(scale.lo),
                               _mm256_set1_ps(InverseStep16(scale.step)),
                               _mm256_set1_epi16((1 << kBitWidth) - 1)};
    const __m256i golden = _mm256_set1_epi32(static_cast<int32_t>(0x9e3779b9u));
    const __m256i stride = _mm256_slli_epi32(golden, 3);  // 8 pairs
    __m256i counter = _mm256_add_epi32(
        _mm256_set1_epi32(static_cast<int32_t>(key)),
        _mm256_mullo_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), golden));
    const __m256i low_half = _mm256_set1_epi32(0xffff);
    __m256i dither[4];
    for (__m256i& d : dither) d = _mm256_set1_epi32(kHalf16);
    for (int i = 0; i < group_size; i += kBlock) {
      if (kStochastic) {
        const __m256i hash0 = MixAll(counter);
        const __m256i hash1 = MixAll(_mm256_add_epi32(counter, stride));
        counter = _mm256_add_epi32(counter, _mm256_slli_epi32(stride, 1));
        dither[0] = _mm256_and_si256(hash0, low_half);
        dither[1] = _mm256_and_si256(hash1, low_half);
        dither[2] = _mm256_srli_epi32(hash0, 16);
        dither[3] = _mm256_srli_epi32(hash1, 16);
      }
      const __m256i low =
          Codes(Scaled16(x + i, c, dither[0]), Scaled16(x + i + 8, c, dither[1]), c);
      const __m256i high =
          Codes(Scaled16(x + i + 16, c, dither[2]), Scaled16(x + i + 24, c, dither[3]), c);
      StoreBlock<kBitWidth>(low, high, to, i / kBlock);
    }
  }

  template <int kBitWidth, bool kBypass, typename T>
  EPMC_AVX2 static void DecodeGroup(CodePlace<const uint8_t> codes, int group_size,
                                    GroupScale scale, T* out) {
    const __m256 lo = _mm256_set1_ps(scale.lo);
    const __m256 step = _mm256_set1_ps(scale.step);
    for (int i = 0; i < group_size; i += kBlock) {
      __m128i low, high;
      LoadBlock<kBitWidth>(codes, i / kBlock, &low, &high);
      Store<kBypass>(Decode8(low, lo, step), Decode8(_mm_srli_si128(low, 8), lo, step),
                     out + i);
      Store<kBypass>(Decode8(high, lo, step), Decode8(_mm_srli_si128(high, 8), lo, step),
                     out + i + 16);
    }
  }
};

}  // namespace epmc::group_quant::avx2

#endif  // defined(__x86_64__)
#endif  // EPMC_GROUP_QUANT_GROUP_QUANT_AVX2_H_
