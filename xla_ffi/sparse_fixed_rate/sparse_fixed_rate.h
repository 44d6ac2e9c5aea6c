// SparseFixedRate, one pool or one value at a time: the only definition of the bytes.
// docs/formats.md has the derivation.
#ifndef EPMC_SPARSE_FIXED_RATE_SPARSE_FIXED_RATE_H_
#define EPMC_SPARSE_FIXED_RATE_SPARSE_FIXED_RATE_H_

#include <cstdint>

#include "xla_ffi/common/float_types.h"
#include "xla_ffi/common/host_device.h"
#include "xla_ffi/common/layout.h"
#include "xla_ffi/group_quant/group_quant.h"

namespace epmc::sparse_fixed_rate {

using group_quant::GroupScale;

constexpr int kPool = 16384;  // elements
constexpr int kMinGroupSize = 64;
constexpr int kMaxGroupSize = 1024;
constexpr int kMaxPoolGroups = kPool / kMinGroupSize;
constexpr int kMaxCodeBits = 16;
constexpr uint32_t kDenseFlag = 0x80000000u;  // of a step

struct Format {
  int group_size;
  int64_t payload_nbytes;  // of a full pool
};

EPMC_HD int64_t PayloadNbytes(const Format& format, int64_t elements) {
  return Round16(CeilDiv(format.payload_nbytes * elements, kPool));
}

// Where the parts of a row of `elements` elements are, in bytes.
struct RowLayout {
  int64_t groups;
  int64_t pools;
  int64_t lo_offset;
  int64_t step_offset;
  int64_t values_offset;
  int64_t nbytes;
};

EPMC_HD RowLayout LayoutOf(int64_t elements, const Format& format) {
  RowLayout layout;
  layout.groups = CeilDiv(elements, format.group_size);
  layout.pools = CeilDiv(elements, kPool);
  layout.lo_offset = Round16(4 * NumBlocks(elements));
  layout.step_offset = layout.lo_offset + Round16(4 * layout.groups);
  layout.values_offset = layout.step_offset + Round16(4 * layout.groups);
  const int64_t rest = elements % kPool;
  layout.nbytes = layout.values_offset + elements / kPool * format.payload_nbytes +
                  PayloadNbytes(format, rest);
  return layout;
}

EPMC_HD int BlocksOf(int values) { return (values + kBlock - 1) / kBlock; }

// True if all nonzeros fit as they are, in `words` words.
EPMC_HD bool IsExact(int nonzeros, int value_bits, int words) {
  return BlocksOf(nonzeros) * value_bits <= words;
}

// True if a group of `elements` elements does better without a bitmap.
EPMC_HD bool IsDense(int nonzeros, int elements, int pool_elements, int words) {
  return static_cast<int64_t>(nonzeros) * (32 * words + pool_elements) >
         static_cast<int64_t>(elements) * 32 * words;
}

// How a pool spends its words: the groups below `wide_groups`, with `wide_values` values,
// have planes + 1 bits per value, the others `planes`.
struct Widths {
  int planes;
  int wide_groups;
  int wide_values;

  EPMC_HD int PlanesOf(int group) const { return planes + (group < wide_groups); }
  EPMC_HD int WideBlocks() const { return BlocksOf(wide_values); }
  // First word of a block, counted through both streams.
  EPMC_HD int FirstWord(int block) const {
    return block * planes + (block < WideBlocks() ? block : WideBlocks());
  }
};

EPMC_HD int MostPlanes(int value_bits) {
  return value_bits == 32 ? kMaxCodeBits : kMaxCodeBits - 1;
}

// True if `before` of `total` values can have a bit more than the `planes` of the others.
EPMC_HD bool FitsWide(int before, int total, int planes, int words) {
  return BlocksOf(before) * (planes + 1) + BlocksOf(total - before) * planes <= words;
}

// `values`: of each of the pool's groups.
EPMC_HD Widths WidthsOf(const int* values, int groups, int words, int value_bits) {
  const int most = MostPlanes(value_bits);
  int total = 0;
  for (int i = 0; i < groups; ++i) total += values[i];
  const int blocks = BlocksOf(total);
  Widths widths = {words / (blocks > 0 ? blocks : 1), 0, 0};
  if (widths.planes >= most) return {most, 0, 0};
  int before = 0;
  for (int group = 0; group < groups; ++group) {
    if (FitsWide(before, total, widths.planes, words)) {
      widths.wide_groups = group;
      widths.wide_values = before;
    }
    before += values[group];
  }
  return widths;
}

EPMC_HD int CodeBits(int planes, bool is_dense) {
  const int bits = planes + (is_dense ? 1 : 0);
  return bits < kMaxCodeBits ? bits : kMaxCodeBits;
}

EPMC_HD int LevelsOf(int code_bits, bool is_dense) {
  return (1 << code_bits) - 1 - (is_dense ? 1 : 0);
}

// Nonzeros stay nonzero: a subnormal one counts as the smallest normal number of its sign.
EPMC_HD uint32_t NormalBits(uint32_t bits) {
  return (bits & kExponentMask) == 0 ? (bits & 0x80000000u) | 0x00800000u : bits;
}

// 1 / levels, rounded once to float, where there are levels. Neither divided, as what a
// compiler makes of that differs between hosts and devices, nor read from a table, which
// would lie in each GPU thread's local memory: 1 / (2^m - 1) has every m-th bit set.
EPMC_HD float InverseLevels(int code_bits, bool is_dense) {
  const int period = code_bits - (is_dense ? 1 : 0);
  uint32_t mantissa = 1u << 24;  // one bit more than a float has, to round by
  for (int shift = period; shift <= 24; shift *= 2) mantissa |= mantissa >> shift;
  const uint32_t rounded = (mantissa >> 1) + (mantissa & 1u) - (1u << 23);
  // A dense group has 2 (2^m - 1) levels.
  return BitsToFloat((static_cast<uint32_t>(127 - code_bits) << 23) + rounded);
}

// `lo_key`, `hi_key`: smallest and largest OrderedKey of the group's nonzeros, as
// NormalBits. The flag of dense groups is not in the step.
EPMC_HD GroupScale ScaleOf(int32_t lo_key, int32_t hi_key, int code_bits, bool is_dense) {
  constexpr float kMaxRange = 0x1p126f;
  constexpr float kMinRange = 0x1p-100f;
  constexpr int32_t kInfKey = 0x7f800000;
  const bool is_finite = hi_key < kInfKey && lo_key > ~kInfKey;
  const float lo = group_quant::KeyToFloat(lo_key);
  const float range = group_quant::KeyToFloat(hi_key) - lo;
  if (!is_finite || !(range <= kMaxRange)) return {BitsToFloat(kQuietNan), 0.0f};
  if (range < kMinRange) return {lo, 0.0f};
  if (LevelsOf(code_bits, is_dense) <= 0) return {lo + 0.5f * range, 0.0f};
  // As many significant bits as keep code * step exact.
  const uint32_t below = (1u << (code_bits > 8 ? code_bits : 8)) - 1;
  const uint32_t bits = FloatBits(range * InverseLevels(code_bits, is_dense));
  return {lo, BitsToFloat((bits + below) & ~below)};
}

// What turns the values of one group into codes.
struct Quantizer {
  GroupScale scale;
  float inverse;
  int digits;
  int32_t levels;
};

EPMC_HD Quantizer QuantizerOf(GroupScale scale, int code_bits, bool is_dense) {
  const int digits = 24 - code_bits < 16 ? 24 - code_bits : 16;
  const uint32_t exponent = static_cast<uint32_t>(16 - digits) << 23;
  const bool is_flat = scale.step == 0.0f;
  const float step = is_flat ? 0.0f : BitsToFloat(FloatBits(scale.step) + exponent);
  return {scale, group_quant::InverseStep16(step), digits,
          is_flat ? 0 : LevelsOf(code_bits, is_dense)};
}

// `bits`: NormalBits of a nonzero; `dither16` in 2^-16 of a step.
EPMC_HD uint32_t EncodeOne(uint32_t bits, const Quantizer& quantizer, int32_t dither16) {
  // With a step of 0 the element may be NaN, which converts to anything.
  if (quantizer.levels == 0) return 0;
  const float scaled = (BitsToFloat(bits) - quantizer.scale.lo) * quantizer.inverse;
  const int32_t dither = dither16 >> (16 - quantizer.digits);
  const int32_t code = (static_cast<int32_t>(scaled) + dither) >> quantizer.digits;
  return static_cast<uint32_t>(code < quantizer.levels ? code : quantizer.levels);
}

}  // namespace epmc::sparse_fixed_rate

#endif  // EPMC_SPARSE_FIXED_RATE_SPARSE_FIXED_RATE_H_
