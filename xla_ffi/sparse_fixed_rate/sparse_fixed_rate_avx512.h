// The steps of scalar.h with AVX-512, 16 or 32 elements at a time; the same bytes.
//
// A register is compressed and stored whole, which writes up to 15 places too many: a store
// of the compressed part alone takes six times as long (Zen 4).
#ifndef EPMC_SPARSE_FIXED_RATE_SPARSE_FIXED_RATE_AVX512_H_
#define EPMC_SPARSE_FIXED_RATE_SPARSE_FIXED_RATE_AVX512_H_

#if defined(__x86_64__)

#include <cstdint>

#include "xla_ffi/common/avx512.h"
#include "xla_ffi/common/cache_lines.h"
#include "xla_ffi/common/isa.h"
#include "xla_ffi/common/x86.h"
#include "xla_ffi/group_quant/group_quant_avx512.h"
#include "xla_ffi/sparse_fixed_rate/planes.h"
#include "xla_ffi/sparse_fixed_rate/scalar.h"

namespace epmc::sparse_fixed_rate::avx512 {

constexpr int kLanes = 16;

// The bits of an element, in 32.
EPMC_AVX512 inline __m512i LoadRaw(const F32* x) { return _mm512_loadu_si512(x); }

EPMC_AVX512 inline __m512i LoadRaw(const void* x) {
  return _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(x)));
}

EPMC_AVX512 inline void StoreRaw(__m512i bits, F32* out) { _mm512_storeu_si512(out, bits); }

EPMC_AVX512 inline void StoreRaw(__m512i bits, void* out) {
  _mm256_storeu_si256(static_cast<__m256i*>(out), _mm512_cvtepi32_epi16(bits));
}

EPMC_AVX512 inline __mmask16 SubnormalsOf(__m512 x) {
  const __m512i exponent = _mm512_set1_epi32(static_cast<int32_t>(kExponentMask));
  return _mm512_testn_epi32_mask(_mm512_castps_si512(x), exponent);
}

EPMC_AVX512 inline __m512 Normalized(__m512 x, __mmask16 is_subnormal) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i sign = _mm512_set1_epi32(static_cast<int32_t>(0x80000000u));
  constexpr int kAndOr = 0xea;  // (a & b) | c
  return _mm512_castsi512_ps(_mm512_mask_ternarylogic_epi32(
      bits, is_subnormal, sign, _mm512_set1_epi32(0x00800000), kAndOr));
}

// All bits of the exponent are zero; none of `values` is zero.
EPMC_AVX512 inline bool HasSubnormals(const F32* values, int count) {
  uint32_t any = 0;
  for (int i = 0; i < count; i += kLanes) any |= SubnormalsOf(epmc::avx512::Load(values + i));
  return any != 0;
}

EPMC_AVX512 inline bool HasSubnormals(const Bf16* values, int count) {
  uint32_t any = 0;
  for (int i = 0; i < count; i += kBlock) {
    any |= _mm512_testn_epi16_mask(_mm512_loadu_si512(values + i), _mm512_set1_epi16(0x7f80));
  }
  return any != 0;
}

// As floats they are normal.
EPMC_AVX512 inline bool HasSubnormals(const F16*, int) { return false; }

// Vectors are read whole: behind the last value are more of the same.
EPMC_AVX512 inline void Repeat(F32* values, int count) {
  const __m512 first = _mm512_set1_ps(values->value);
  _mm512_storeu_ps(values + count, first);
  _mm512_storeu_ps(values + count + kLanes, first);
}

template <typename Half>
EPMC_AVX512 inline void Repeat(Half* values, int count) {
  _mm512_storeu_si512(values + count, _mm512_set1_epi16(static_cast<int16_t>(values->bits)));
}

// Smallest and largest of floats as they are, not as integer keys; x * 0 tells of NaN and
// infinity.
class FloatRange {
 public:
  EPMC_AVX512 FloatRange()
      : lo_(_mm512_set1_ps(BitsToFloat(kInfinity))),
        hi_(_mm512_set1_ps(-BitsToFloat(kInfinity))),
        bad_(_mm512_setzero_ps()) {}

  // `nonzeros` of `x`; the others are zero.
  EPMC_AVX512 void Add(__m512 x, __mmask16 nonzeros) {
    lo_ = _mm512_mask_min_ps(lo_, nonzeros, lo_, x);
    hi_ = _mm512_mask_max_ps(hi_, nonzeros, hi_, x);
    bad_ = _mm512_fmadd_ps(x, _mm512_setzero_ps(), bad_);
  }

  EPMC_AVX512 void Add(const FloatRange& other) {
    lo_ = _mm512_min_ps(lo_, other.lo_);
    hi_ = _mm512_max_ps(hi_, other.hi_);
    bad_ = _mm512_add_ps(bad_, other.bad_);
  }

  EPMC_AVX512 KeyRange Keys() const {
    if (_mm512_cmp_ps_mask(bad_, bad_, _CMP_UNORD_Q) != 0) return {INT32_MIN, INT32_MAX};
    return {group_quant::OrderedKey(FloatBits(_mm512_reduce_min_ps(lo_))),
            group_quant::OrderedKey(FloatBits(_mm512_reduce_max_ps(hi_)))};
  }

 private:
  static constexpr uint32_t kInfinity = 0x7f800000u;
  __m512 lo_, hi_, bad_;
};

// Halves are ordered as their 16-bit keys.
template <typename Half>
EPMC_AVX512 inline KeyRange KeysOf(const Half* x, int count) {
  __m512i lo = group_quant::avx512::HalfKeys(x), hi = lo;
  for (int i = kBlock; i < count; i += kBlock) {
    const __m512i keys = group_quant::avx512::HalfKeys(x + i);
    lo = _mm512_min_epi16(lo, keys);
    hi = _mm512_max_epi16(hi, keys);
  }
  const auto key_of = [](int16_t key) {
    const Half half{static_cast<uint16_t>(key ^ ((key >> 15) & 0x7fff))};
    return group_quant::OrderedKey(NormalBits(ToFloatBits(half)));
  };
  // ~x turns the order round, so one reduction serves both.
  const __m512i inverted = _mm512_xor_si512(hi, _mm512_set1_epi32(-1));
  const int16_t most = static_cast<int16_t>(~group_quant::avx512::MinOfHalves(inverted));
  return {key_of(group_quant::avx512::MinOfHalves(lo)), key_of(most)};
}

// 32 codes. With all 16 digits they have at most 8 bits, and are the upper halves.
template <bool kHasAllDigits>
EPMC_AVX512 inline __m512i CodesOf(__m512i a, __m512i b, __m128i digits, int32_t levels) {
  const __m512i halves =
      _mm512_set_epi16(62, 60, 58, 56, 54, 52, 50, 48, 46, 44, 42, 40, 38, 36, 34, 32, 30, 28,
                       26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
  if (kHasAllDigits) {
    const __m512i upper = _mm512_or_si512(halves, _mm512_set1_epi16(1));
    return _mm512_min_epi16(_mm512_permutex2var_epi16(a, upper, b),
                            _mm512_set1_epi16(static_cast<int16_t>(levels)));
  }
  const __m512i most = _mm512_set1_epi32(levels);
  a = _mm512_min_epi32(_mm512_sra_epi32(a, digits), most);
  b = _mm512_min_epi32(_mm512_sra_epi32(b, digits), most);
  return _mm512_permutex2var_epi16(a, halves, b);
}

template <bool kStochastic, bool kHasAllDigits, typename T>
EPMC_AVX512 inline void QuantizeAll(const T* x, int count, const Quantizer& quantizer,
                                    const uint16_t* dither, uint16_t* codes) {
  const __m512 lo = _mm512_set1_ps(quantizer.scale.lo);
  const __m512 inverse = _mm512_set1_ps(quantizer.inverse);
  const __m128i digits = _mm_cvtsi32_si128(quantizer.digits);
  const __m128i dropped = _mm_cvtsi32_si128(16 - quantizer.digits);
  const __m512i half = _mm512_srl_epi32(_mm512_set1_epi32(group_quant::kHalf16), dropped);
  for (int i = 0; i < count; i += kBlock) {
    __m512i sum[2];
    for (int j = 0; j < 2; ++j) {
      const int at = i + j * kLanes;
      const __m512 above = _mm512_sub_ps(epmc::avx512::Load(x + at), lo);
      const __m512i scaled = _mm512_cvttps_epi32(_mm512_mul_ps(above, inverse));
      const __m512i shift = kStochastic ? _mm512_srl_epi32(LoadRaw(dither + at), dropped) : half;
      sum[j] = _mm512_add_epi32(scaled, shift);
    }
    _mm512_storeu_si512(codes + i,
                        CodesOf<kHasAllDigits>(sum[0], sum[1], digits, quantizer.levels));
  }
}

struct Planes {
  template <int kPlanes>
  EPMC_AVX512 static void Store(const uint16_t* codes, int blocks, uint8_t* out) {
    for (int block = 0; block < blocks; ++block, codes += kBlock, out += 4 * kPlanes) {
      const __m512i code = _mm512_loadu_si512(codes);
      for (int j = 0; j < kPlanes; ++j) {
        const __m512i bit = _mm512_set1_epi16(static_cast<int16_t>(1u << j));
        StoreWord(out + 4 * j, _mm512_test_epi16_mask(code, bit));
      }
    }
  }

  template <int kPlanes>
  EPMC_AVX512 static void Load(const uint8_t* in, int blocks, uint16_t* codes) {
    for (int block = 0; block < blocks; ++block, codes += kBlock, in += 4 * kPlanes) {
      __m512i code = _mm512_setzero_si512();
      for (int j = 0; j < kPlanes; ++j) {
        const __m512i bit = _mm512_set1_epi16(static_cast<int16_t>(1u << j));
        code = _mm512_mask_add_epi16(code, LoadWord(in + 4 * j), code, bit);
      }
      _mm512_storeu_si512(codes, code);
    }
  }
};

struct Steps {
  EPMC_AVX512 static int CountBits(const uint32_t* words, int blocks) {
    int count = 0;
    for (int block = 0; block < blocks; ++block) count += __builtin_popcount(words[block]);
    return count;
  }

  EPMC_AVX512 static int Scan(const F32* x, int blocks, uint32_t* words, F32* values,
                              Range* range) {
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    FloatRange low_range, high_range;
    F32* next = values;
    for (int block = 0; block < blocks; ++block, x += kBlock) {
      PrefetchEvenLines(x, block);
      const __m512i a = LoadRaw(x), b = LoadRaw(x + kLanes);
      const __mmask16 low = _mm512_test_epi32_mask(a, magnitude);
      const __mmask16 high = _mm512_test_epi32_mask(b, magnitude);
      low_range.Add(_mm512_castsi512_ps(a), low);
      high_range.Add(_mm512_castsi512_ps(b), high);
      StoreRaw(_mm512_maskz_compress_epi32(low, a), next);
      next += __builtin_popcount(low);
      StoreRaw(_mm512_maskz_compress_epi32(high, b), next);
      next += __builtin_popcount(high);
      words[block] = low | uint32_t{high} << kLanes;
    }
    const int count = static_cast<int>(next - values);
    Repeat(values, count);
    low_range.Add(high_range);
    *range = RangeWithin(low_range.Keys(), values, count);
    return count;
  }

  template <typename Half>
  EPMC_AVX512 static int Compact(const Half* x, int blocks, uint32_t* words, Half* values) {
    Half* next = values;
    for (int block = 0; block < blocks; ++block, x += kBlock) {
      PrefetchEvenLines(x, block);
      const uint32_t word =
          _mm512_test_epi16_mask(_mm512_loadu_si512(x), _mm512_set1_epi16(0x7fff));
      const __mmask16 low = static_cast<__mmask16>(word);
      const __mmask16 high = static_cast<__mmask16>(word >> kLanes);
      StoreRaw(_mm512_maskz_compress_epi32(low, LoadRaw(x)), next);
      next += __builtin_popcount(low);
      StoreRaw(_mm512_maskz_compress_epi32(high, LoadRaw(x + kLanes)), next);
      next += __builtin_popcount(high);
      words[block] = word;
    }
    return static_cast<int>(next - values);
  }

  template <typename Half>
  static int Scan(const Half* x, int blocks, uint32_t* words, Half* values, Range* range) {
    return CompactThenRange<Steps>(x, blocks, words, values, range);
  }

  template <typename T>
  EPMC_AVX512 static Range RangeOf(T* values, int count) {
    Repeat(values, count);
    return RangeWithin(KeysOf(values, count), values, count);
  }

  template <typename T>
  EPMC_AVX512 static Range RangeWithin(const KeyRange& keys, const T* values, int count) {
    const bool has_subnormals = MayHaveSubnormals(keys) && HasSubnormals(values, count);
    return has_subnormals ? Scalar::RangeOf(values, count) : Range{keys, false};
  }

  template <typename T>
  EPMC_AVX512 static int Expand(const T* values, const uint32_t* words, int blocks, T* out) {
    const T* next = values;
    for (int i = 0; i < blocks * kBlock; i += kLanes) {
      const __mmask16 set = static_cast<__mmask16>(words[i / kBlock] >> i % kBlock);
      StoreRaw(_mm512_maskz_expand_epi32(set, LoadRaw(next)), out + i);
      next += __builtin_popcount(set);
    }
    return static_cast<int>(next - values);
  }

  template <typename T>
  EPMC_AVX512 static void Widen(const T* x, int count, F32* widened) {
    for (int i = 0; i < count; i += kLanes) {
      const __m512 value = epmc::avx512::Load(x + i);
      _mm512_storeu_ps(widened + i, Normalized(value, SubnormalsOf(value)));
    }
  }

  EPMC_AVX512 static void StoreDither(uint32_t key, int count, uint16_t* dither) {
    const __m512i golden = _mm512_set1_epi32(static_cast<int32_t>(0x9e3779b9u));
    const __m512i lanes =
        _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512i counter = _mm512_add_epi32(_mm512_set1_epi32(static_cast<int32_t>(key)),
                                       _mm512_mullo_epi32(lanes, golden));
    for (int i = 0; i < count; i += kBlock) {
      const __m512i hash = group_quant::avx512::MixAll(counter);
      counter = _mm512_add_epi32(counter, _mm512_slli_epi32(golden, 4));
      StoreRaw(hash, static_cast<void*>(dither + i));
      StoreRaw(_mm512_srli_epi32(hash, 16), static_cast<void*>(dither + i + kLanes));
    }
  }

  template <bool kStochastic, typename T>
  EPMC_AVX512 static void Quantize(const T* x, int count, const Quantizer& quantizer,
                                   const uint16_t* dither, uint16_t* codes) {
    if (quantizer.digits == 16) {
      QuantizeAll<kStochastic, true>(x, count, quantizer, dither, codes);
    } else {
      QuantizeAll<kStochastic, false>(x, count, quantizer, dither, codes);
    }
  }

  EPMC_AVX512 static void SplitDense(uint16_t* codes, uint32_t* words, int blocks,
                                     int code_bits) {
    const __m512i top = _mm512_set1_epi16(static_cast<int16_t>(1u << (code_bits - 1)));
    for (int block = 0; block < blocks; ++block, codes += kBlock) {
      const __m512i code = _mm512_maskz_add_epi16(words[block], _mm512_loadu_si512(codes),
                                                  _mm512_set1_epi16(1));
      words[block] = _mm512_test_epi16_mask(code, top);
      _mm512_storeu_si512(codes, _mm512_andnot_si512(top, code));
    }
  }

  EPMC_AVX512 static void JoinDense(uint16_t* codes, uint32_t* words, int blocks,
                                    int code_bits) {
    const __m512i top = _mm512_set1_epi16(static_cast<int16_t>(1u << (code_bits - 1)));
    for (int block = 0; block < blocks; ++block, codes += kBlock) {
      const __m512i code = _mm512_or_si512(_mm512_loadu_si512(codes),
                                           _mm512_maskz_mov_epi16(words[block], top));
      words[block] = _mm512_test_epi16_mask(code, code);
      _mm512_storeu_si512(codes, _mm512_sub_epi16(code, _mm512_set1_epi16(1)));
    }
  }

  static void StorePlanes(const uint16_t* codes, int blocks, int planes, uint8_t* out) {
    sparse_fixed_rate::StorePlanes<Planes>(planes, codes, blocks, out);
  }

  static void LoadPlanes(const uint8_t* in, int blocks, int planes, uint16_t* codes) {
    sparse_fixed_rate::LoadPlanes<Planes>(planes, in, blocks, codes);
  }

  EPMC_AVX512 static __m512 Dequantized(const uint16_t* codes, __m512 lo, __m512 step) {
    const __m256i code = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes));
    const __m512 number = _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(code));
    return _mm512_add_ps(lo, _mm512_mul_ps(number, step));
  }

  template <bool kBypass, typename T>
  EPMC_AVX512 static int DecodeSparse(const uint16_t* codes, const uint32_t* words, int blocks,
                                      GroupScale scale, T* out) {
    const __m512 lo = _mm512_set1_ps(scale.lo);
    const __m512 step = _mm512_set1_ps(scale.step);
    const uint16_t* next = codes;
    for (int block = 0; block < blocks; ++block, out += kBlock) {
      const __mmask16 low = static_cast<__mmask16>(words[block]);
      const __mmask16 high = static_cast<__mmask16>(words[block] >> kLanes);
      const uint16_t* middle = next + __builtin_popcount(low);
      const __m512 a = _mm512_maskz_expand_ps(low, Dequantized(next, lo, step));
      const __m512 b = _mm512_maskz_expand_ps(high, Dequantized(middle, lo, step));
      group_quant::avx512::Store<kBypass>(a, out);
      group_quant::avx512::Store<kBypass>(b, out + kLanes);
      next += __builtin_popcount(words[block]);
    }
    return static_cast<int>(next - codes);
  }

  template <bool kBypass, typename T>
  EPMC_AVX512 static void DecodeDense(const uint16_t* codes, const uint32_t* words, int blocks,
                                      GroupScale scale, T* out) {
    const __m512 lo = _mm512_set1_ps(scale.lo);
    const __m512 step = _mm512_set1_ps(scale.step);
    for (int i = 0; i < blocks * kBlock; i += kLanes) {
      const __mmask16 nonzeros = static_cast<__mmask16>(words[i / kBlock] >> i % kBlock);
      const __m512 x = _mm512_maskz_mov_ps(nonzeros, Dequantized(codes + i, lo, step));
      group_quant::avx512::Store<kBypass>(x, out + i);
    }
  }
};

}  // namespace epmc::sparse_fixed_rate::avx512

#endif  // defined(__x86_64__)
#endif  // EPMC_SPARSE_FIXED_RATE_SPARSE_FIXED_RATE_AVX512_H_
