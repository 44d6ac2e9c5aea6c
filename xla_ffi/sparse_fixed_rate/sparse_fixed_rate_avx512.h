// The steps of scalar.h with AVX-512, 16 or 32 elements at a time; the same bytes.
//
// A register is compressed and stored whole, which writes up to 15 places too many: a store
// of the compressed part alone takes six times as long (Zen 4).
#ifndef EPMC_SPARSE_FIXED_RATE_SPARSE_FIXED_RATE_AVX512_H_
#define EPMC_SPARSE_FIXED_RATE_SPARSE_FIXED_RATE_AVX512_H_

#if defined(__x86_64__)

#include <cstdint>
#include <utility>

#include "xla_ffi/common/isa.h"
#include "xla_ffi/common/x86.h"
#include "xla_ffi/group_quant/group_quant_avx512.h"
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

EPMC_AVX512 inline uint32_t NonzerosOf(const F32* x) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  const uint32_t low = _mm512_test_epi32_mask(_mm512_loadu_si512(x), magnitude);
  const uint32_t high = _mm512_test_epi32_mask(_mm512_loadu_si512(x + kLanes), magnitude);
  return low | high << kLanes;
}

EPMC_AVX512 inline uint32_t NonzerosOf(const void* x) {
  return _mm512_test_epi16_mask(_mm512_loadu_si512(x), _mm512_set1_epi16(0x7fff));
}

EPMC_AVX512 inline __m512 Normalized(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i exponent = _mm512_set1_epi32(static_cast<int32_t>(kExponentMask));
  const __mmask16 is_subnormal = _mm512_testn_epi32_mask(bits, exponent);
  const __m512i sign = _mm512_set1_epi32(static_cast<int32_t>(0x80000000u));
  constexpr int kAndOr = 0xea;  // (a & b) | c
  return _mm512_castsi512_ps(_mm512_mask_ternarylogic_epi32(
      bits, is_subnormal, sign, _mm512_set1_epi32(0x00800000), kAndOr));
}

EPMC_AVX512 inline __mmask16 LanesBelow(int count) {
  return static_cast<__mmask16>(count >= kLanes ? 0xffffu : (1u << count) - 1);
}

template <int kPlanes>
EPMC_AVX512 void StorePlanes(const uint16_t* codes, int blocks, uint8_t* out) {
  for (int block = 0; block < blocks; ++block, codes += kBlock, out += 4 * kPlanes) {
    const __m512i code = _mm512_loadu_si512(codes);
    for (int j = 0; j < kPlanes; ++j) {
      const __m512i bit = _mm512_set1_epi16(static_cast<int16_t>(1u << j));
      StoreWord(out + 4 * j, _mm512_test_epi16_mask(code, bit));
    }
  }
}

template <int kPlanes>
EPMC_AVX512 void LoadPlanes(const uint8_t* in, int blocks, uint16_t* codes) {
  for (int block = 0; block < blocks; ++block, codes += kBlock, in += 4 * kPlanes) {
    __m512i code = _mm512_setzero_si512();
    for (int j = 0; j < kPlanes; ++j) {
      const __m512i bit = _mm512_set1_epi16(static_cast<int16_t>(1u << j));
      code = _mm512_mask_add_epi16(code, LoadWord(in + 4 * j), code, bit);
    }
    _mm512_storeu_si512(codes, code);
  }
}

// Calls the function for a number of planes that is known to the compiler.
template <int... kPlanes>
EPMC_AVX512 void StorePlanesOf(int planes, const uint16_t* codes, int blocks, uint8_t* out,
                               std::integer_sequence<int, kPlanes...>) {
  using Store = void (*)(const uint16_t*, int, uint8_t*);
  static constexpr Store kStores[] = {&StorePlanes<kPlanes>...};
  kStores[planes](codes, blocks, out);
}

template <int... kPlanes>
EPMC_AVX512 void LoadPlanesOf(int planes, const uint8_t* in, int blocks, uint16_t* codes,
                              std::integer_sequence<int, kPlanes...>) {
  using Load = void (*)(const uint8_t*, int, uint16_t*);
  static constexpr Load kLoads[] = {&LoadPlanes<kPlanes>...};
  kLoads[planes](in, blocks, codes);
}

using AllPlanes = std::make_integer_sequence<int, kMaxCodeBits + 1>;

struct Simd {
  EPMC_AVX512 static int CountBits(const uint32_t* words, int blocks) {
    int count = 0;
    for (int block = 0; block < blocks; ++block) count += __builtin_popcount(words[block]);
    return count;
  }

  template <typename T>
  EPMC_AVX512 static int Compact(const T* x, int blocks, uint32_t* words, float* values) {
    float* next = values;
    for (int block = 0; block < blocks; ++block, x += kBlock) {
      group_quant::avx512::Prefetch(x);
      const uint32_t nonzeros = NonzerosOf(x);
      const __mmask16 low = static_cast<__mmask16>(nonzeros);
      const __mmask16 high = static_cast<__mmask16>(nonzeros >> kLanes);
      words[block] = nonzeros;
      const __m512 a = group_quant::avx512::Load(x);
      const __m512 b = group_quant::avx512::Load(x + kLanes);
      _mm512_storeu_ps(next, _mm512_maskz_compress_ps(low, a));
      float* after = next + __builtin_popcount(nonzeros);
      next += __builtin_popcount(low);
      _mm512_storeu_ps(next, _mm512_maskz_compress_ps(high, b));
      next = after;
    }
    return static_cast<int>(next - values);
  }

  template <typename T>
  EPMC_AVX512 static int CompactRaw(const T* x, int blocks, T* values) {
    T* next = values;
    for (int block = 0; block < blocks; ++block, x += kBlock) {
      const uint32_t nonzeros = NonzerosOf(x);
      const __mmask16 low = static_cast<__mmask16>(nonzeros);
      const __mmask16 high = static_cast<__mmask16>(nonzeros >> kLanes);
      StoreRaw(_mm512_maskz_compress_epi32(low, LoadRaw(x)), next);
      next += __builtin_popcount(low);
      StoreRaw(_mm512_maskz_compress_epi32(high, LoadRaw(x + kLanes)), next);
      next += __builtin_popcount(high);
    }
    return static_cast<int>(next - values);
  }

  template <typename T>
  EPMC_AVX512 static void Widen(const T* x, int blocks, float* values) {
    for (int i = 0; i < blocks * kBlock; i += kLanes) {
      _mm512_storeu_ps(values + i, Normalized(group_quant::avx512::Load(x + i)));
    }
  }

  // As FindRange of GroupQuant: floats as they are, x * 0 tells of NaN and infinity.
  EPMC_AVX512 static KeyRange Normalize(float* values, int count) {
    const __m512 first = Normalized(_mm512_set1_ps(values[0]));
    __m512 lo = first, hi = first, bad = _mm512_setzero_ps();
    for (int i = 0; i < count; i += kLanes) {
      const __mmask16 lanes = LanesBelow(count - i);
      const __m512 x = _mm512_mask_blend_ps(lanes, first, _mm512_loadu_ps(values + i));
      const __m512 normal = Normalized(x);
      _mm512_storeu_ps(values + i, normal);
      lo = _mm512_min_ps(lo, normal);
      hi = _mm512_max_ps(hi, normal);
      bad = _mm512_fmadd_ps(normal, _mm512_setzero_ps(), bad);
    }
    if (_mm512_cmp_ps_mask(bad, bad, _CMP_UNORD_Q) != 0) return {INT32_MIN, INT32_MAX};
    return {group_quant::OrderedKey(FloatBits(_mm512_reduce_min_ps(lo))),
            group_quant::OrderedKey(FloatBits(_mm512_reduce_max_ps(hi)))};
  }

  template <bool kStochastic>
  EPMC_AVX512 static void Quantize(const float* values, int count, const Quantizer& quantizer,
                                   uint32_t key, uint16_t* codes) {
    const __m512 lo = _mm512_set1_ps(quantizer.scale.lo);
    const __m512 inverse = _mm512_set1_ps(quantizer.inverse);
    const __m512i levels = _mm512_set1_epi32(quantizer.levels);
    const __m128i digits = _mm_cvtsi32_si128(quantizer.digits);
    const __m128i dropped = _mm_cvtsi32_si128(16 - quantizer.digits);
    const __m512i golden = _mm512_set1_epi32(static_cast<int32_t>(0x9e3779b9u));
    const __m512i lanes =
        _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512i counter = _mm512_add_epi32(_mm512_set1_epi32(static_cast<int32_t>(key)),
                                       _mm512_mullo_epi32(lanes, golden));
    __m512i dither_a =
        _mm512_srl_epi32(_mm512_set1_epi32(group_quant::kHalf16), dropped);
    __m512i dither_b = dither_a;
    for (int i = 0; i < count; i += kBlock) {
      if (kStochastic) {
        const __m512i hash = group_quant::avx512::MixAll(counter);
        counter = _mm512_add_epi32(counter, _mm512_slli_epi32(golden, 4));
        dither_a = _mm512_srl_epi32(_mm512_and_si512(hash, _mm512_set1_epi32(0xffff)), dropped);
        dither_b = _mm512_srl_epi32(_mm512_srli_epi32(hash, 16), dropped);
      }
      const auto codes_of = [&](const float* x, __m512i dither) EPMC_AVX512 {
        const __m512 scaled =
            _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x), lo), inverse);
        const __m512i sum = _mm512_add_epi32(_mm512_cvttps_epi32(scaled), dither);
        return _mm512_min_epi32(_mm512_sra_epi32(sum, digits), levels);
      };
      const __m512i a = codes_of(values + i, dither_a);
      const __m512i b = codes_of(values + i + kLanes, dither_b);
      const __m512i low_halves = _mm512_set_epi16(
          62, 60, 58, 56, 54, 52, 50, 48, 46, 44, 42, 40, 38, 36, 34, 32, 30, 28, 26, 24, 22,
          20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
      _mm512_storeu_si512(codes + i, _mm512_permutex2var_epi16(a, low_halves, b));
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

  EPMC_AVX512 static void StorePlanes(const uint16_t* codes, int blocks, int planes,
                                      uint8_t* out) {
    StorePlanesOf(planes, codes, blocks, out, AllPlanes());
  }

  EPMC_AVX512 static void LoadPlanes(const uint8_t* in, int blocks, int planes,
                                     uint16_t* codes) {
    LoadPlanesOf(planes, in, blocks, codes, AllPlanes());
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

  template <bool kBypass, typename T>
  EPMC_AVX512 static int ExpandRaw(const T* values, const uint32_t* words, int blocks, T* out) {
    const T* next = values;
    for (int i = 0; i < blocks * kBlock; i += kLanes) {
      const __mmask16 nonzeros = static_cast<__mmask16>(words[i / kBlock] >> i % kBlock);
      StoreRaw(_mm512_maskz_expand_epi32(nonzeros, LoadRaw(next)), out + i);
      next += __builtin_popcount(nonzeros);
    }
    return static_cast<int>(next - values);
  }
};

}  // namespace epmc::sparse_fixed_rate::avx512

#endif  // defined(__x86_64__)
#endif  // EPMC_SPARSE_FIXED_RATE_SPARSE_FIXED_RATE_AVX512_H_
