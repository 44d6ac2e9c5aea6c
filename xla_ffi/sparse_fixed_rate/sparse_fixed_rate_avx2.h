// The steps of scalar.h with AVX2, 8 elements at a time; the same bytes.
#ifndef EPMC_SPARSE_FIXED_RATE_SPARSE_FIXED_RATE_AVX2_H_
#define EPMC_SPARSE_FIXED_RATE_SPARSE_FIXED_RATE_AVX2_H_

#if defined(__x86_64__)

#include <cstdint>
#include <utility>

#include "xla_ffi/common/avx2.h"
#include "xla_ffi/common/cache_lines.h"
#include "xla_ffi/common/isa.h"
#include "xla_ffi/common/x86.h"
#include "xla_ffi/group_quant/group_quant_avx2.h"
#include "xla_ffi/sparse_fixed_rate/permutations_avx2.h"
#include "xla_ffi/sparse_fixed_rate/planes.h"
#include "xla_ffi/sparse_fixed_rate/scalar.h"

namespace epmc::sparse_fixed_rate::avx2 {

// The bits of an element, in 32.
EPMC_AVX2 inline __m256i LoadRaw(const F32* x) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
}

EPMC_AVX2 inline __m256i LoadRaw(const void* x) {
  return _mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(x)));
}

EPMC_AVX2 inline void StoreRaw(__m256i bits, F32* out) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), bits);
}

EPMC_AVX2 inline void StoreRaw(__m256i bits, void* out) {
  const __m128i low = _mm256_castsi256_si128(bits), high = _mm256_extracti128_si256(bits, 1);
  _mm_storeu_si128(static_cast<__m128i*>(out), _mm_packus_epi32(low, high));
}

// All bits of a lane, or none. By the bits: a processor may take subnormals for zeros.
EPMC_AVX2 inline __m256i IsZero(__m256 x) {
  const __m256i magnitude = _mm256_slli_epi32(_mm256_castps_si256(x), 1);
  return _mm256_cmpeq_epi32(magnitude, _mm256_setzero_si256());
}

EPMC_AVX2 inline __m256 Normalized(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i exponent =
      _mm256_and_si256(bits, _mm256_set1_epi32(static_cast<int32_t>(kExponentMask)));
  const __m256i is_subnormal = _mm256_cmpeq_epi32(exponent, _mm256_setzero_si256());
  const __m256i sign = _mm256_set1_epi32(static_cast<int32_t>(0x80000000u));
  const __m256i smallest =
      _mm256_or_si256(_mm256_and_si256(bits, sign), _mm256_set1_epi32(0x00800000));
  return _mm256_castsi256_ps(_mm256_blendv_epi8(bits, smallest, is_subnormal));
}

EPMC_AVX2 inline __m256i LoadCodes(const uint16_t* codes) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes));
}

EPMC_AVX2 inline void StoreCodes(__m256i code, uint16_t* codes) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes), code);
}

using epmc::avx2::BytesOf;
using epmc::avx2::LoadFloats;

// 32 codes as bytes: their lower halves, their upper halves.
struct Bytes {
  __m256i low;
  __m256i high;
};

EPMC_AVX2 inline Bytes Split(const uint16_t* codes) {
  const __m256i a = LoadCodes(codes), b = LoadCodes(codes + 16);
  const __m256i mask = _mm256_set1_epi16(0xff);
  const __m256i low = _mm256_packus_epi16(_mm256_and_si256(a, mask), _mm256_and_si256(b, mask));
  const __m256i high = _mm256_packus_epi16(_mm256_srli_epi16(a, 8), _mm256_srli_epi16(b, 8));
  return {_mm256_permute4x64_epi64(low, 0xd8), _mm256_permute4x64_epi64(high, 0xd8)};
}

EPMC_AVX2 inline void Join(const Bytes& bytes, uint16_t* codes) {
  const __m256i low = _mm256_permute4x64_epi64(bytes.low, 0xd8);
  const __m256i high = _mm256_permute4x64_epi64(bytes.high, 0xd8);
  StoreCodes(_mm256_unpacklo_epi8(low, high), codes);
  StoreCodes(_mm256_unpackhi_epi8(low, high), codes + 16);
}

template <int kBit>
EPMC_AVX2 inline uint32_t Plane(const Bytes& bytes) {
  const __m256i half = kBit < 8 ? bytes.low : bytes.high;
  return static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_slli_epi16(half, 7 - kBit % 8)));
}

template <int kBit>
EPMC_AVX2 inline void AddPlane(uint32_t word, Bytes* bytes) {
  const __m256i bit = _mm256_set1_epi8(static_cast<char>(1 << kBit % 8));
  __m256i* half = kBit < 8 ? &bytes->low : &bytes->high;
  *half = _mm256_or_si256(*half, _mm256_and_si256(BytesOf(word), bit));
}

struct Planes {
  template <int kPlanes>
  EPMC_AVX2 static void Store(const uint16_t* codes, int blocks, uint8_t* out) {
    StoreBits(codes, blocks, out, std::make_integer_sequence<int, kPlanes>());
  }

  template <int kPlanes>
  EPMC_AVX2 static void Load(const uint8_t* in, int blocks, uint16_t* codes) {
    LoadBits(in, blocks, codes, std::make_integer_sequence<int, kPlanes>());
  }

  template <int... kBits>
  EPMC_AVX2 static void StoreBits(const uint16_t* codes, int blocks, uint8_t* out,
                                  std::integer_sequence<int, kBits...>) {
    for (int block = 0; block < blocks; ++block, codes += kBlock) {
      [[maybe_unused]] const Bytes bytes = Split(codes);
      (StoreWord(out + 4 * kBits, Plane<kBits>(bytes)), ...);
      out += 4 * sizeof...(kBits);
    }
  }

  template <int... kBits>
  EPMC_AVX2 static void LoadBits(const uint8_t* in, int blocks, uint16_t* codes,
                                 std::integer_sequence<int, kBits...>) {
    for (int block = 0; block < blocks; ++block, codes += kBlock) {
      Bytes bytes = {_mm256_setzero_si256(), _mm256_setzero_si256()};
      (AddPlane<kBits>(LoadWord(in + 4 * kBits), &bytes), ...);
      Join(bytes, codes);
      in += 4 * sizeof...(kBits);
    }
  }
};

struct Steps {
  EPMC_AVX2 static int CountBits(const uint32_t* words, int blocks) {
    int count = 0;
    for (int block = 0; block < blocks; ++block) count += __builtin_popcount(words[block]);
    return count;
  }

  template <typename T>
  static int Scan(const T* x, int blocks, uint32_t* words, T* values, Range* range) {
    return CompactThenRange<Steps>(x, blocks, words, values, range);
  }

  // 32-bit elements.
  EPMC_AVX2 static int Compact(const F32* x, int blocks, uint32_t* words, F32* values) {
    F32* next = values;
    for (int block = 0; block < blocks; ++block, x += kBlock) {
      PrefetchEvenLines(x, block);
      uint32_t word = 0;
      for (int i = 0; i < kBlock; i += kLanes) {
        const __m256i bits = LoadRaw(x + i);
        const __m256 is_zero = _mm256_castsi256_ps(IsZero(_mm256_castsi256_ps(bits)));
        const uint32_t set = static_cast<uint32_t>(_mm256_movemask_ps(is_zero)) ^ 0xffu;
        StoreRaw(Compressed(bits, set), next);
        next += __builtin_popcount(set);
        word |= set << i;
      }
      words[block] = word;
    }
    return static_cast<int>(next - values);
  }

  // 16-bit elements, 8 to a register too.
  template <typename Half>
  EPMC_AVX2 static int Compact(const Half* x, int blocks, uint32_t* words, Half* values) {
    Half* next = values;
    for (int block = 0; block < blocks; ++block, x += kBlock) {
      PrefetchEvenLines(x, block);
      uint32_t word = 0;
      for (int i = 0; i < kBlock; i += kLanes) {
        const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i));
        const __m128i is_zero = _mm_cmpeq_epi16(_mm_slli_epi16(halves, 1), _mm_setzero_si128());
        const __m128i in_bytes = _mm_packs_epi16(is_zero, _mm_setzero_si128());
        const uint32_t set = static_cast<uint32_t>(_mm_movemask_epi8(in_bytes)) ^ 0xffu;
        const __m128i lanes =
            _mm_loadl_epi64(reinterpret_cast<const __m128i*>(kPermutations.compress + set));
        // Bytes 2 l and 2 l + 1 of lane l.
        const __m128i twice = _mm_add_epi8(lanes, lanes);
        const __m128i bytes = _mm_unpacklo_epi8(twice, _mm_add_epi8(twice, _mm_set1_epi8(1)));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(next), _mm_shuffle_epi8(halves, bytes));
        next += __builtin_popcount(set);
        word |= set << i;
      }
      words[block] = word;
    }
    return static_cast<int>(next - values);
  }

  template <typename T>
  EPMC_AVX2 static Range RangeOf(T* values, int count) {
    for (int i = count; i % (2 * kLanes) != 0; ++i) values[i] = values[0];
    const __m256 zero = _mm256_setzero_ps();
    // Two at a time: each takes as long as its latency.
    __m256 lo[2], hi[2], bad[2];
    for (int j = 0; j < 2; ++j) {
      lo[j] = hi[j] = LoadFloats(values + j * kLanes);
      bad[j] = _mm256_mul_ps(lo[j], zero);
    }
    for (int i = 2 * kLanes; i < count; i += 2 * kLanes) {
      for (int j = 0; j < 2; ++j) {
        const __m256 value = LoadFloats(values + i + j * kLanes);
        lo[j] = _mm256_min_ps(lo[j], value);
        hi[j] = _mm256_max_ps(hi[j], value);
        bad[j] = _mm256_fmadd_ps(value, zero, bad[j]);
      }
    }
    const __m256 any_bad = _mm256_add_ps(bad[0], bad[1]);
    if (_mm256_movemask_ps(_mm256_cmp_ps(any_bad, any_bad, _CMP_UNORD_Q)) != 0) {
      return {{INT32_MIN, INT32_MAX}, false};
    }
    const float least =
        group_quant::avx2::Reduce(_mm256_min_ps(lo[0], lo[1]), group_quant::avx2::Min{});
    const float most =
        group_quant::avx2::Reduce(_mm256_max_ps(hi[0], hi[1]), group_quant::avx2::Max{});
    const KeyRange keys = {group_quant::OrderedKey(FloatBits(least)),
                           group_quant::OrderedKey(FloatBits(most))};
    const bool has_subnormals = MayHaveSubnormals(keys) && HasSubnormals(values, count);
    return has_subnormals ? Scalar::RangeOf(values, count) : Range{keys, false};
  }

  // None of the values is zero.
  template <typename T>
  EPMC_AVX2 static bool HasSubnormals(const T* values, int count) {
    const __m256i exponent = _mm256_set1_epi32(static_cast<int32_t>(kExponentMask));
    __m256i any = _mm256_setzero_si256();
    for (int i = 0; i < count; i += kLanes) {
      const __m256i bits = _mm256_castps_si256(LoadFloats(values + i));
      const __m256i of_value = _mm256_and_si256(bits, exponent);
      any = _mm256_or_si256(any, _mm256_cmpeq_epi32(of_value, _mm256_setzero_si256()));
    }
    return _mm256_movemask_epi8(any) != 0;
  }

  template <typename T>
  EPMC_AVX2 static int Expand(const T* values, const uint32_t* words, int blocks, T* out) {
    const T* next = values;
    for (int i = 0; i < blocks * kBlock; i += kLanes) {
      const uint32_t set = words[i / kBlock] >> i % kBlock & 0xffu;
      StoreRaw(Expanded(LoadRaw(next), set), out + i);
      next += __builtin_popcount(set);
    }
    return static_cast<int>(next - values);
  }

  template <typename T>
  EPMC_AVX2 static void Widen(const T* x, int count, F32* widened) {
    for (int i = 0; i < count; i += kLanes) {
      _mm256_storeu_ps(&widened[i].value, Normalized(LoadFloats(x + i)));
    }
  }

  EPMC_AVX2 static void StoreDither(uint32_t key, int count, uint16_t* dither) {
    const __m256i golden = _mm256_set1_epi32(static_cast<int32_t>(0x9e3779b9u));
    const __m256i low_half = _mm256_set1_epi32(0xffff);
    __m256i counter = _mm256_add_epi32(
        _mm256_set1_epi32(static_cast<int32_t>(key)),
        _mm256_mullo_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), golden));
    for (int i = 0; i < count; i += kBlock) {
      for (int j = 0; j < 2; ++j) {
        const __m256i hash = group_quant::avx2::MixAll(counter);
        counter = _mm256_add_epi32(counter, _mm256_slli_epi32(golden, 3));
        uint16_t* to = dither + i + j * kLanes;
        StoreRaw(_mm256_and_si256(hash, low_half), static_cast<void*>(to));
        StoreRaw(_mm256_srli_epi32(hash, 16), static_cast<void*>(to + 16));
      }
    }
  }

  template <bool kStochastic, typename T>
  EPMC_AVX2 static void Quantize(const T* x, int count, const Quantizer& quantizer,
                                 const uint16_t* dither, uint16_t* codes) {
    const __m256 lo = _mm256_set1_ps(quantizer.scale.lo);
    const __m256 inverse = _mm256_set1_ps(quantizer.inverse);
    const __m256i levels = _mm256_set1_epi16(static_cast<int16_t>(quantizer.levels));
    const __m128i digits = _mm_cvtsi32_si128(quantizer.digits);
    const __m128i dropped = _mm_cvtsi32_si128(16 - quantizer.digits);
    const __m256i half = _mm256_srl_epi32(_mm256_set1_epi32(group_quant::kHalf16), dropped);
    for (int i = 0; i < count; i += 2 * kLanes) {
      __m256i code[2];
      for (int j = 0; j < 2; ++j) {
        const int at = i + j * kLanes;
        const __m256 above = _mm256_sub_ps(LoadFloats(x + at), lo);
        const __m256i scaled = _mm256_cvttps_epi32(_mm256_mul_ps(above, inverse));
        const __m256i shift =
            kStochastic ? _mm256_srl_epi32(LoadRaw(static_cast<const void*>(dither + at)), dropped)
                        : half;
        const __m256i sum = _mm256_add_epi32(scaled, shift);
        code[j] = _mm256_sra_epi32(sum, digits);
      }
      // Saturates: what was above the levels still is.
      const __m256i both = _mm256_min_epu16(_mm256_packus_epi32(code[0], code[1]), levels);
      StoreCodes(_mm256_permute4x64_epi64(both, 0xd8), codes + i);
    }
  }

  EPMC_AVX2 static void SplitDense(uint16_t* codes, uint32_t* words, int blocks,
                                   int code_bits) {
    const int top = code_bits - 1;
    const __m256i below = _mm256_set1_epi16(static_cast<int16_t>((1u << top) - 1));
    const __m128i to_sign = _mm_cvtsi32_si128(15 - top);
    for (int block = 0; block < blocks; ++block, codes += kBlock) {
      const __m256i nonzeros = BytesOf(words[block]);
      __m256i tops[2];
      for (int half = 0; half < 2; ++half) {
        const __m128i bytes = half == 0 ? _mm256_castsi256_si128(nonzeros)
                                        : _mm256_extracti128_si256(nonzeros, 1);
        const __m256i code = _mm256_and_si256(
            _mm256_add_epi16(LoadCodes(codes + 16 * half), _mm256_set1_epi16(1)),
            _mm256_cvtepi8_epi16(bytes));
        tops[half] = _mm256_srai_epi16(_mm256_sll_epi16(code, to_sign), 15);
        StoreCodes(_mm256_and_si256(code, below), codes + 16 * half);
      }
      const __m256i in_order =
          _mm256_permute4x64_epi64(_mm256_packs_epi16(tops[0], tops[1]), 0xd8);
      words[block] = static_cast<uint32_t>(_mm256_movemask_epi8(in_order));
    }
  }

  EPMC_AVX2 static void JoinDense(uint16_t* codes, uint32_t* words, int blocks, int code_bits) {
    const __m256i top = _mm256_set1_epi16(static_cast<int16_t>(1u << (code_bits - 1)));
    for (int block = 0; block < blocks; ++block, codes += kBlock) {
      const __m256i tops = BytesOf(words[block]);
      __m256i zeros[2];
      for (int half = 0; half < 2; ++half) {
        const __m128i bytes =
            half == 0 ? _mm256_castsi256_si128(tops) : _mm256_extracti128_si256(tops, 1);
        const __m256i code =
            _mm256_or_si256(LoadCodes(codes + 16 * half),
                            _mm256_and_si256(_mm256_cvtepi8_epi16(bytes), top));
        zeros[half] = _mm256_cmpeq_epi16(code, _mm256_setzero_si256());
        StoreCodes(_mm256_sub_epi16(code, _mm256_set1_epi16(1)), codes + 16 * half);
      }
      const __m256i in_order =
          _mm256_permute4x64_epi64(_mm256_packs_epi16(zeros[0], zeros[1]), 0xd8);
      words[block] = ~static_cast<uint32_t>(_mm256_movemask_epi8(in_order));
    }
  }

  static void StorePlanes(const uint16_t* codes, int blocks, int planes, uint8_t* out) {
    sparse_fixed_rate::StorePlanes<Planes>(planes, codes, blocks, out);
  }

  static void LoadPlanes(const uint8_t* in, int blocks, int planes, uint16_t* codes) {
    sparse_fixed_rate::LoadPlanes<Planes>(planes, in, blocks, codes);
  }

  EPMC_AVX2 static __m256 Dequantized(const uint16_t* codes, __m256 lo, __m256 step) {
    const __m128i code = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes));
    const __m256 number = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(code));
    return _mm256_add_ps(lo, _mm256_mul_ps(number, step));
  }

  template <bool kBypass, typename T>
  EPMC_AVX2 static int DecodeSparse(const uint16_t* codes, const uint32_t* words, int blocks,
                                    GroupScale scale, T* out) {
    const __m256 lo = _mm256_set1_ps(scale.lo);
    const __m256 step = _mm256_set1_ps(scale.step);
    const uint16_t* next = codes;
    for (int i = 0; i < blocks * kBlock; i += 2 * kLanes) {
      const uint32_t a = words[i / kBlock] >> i % kBlock & 0xffu;
      const uint32_t b = words[i / kBlock] >> (i % kBlock + kLanes) & 0xffu;
      const __m256 first = Expanded(Dequantized(next, lo, step), a);
      next += __builtin_popcount(a);
      const __m256 second = Expanded(Dequantized(next, lo, step), b);
      next += __builtin_popcount(b);
      group_quant::avx2::Store<kBypass>(first, second, out + i);
    }
    return static_cast<int>(next - codes);
  }

  template <bool kBypass, typename T>
  EPMC_AVX2 static void DecodeDense(const uint16_t* codes, const uint32_t* words, int blocks,
                                    GroupScale scale, T* out) {
    const __m256 lo = _mm256_set1_ps(scale.lo);
    const __m256 step = _mm256_set1_ps(scale.step);
    for (int i = 0; i < blocks * kBlock; i += 2 * kLanes) {
      const __m256i bytes = BytesOf(words[i / kBlock] >> i % kBlock);
      const __m128i low = _mm256_castsi256_si128(bytes);
      const __m256i first = _mm256_cvtepi8_epi32(low);
      const __m256i second = _mm256_cvtepi8_epi32(_mm_srli_si128(low, kLanes));
      group_quant::avx2::Store<kBypass>(
          _mm256_and_ps(Dequantized(codes + i, lo, step), _mm256_castsi256_ps(first)),
          _mm256_and_ps(Dequantized(codes + i + kLanes, lo, step), _mm256_castsi256_ps(second)),
          out + i);
    }
  }
};

}  // namespace epmc::sparse_fixed_rate::avx2

#endif  // defined(__x86_64__)
#endif  // EPMC_SPARSE_FIXED_RATE_SPARSE_FIXED_RATE_AVX2_H_
