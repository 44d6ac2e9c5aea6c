// The steps of scalar.h with AVX2, 8 elements at a time; the same bytes. There is no
// instruction that compresses or expands: a table has the permutation for each mask.
#ifndef EPMC_SPARSE_FIXED_RATE_SPARSE_FIXED_RATE_AVX2_H_
#define EPMC_SPARSE_FIXED_RATE_SPARSE_FIXED_RATE_AVX2_H_

#if defined(__x86_64__)

#include <array>
#include <cstdint>
#include <utility>

#include "xla_ffi/common/isa.h"
#include "xla_ffi/common/x86.h"
#include "xla_ffi/group_quant/group_quant_avx2.h"
#include "xla_ffi/sparse_fixed_rate/scalar.h"

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

// Byte i is 0xff where bit i of the word is set.
EPMC_AVX2 inline __m256i BytesOf(uint32_t word) {
  const __m256i byte_of_lane =
      _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2,
                       3, 3, 3, 3, 3, 3, 3, 3);
  const __m256i bit_of_lane = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201u));
  const __m256i words = _mm256_set1_epi32(static_cast<int32_t>(word));
  const __m256i bits = _mm256_and_si256(_mm256_shuffle_epi8(words, byte_of_lane), bit_of_lane);
  return _mm256_cmpeq_epi8(bits, bit_of_lane);
}

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

template <int... kBits>
EPMC_AVX2 void StorePlanes(const uint16_t* codes, int blocks, uint8_t* out,
                           std::integer_sequence<int, kBits...>) {
  for (int block = 0; block < blocks; ++block, codes += kBlock) {
    [[maybe_unused]] const Bytes bytes = Split(codes);
    (StoreWord(out + 4 * kBits, Plane<kBits>(bytes)), ...);
    out += 4 * sizeof...(kBits);
  }
}

template <int... kBits>
EPMC_AVX2 void LoadPlanes(const uint8_t* in, int blocks, uint16_t* codes,
                          std::integer_sequence<int, kBits...>) {
  for (int block = 0; block < blocks; ++block, codes += kBlock) {
    Bytes bytes = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    (AddPlane<kBits>(LoadWord(in + 4 * kBits), &bytes), ...);
    Join(bytes, codes);
    in += 4 * sizeof...(kBits);
  }
}

template <int kPlanes>
EPMC_AVX2 void StorePlanes(const uint16_t* codes, int blocks, uint8_t* out) {
  StorePlanes(codes, blocks, out, std::make_integer_sequence<int, kPlanes>());
}

template <int kPlanes>
EPMC_AVX2 void LoadPlanes(const uint8_t* in, int blocks, uint16_t* codes) {
  LoadPlanes(in, blocks, codes, std::make_integer_sequence<int, kPlanes>());
}

// Calls the function for a number of planes that is known to the compiler.
template <int... kPlanes>
EPMC_AVX2 void StorePlanesOf(int planes, const uint16_t* codes, int blocks, uint8_t* out,
                             std::integer_sequence<int, kPlanes...>) {
  using Store = void (*)(const uint16_t*, int, uint8_t*);
  static constexpr Store kStores[] = {&StorePlanes<kPlanes>...};
  kStores[planes](codes, blocks, out);
}

template <int... kPlanes>
EPMC_AVX2 void LoadPlanesOf(int planes, const uint8_t* in, int blocks, uint16_t* codes,
                            std::integer_sequence<int, kPlanes...>) {
  using Load = void (*)(const uint8_t*, int, uint16_t*);
  static constexpr Load kLoads[] = {&LoadPlanes<kPlanes>...};
  kLoads[planes](in, blocks, codes);
}

using AllPlanes = std::make_integer_sequence<int, kMaxCodeBits + 1>;

struct Steps {
  EPMC_AVX2 static int CountBits(const uint32_t* words, int blocks) {
    int count = 0;
    for (int block = 0; block < blocks; ++block) count += __builtin_popcount(words[block]);
    return count;
  }

  template <typename T>
  EPMC_AVX2 static Scan ScanGroup(const T* x, int blocks, uint32_t* words) {
    const __m256 inf = _mm256_castsi256_ps(_mm256_set1_epi32(0x7f800000));
    const __m256 exponent = _mm256_castsi256_ps(_mm256_set1_epi32(0x7f800000));
    __m256 lo = inf, hi = _mm256_sub_ps(_mm256_setzero_ps(), inf);
    __m256 bad = _mm256_setzero_ps();
    __m256i subnormal = _mm256_setzero_si256();
    int count = 0;
    for (int block = 0; block < blocks; ++block, x += kBlock) {
      group_quant::avx2::Prefetch(x);
      uint32_t word = 0;
      for (int i = 0; i < kBlock; i += kLanes) {
        const __m256 value = group_quant::avx2::Load(x + i);
        const __m256i is_zero = IsZero(value);
        const __m256i no_exponent = _mm256_cmpeq_epi32(
            _mm256_castps_si256(_mm256_and_ps(value, exponent)), _mm256_setzero_si256());
        subnormal = _mm256_or_si256(subnormal, _mm256_andnot_si256(is_zero, no_exponent));
        lo = _mm256_min_ps(lo, _mm256_blendv_ps(value, inf, _mm256_castsi256_ps(is_zero)));
        hi = _mm256_max_ps(hi, _mm256_blendv_ps(value, hi, _mm256_castsi256_ps(is_zero)));
        bad = _mm256_add_ps(bad, _mm256_mul_ps(value, _mm256_setzero_ps()));
        const int zeros = _mm256_movemask_ps(_mm256_castsi256_ps(is_zero));
        word |= (static_cast<uint32_t>(zeros) ^ 0xffu) << i;
      }
      words[block] = word;
      count += __builtin_popcount(word);
    }
    if (_mm256_movemask_ps(_mm256_cmp_ps(bad, bad, _CMP_UNORD_Q)) != 0) {
      return {count, {INT32_MIN, INT32_MAX}, false};
    }
    if (_mm256_movemask_epi8(subnormal) != 0) return Scalar::ScanGroup(x - blocks * kBlock, blocks, words);
    const float least = group_quant::avx2::Reduce(lo, group_quant::avx2::Min{});
    const float most = group_quant::avx2::Reduce(hi, group_quant::avx2::Max{});
    return {count,
            {group_quant::OrderedKey(FloatBits(least)), group_quant::OrderedKey(FloatBits(most))},
            false};
  }

  // 32-bit elements.
  EPMC_AVX2 static int Compact(const F32* x, const uint32_t* words, int blocks, F32* out) {
    F32* next = out;
    for (int i = 0; i < blocks * kBlock; i += kLanes) {
      const uint32_t set = words[i / kBlock] >> i % kBlock & 0xffu;
      StoreRaw(Compressed(LoadRaw(x + i), set), next);
      next += __builtin_popcount(set);
    }
    return static_cast<int>(next - out);
  }

  // 16-bit elements, 8 to a register too.
  template <typename Half>
  EPMC_AVX2 static int Compact(const Half* x, const uint32_t* words, int blocks, Half* out) {
    Half* next = out;
    for (int i = 0; i < blocks * kBlock; i += kLanes) {
      const uint32_t set = words[i / kBlock] >> i % kBlock & 0xffu;
      const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i));
      const __m128i lanes =
          _mm_loadl_epi64(reinterpret_cast<const __m128i*>(kPermutations.compress + set));
      // Bytes 2 l and 2 l + 1 of lane l.
      const __m128i twice = _mm_add_epi8(lanes, lanes);
      const __m128i bytes = _mm_unpacklo_epi8(twice, _mm_add_epi8(twice, _mm_set1_epi8(1)));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(next), _mm_shuffle_epi8(halves, bytes));
      next += __builtin_popcount(set);
    }
    return static_cast<int>(next - out);
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
  EPMC_AVX2 static void Widen(const T* x, int blocks, F32* widened) {
    for (int i = 0; i < blocks * kBlock; i += kLanes) {
      _mm256_storeu_ps(&widened[i].value, Normalized(group_quant::avx2::Load(x + i)));
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
  EPMC_AVX2 static void Quantize(const T* x, const uint32_t*, int blocks,
                                 const Quantizer& quantizer, const uint16_t* dither,
                                 uint16_t* codes) {
    const __m256 lo = _mm256_set1_ps(quantizer.scale.lo);
    const __m256 inverse = _mm256_set1_ps(quantizer.inverse);
    const __m256i levels = _mm256_set1_epi32(quantizer.levels);
    const __m128i digits = _mm_cvtsi32_si128(quantizer.digits);
    const __m128i dropped = _mm_cvtsi32_si128(16 - quantizer.digits);
    const __m256i half = _mm256_srl_epi32(_mm256_set1_epi32(group_quant::kHalf16), dropped);
    for (int i = 0; i < blocks * kBlock; i += 2 * kLanes) {
      __m256i code[2];
      for (int j = 0; j < 2; ++j) {
        const int at = i + j * kLanes;
        const __m256 above = _mm256_sub_ps(group_quant::avx2::Load(x + at), lo);
        const __m256i scaled = _mm256_cvttps_epi32(_mm256_mul_ps(above, inverse));
        const __m256i shift =
            kStochastic ? _mm256_srl_epi32(LoadRaw(static_cast<const void*>(dither + at)), dropped)
                        : half;
        const __m256i sum = _mm256_add_epi32(scaled, shift);
        code[j] = _mm256_min_epi32(_mm256_sra_epi32(sum, digits), levels);
      }
      const __m256i both = _mm256_packus_epi32(code[0], code[1]);
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

  EPMC_AVX2 static void StorePlanes(const uint16_t* codes, int blocks, int planes,
                                    uint8_t* out) {
    StorePlanesOf(planes, codes, blocks, out, AllPlanes());
  }

  EPMC_AVX2 static void LoadPlanes(const uint8_t* in, int blocks, int planes, uint16_t* codes) {
    LoadPlanesOf(planes, in, blocks, codes, AllPlanes());
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
