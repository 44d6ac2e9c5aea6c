// The steps of SparseFixedRate on one group, one element at a time: what the kernels for
// wider registers do, and what runs where there are none.
//
// Arrays hold whole blocks of 32 elements; codes have 16 bits. The wider kernels read and
// write whole registers: up to 32 places behind the last one that counts.
#ifndef EPMC_SPARSE_FIXED_RATE_SCALAR_H_
#define EPMC_SPARSE_FIXED_RATE_SCALAR_H_

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "xla_ffi/common/byte_plane.h"
#include "xla_ffi/common/dither.h"
#include "xla_ffi/group_quant/group_quant_simd.h"
#include "xla_ffi/sparse_fixed_rate/pool.h"

namespace epmc::sparse_fixed_rate {

using group_quant::KeyRange;

struct Range {
  KeyRange keys;  // of nonzeros, as NormalBits
  bool has_subnormals;
};

// Where all numbers are positive, the smallest one tells.
inline bool MayHaveSubnormals(const KeyRange& keys) {
  constexpr int32_t kSmallestNormal = 0x00800000;
  return keys.lo <= kSmallestNormal;
}

// A Scan in two passes.
template <typename Steps, typename T>
int CompactThenRange(const T* x, int blocks, uint32_t* words, T* values, Range* range) {
  const int count = Steps::Compact(x, blocks, words, values);
  if (count > 0) *range = Steps::RangeOf(values, count);
  return count;
}

struct Scalar {
  static int CountBits(const uint32_t* words, int blocks) {
    int count = 0;
    for (int block = 0; block < blocks; ++block) count += __builtin_popcount(words[block]);
    return count;
  }

  // Stores the bitmap, the nonzeros one behind the other, and their range if there are any.
  // Returns how many there are.
  template <typename T>
  static int Scan(const T* x, int blocks, uint32_t* words, T* values, Range* range) {
    return CompactThenRange<Scalar>(x, blocks, words, values, range);
  }

  template <typename T>
  static int Compact(const T* x, int blocks, uint32_t* words, T* values) {
    int count = 0;
    for (int block = 0; block < blocks; ++block, x += kBlock) {
      alignas(32) uint8_t nonzeros[kBlock];
      for (int i = 0; i < kBlock; ++i) {
        nonzeros[i] = static_cast<uint8_t>(IsNonzero(x[i]));
        values[count] = x[i];
        count += nonzeros[i];
      }
      words[block] = BytePlane(nonzeros, 0);
    }
    return count;
  }

  // At least one value, and none is zero. What is behind them may be overwritten.
  template <typename T>
  static Range RangeOf(T* values, int count) {
    Range range = {{INT32_MAX, INT32_MIN}, false};
    for (int i = 0; i < count; ++i) {
      const uint32_t bits = ToFloatBits(values[i]);
      const int32_t key = group_quant::OrderedKey(NormalBits(bits));
      range.keys.lo = std::min(range.keys.lo, key);
      range.keys.hi = std::max(range.keys.hi, key);
      range.has_subnormals |= (bits & kExponentMask) == 0;
    }
    return range;
  }

  // The other way, with zeros between them. Returns how many the words took.
  template <typename T>
  static int Expand(const T* values, const uint32_t* words, int blocks, T* out) {
    int next = 0;
    for (int i = 0; i < blocks * kBlock; ++i) {
      const bool is_set = (words[i / kBlock] >> i % kBlock & 1u) != 0;
      out[i] = is_set ? values[next++] : T{};
    }
    return next;
  }

  // Floats that are not subnormal; of a zero, whatever.
  template <typename T>
  static void Widen(const T* x, int count, F32* widened) {
    for (int i = 0; i < count; ++i) {
      const uint32_t bits = ToFloatBits(x[i]);
      widened[i].value = BitsToFloat(IsNonzero(x[i]) ? NormalBits(bits) : bits);
    }
  }

  // The dither of a group's values in their order.
  static void StoreDither(uint32_t key, int count, uint16_t* dither) {
    for (int i = 0; i < count; ++i) {
      const int place = i % kBlock;
      const uint32_t pair = DitherOfPair(key, i / kBlock * 16 + place % 16);
      dither[i] = static_cast<uint16_t>(place < 16 ? pair : pair >> 16);
    }
  }

  // Codes; that of a zero does not count. No element is subnormal, and the quantizer has
  // levels. `dither` is read if rounding is stochastic.
  template <bool kStochastic, typename T>
  static void Quantize(const T* x, int count, const Quantizer& quantizer,
                       const uint16_t* dither, uint16_t* codes) {
    for (int i = 0; i < count; ++i) {
      const int32_t dither16 = kStochastic ? dither[i] : group_quant::kHalf16;
      const uint32_t code =
          IsNonzero(x[i]) ? EncodeOne(ToFloatBits(x[i]), quantizer, dither16) : 0;
      codes[i] = static_cast<uint16_t>(code);
    }
  }

  // Codes of nonzeros count from 1, and their top bits take the place of the bitmap.
  static void SplitDense(uint16_t* codes, uint32_t* words, int blocks, int code_bits) {
    const int top = code_bits - 1;
    for (int block = 0; block < blocks; ++block, codes += kBlock) {
      uint32_t tops = 0;
      for (int i = 0; i < kBlock; ++i) {
        const uint32_t code = (words[block] >> i & 1u) != 0 ? codes[i] + 1u : 0u;
        tops |= (code >> top) << i;
        codes[i] = static_cast<uint16_t>(code & ((1u << top) - 1));
      }
      words[block] = tops;
    }
  }

  // The other way: words of nonzeros, and codes that count from 0 (65535 where there is none).
  static void JoinDense(uint16_t* codes, uint32_t* words, int blocks, int code_bits) {
    for (int block = 0; block < blocks; ++block, codes += kBlock) {
      uint32_t nonzeros = 0;
      for (int i = 0; i < kBlock; ++i) {
        const uint32_t code = codes[i] | (words[block] >> i & 1u) << (code_bits - 1);
        nonzeros |= uint32_t{code != 0} << i;
        codes[i] = static_cast<uint16_t>(code - 1);
      }
      words[block] = nonzeros;
    }
  }

  static void StorePlanes(const uint16_t* codes, int blocks, int planes, uint8_t* out) {
    for (int block = 0; block < blocks; ++block, codes += kBlock) {
      alignas(32) uint8_t low[kBlock], high[kBlock];
      for (int i = 0; i < kBlock; ++i) {
        low[i] = static_cast<uint8_t>(codes[i]);
        high[i] = static_cast<uint8_t>(codes[i] >> 8);
      }
      for (int j = 0; j < planes; ++j, out += 4) {
        StoreWord(out, j < 8 ? BytePlane(low, j) : BytePlane(high, j - 8));
      }
    }
  }

  static void LoadPlanes(const uint8_t* in, int blocks, int planes, uint16_t* codes) {
    memset(codes, 0, blocks * kBlock * sizeof(uint16_t));
    for (int block = 0; block < blocks; ++block, codes += kBlock) {
      for (int j = 0; j < planes; ++j, in += 4) {
        const uint32_t word = LoadWord(in);
        for (int i = 0; i < kBlock; ++i) {
          codes[i] = static_cast<uint16_t>(codes[i] | (word >> i & 1u) << j);
        }
      }
    }
  }

  // Returns how many codes the bitmap took.
  template <bool kBypass, typename T>
  static int DecodeSparse(const uint16_t* codes, const uint32_t* words, int blocks,
                          GroupScale scale, T* out) {
    int next = 0;
    for (int i = 0; i < blocks * kBlock; ++i) {
      const bool is_nonzero = (words[i / kBlock] >> i % kBlock & 1u) != 0;
      out[i] = T{};
      if (is_nonzero) FromFloat(group_quant::DecodeOne(codes[next++], scale), out + i);
    }
    return next;
  }

  template <bool kBypass, typename T>
  static void DecodeDense(const uint16_t* codes, const uint32_t* words, int blocks,
                          GroupScale scale, T* out) {
    for (int i = 0; i < blocks * kBlock; ++i) {
      const bool is_nonzero = (words[i / kBlock] >> i % kBlock & 1u) != 0;
      out[i] = T{};
      if (is_nonzero) FromFloat(group_quant::DecodeOne(codes[i], scale), out + i);
    }
  }
};

}  // namespace epmc::sparse_fixed_rate

#endif  // EPMC_SPARSE_FIXED_RATE_SCALAR_H_
