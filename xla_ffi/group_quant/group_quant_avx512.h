// Whole groups of GroupQuant with AVX-512; the same bytes as group_quant.h, 16 at a time.
//
// For groups that are a multiple of 32 elements and not the tail of a row: the compiler's
// own vectors reach a third of this for stochastic rounding (it widens the hash twice).
#ifndef EPMC_GROUP_QUANT_GROUP_QUANT_AVX512_H_
#define EPMC_GROUP_QUANT_GROUP_QUANT_AVX512_H_

#if defined(__x86_64__)

#include <cstdint>
#include <cstring>

#include "xla_ffi/common/avx512.h"
#include "xla_ffi/common/cache_lines.h"
#include "xla_ffi/common/isa.h"
#include "xla_ffi/common/x86.h"
#include "xla_ffi/group_quant/group_quant.h"
#include "xla_ffi/group_quant/group_quant_simd.h"

namespace epmc::group_quant::avx512 {

using epmc::avx512::BfloatBits;
using epmc::avx512::Load;

// Floats as they are, not as integer keys: 3 operations per 16 elements in place of 8. What
// minps makes of a NaN does not matter: x * 0 tells of NaN and infinity.
EPMC_AVX512 inline KeyRange FindRange(const F32* x, int group_size) {
  __m512 lo0 = Load(x), lo1 = lo0, hi0 = lo0, hi1 = lo0;
  __m512 bad0 = _mm512_setzero_ps(), bad1 = bad0;
  for (int i = 0; i < group_size; i += 32) {
    PrefetchBlock(x + i);
    const __m512 a = Load(x + i);
    const __m512 b = Load(x + i + 16);
    lo0 = _mm512_min_ps(lo0, a);
    lo1 = _mm512_min_ps(lo1, b);
    hi0 = _mm512_max_ps(hi0, a);
    hi1 = _mm512_max_ps(hi1, b);
    bad0 = _mm512_fmadd_ps(a, _mm512_setzero_ps(), bad0);
    bad1 = _mm512_fmadd_ps(b, _mm512_setzero_ps(), bad1);
  }
  const __m512 bad = _mm512_add_ps(bad0, bad1);
  if (_mm512_cmp_ps_mask(bad, bad, _CMP_UNORD_Q) != 0) return {INT32_MIN, INT32_MAX};
  const float lo = _mm512_reduce_min_ps(_mm512_min_ps(lo0, lo1));
  const float hi = _mm512_reduce_max_ps(_mm512_max_ps(hi0, hi1));
  return {OrderedKey(FlushedBits(FloatBits(lo))), OrderedKey(FlushedBits(FloatBits(hi)))};
}

// Halves are ordered as their 16-bit keys, 32 at a time.
EPMC_AVX512 inline __m512i HalfKeys(const void* x) {
  const __m512i bits = _mm512_loadu_si512(x);
  const __m512i sign = _mm512_srai_epi16(bits, 15);
  constexpr int kXorOfAnd = 0x78;  // a ^ (b & c)
  return _mm512_ternarylogic_epi32(bits, sign, _mm512_set1_epi16(0x7fff), kXorOfAnd);
}

EPMC_AVX512 inline int16_t MinOfHalves(__m512i keys) {
  const __m512i sign_extended = _mm512_cvtepi16_epi32(_mm256_min_epi16(
      _mm512_castsi512_si256(keys), _mm512_extracti64x4_epi64(keys, 1)));
  return static_cast<int16_t>(_mm512_reduce_min_epi32(sign_extended));
}

template <typename Half>
EPMC_AVX512 inline int32_t KeyOfHalf(int16_t half_key) {
  const Half half{static_cast<uint16_t>(half_key ^ ((half_key >> 15) & 0x7fff))};
  return OrderedKey(FlushedBits(ToFloatBits(half)));
}

template <typename Half>
EPMC_AVX512 inline KeyRange FindRange(const Half* x, int group_size) {
  __m512i lo = HalfKeys(x), hi = lo;
  for (int i = 32; i < group_size; i += 32) {
    PrefetchBlock(x + i);
    const __m512i keys = HalfKeys(x + i);
    lo = _mm512_min_epi16(lo, keys);
    hi = _mm512_max_epi16(hi, keys);
  }
  // ~x turns the order round, so one reduction serves both.
  const __m512i ones = _mm512_set1_epi32(-1);
  const int16_t largest = static_cast<int16_t>(~MinOfHalves(_mm512_xor_si512(hi, ones)));
  return {KeyOfHalf<Half>(MinOfHalves(lo)), KeyOfHalf<Half>(largest)};
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
  __m512i levels;  // 16 bits each
};

// Code and fraction in 2^-16 of a step: the code is the upper half of each integer.
//
// Elements are not flushed. A subnormal x counts as 0 all the same: with |lo| >= 2^-101,
// x - lo rounds to -lo; with a smaller one, |x - lo| < 2^-100 comes to less than 2^-16 for
// every step that kSmallestFastStep (group_quant_simd.h) lets pass.
template <typename T>
EPMC_AVX512 inline __m512i Scaled16(const T* x, const EncodeConstants& c, __m512i dither16) {
  const __m512 scaled = _mm512_mul_ps(_mm512_sub_ps(Load(x), c.lo), c.inv16);
  return _mm512_add_epi32(_mm512_cvttps_epi32(scaled), dither16);
}

// The codes of 16 elements in `a` and of 16 in `b`, 16 bits each.
EPMC_AVX512 inline __m512i Codes(__m512i a, __m512i b, const EncodeConstants& c) {
  const __m512i upper_halves = _mm512_set_epi16(
      63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31, 29, 27, 25, 23, 21,
      19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
  return _mm512_min_epu16(_mm512_permutex2var_epi16(a, upper_halves, b), c.levels);
}

template <int kBitWidth>
EPMC_AVX512 inline void StoreFields(__m512i low, __m512i high, uint8_t* out) {
  if (kBitWidth == 8) {
    const __m256i a = _mm512_cvtepi16_epi8(low), b = _mm512_cvtepi16_epi8(high);
    __m128i* to = reinterpret_cast<__m128i*>(out);
    _mm_storeu_si128(to, _mm256_castsi256_si128(a));
    _mm_storeu_si128(to + 1, _mm256_castsi256_si128(b));
    _mm_storeu_si128(to + 2, _mm256_extracti128_si256(a, 1));
    _mm_storeu_si128(to + 3, _mm256_extracti128_si256(b, 1));
    return;
  }
  const __m256i nibbles =
      _mm512_cvtepi16_epi8(_mm512_or_si512(low, _mm512_slli_epi16(high, 4)));
  if (kBitWidth == 4) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), nibbles);
    return;
  }
  const __m256i upper = _mm256_slli_epi16(_mm256_srli_si256(nibbles, 8), 2);
  const __m256i moved = _mm256_or_si256(nibbles, upper);
  const __m256i halves = _mm256_permute4x64_epi64(moved, 0x08);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm256_castsi256_si128(halves));
}

// Packs block `block` of a group and the next as group_quant.h says; `low` has the first 16
// codes of each, `high` the others.
template <int kBitWidth>
EPMC_AVX512 inline void StoreTwoBlocks(__m512i low, __m512i high, CodePlace<uint8_t> to,
                                       int block) {
  constexpr int kFieldBits = FieldBits(kBitWidth);
  if (PlaneBits(kBitWidth)) {
    const __m512i top = _mm512_set1_epi16(1 << kFieldBits);
    const uint32_t low_bits = _mm512_test_epi16_mask(low, top);
    const uint32_t high_bits = _mm512_test_epi16_mask(high, top);
    const uint32_t words[] = {(low_bits & 0xffffu) | high_bits << 16,
                              low_bits >> 16 | (high_bits & 0xffff0000u)};
    memcpy(to.plane + 4 * block, words, sizeof(words));
    low = _mm512_andnot_si512(top, low);
    high = _mm512_andnot_si512(top, high);
  }
  if (kFieldBits) StoreFields<kFieldBits>(low, high, to.fields + block * 4 * kFieldBits);
}

// The codes of one block of 32 elements, the first 16 in `a`.
template <int kBitWidth>
EPMC_AVX512 inline void LoadFields(const uint8_t* in, __m512i* a, __m512i* b) {
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

template <int kBitWidth>
EPMC_AVX512 inline void LoadBlock(CodePlace<const uint8_t> from, int block, __m512i* a,
                                  __m512i* b) {
  constexpr int kFieldBits = FieldBits(kBitWidth);
  *a = *b = _mm512_setzero_si512();
  if (kFieldBits) LoadFields<kFieldBits>(from.fields + block * 4 * kFieldBits, a, b);
  if (PlaneBits(kBitWidth)) {
    uint32_t word;
    memcpy(&word, from.plane + 4 * block, 4);
    const __m512i top = _mm512_set1_epi32(1 << kFieldBits);
    *a = _mm512_mask_or_epi32(*a, static_cast<__mmask16>(word), *a, top);
    *b = _mm512_mask_or_epi32(*b, static_cast<__mmask16>(word >> 16), *b, top);
  }
}

template <bool kBypass>
EPMC_AVX512 inline void Store(__m512 x, F32* out) {
  if (kBypass) {
    _mm512_stream_ps(reinterpret_cast<float*>(out), x);
  } else {
    _mm512_storeu_ps(reinterpret_cast<float*>(out), x);
  }
}

template <bool kBypass>
EPMC_AVX512 inline void Store(__m512 x, Bf16* out) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_cvtepi32_epi16(BfloatBits(x)));
}

// What FromFloat does of subnormal halves, infinities and NaN is what the instruction does.
template <bool kBypass>
EPMC_AVX512 inline void Store(__m512 x, F16* out) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out),
                      _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

struct Simd {
  static constexpr int kMultiple = 2 * kBlock;  // of group sizes

  template <typename T>
  EPMC_AVX512 static GroupScale FindScale(const T* x, int group_size, int bit_width) {
    const KeyRange range = FindRange(x, group_size);
    return ScaleOf(range.lo, range.hi, bit_width);
  }

  template <int kBitWidth, bool kStochastic, typename T>
  EPMC_AVX512 static void EncodeGroup(const T* x, int group_size, GroupScale scale,
                                      uint32_t key, CodePlace<uint8_t> to) {
    const EncodeConstants c = {_mm512_set1_ps(scale.lo),
                               _mm512_set1_ps(InverseStep16(scale.step)),
                               _mm512_set1_epi16((1 << kBitWidth) - 1)};
    const __m512i golden = _mm512_set1_epi32(static_cast<int32_t>(0x9e3779b9u));
    const __m512i lanes =
        _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512i counter = _mm512_add_epi32(_mm512_set1_epi32(static_cast<int32_t>(key)),
                                       _mm512_mullo_epi32(lanes, golden));
    const __m512i stride = _mm512_slli_epi32(golden, 4);  // 16 pairs
    const __m512i low_half = _mm512_set1_epi32(0xffff);
    __m512i dither[4];
    for (__m512i& d : dither) d = _mm512_set1_epi32(kHalf16);
    for (int i = 0; i < group_size; i += 64) {
      if (kStochastic) {
        const __m512i hash0 = MixAll(counter);
        const __m512i hash1 = MixAll(_mm512_add_epi32(counter, stride));
        counter = _mm512_add_epi32(counter, _mm512_slli_epi32(stride, 1));
        dither[0] = _mm512_and_si512(hash0, low_half);
        dither[1] = _mm512_srli_epi32(hash0, 16);
        dither[2] = _mm512_and_si512(hash1, low_half);
        dither[3] = _mm512_srli_epi32(hash1, 16);
      }
      const __m512i low = Codes(Scaled16(x + i, c, dither[0]),
                                Scaled16(x + i + 32, c, dither[2]), c);
      const __m512i high = Codes(Scaled16(x + i + 16, c, dither[1]),
                                 Scaled16(x + i + 48, c, dither[3]), c);
      StoreTwoBlocks<kBitWidth>(low, high, to, i / kBlock);
    }
  }

  template <int kBitWidth, bool kBypass, typename T>
  EPMC_AVX512 static void DecodeGroup(CodePlace<const uint8_t> codes, int group_size,
                                      GroupScale scale, T* out) {
    const __m512 lo = _mm512_set1_ps(scale.lo);
    const __m512 step = _mm512_set1_ps(scale.step);
    for (int i = 0; i < group_size; i += kBlock) {
      __m512i a, b;
      LoadBlock<kBitWidth>(codes, i / kBlock, &a, &b);
      const __m512 low = _mm512_mul_ps(_mm512_cvtepi32_ps(a), step);
      const __m512 high = _mm512_mul_ps(_mm512_cvtepi32_ps(b), step);
      Store<kBypass>(_mm512_add_ps(lo, low), out + i);
      Store<kBypass>(_mm512_add_ps(lo, high), out + i + 16);
    }
  }
};

}  // namespace epmc::group_quant::avx512

#endif  // defined(__x86_64__)
#endif  // EPMC_GROUP_QUANT_GROUP_QUANT_AVX512_H_
