// GroupQuant, one element or one group at a time: the only definition of the bytes.
//
// Every step is exact or rounded once, so that neither a fused multiply-add nor a
// processor that flushes subnormals changes a bit. docs/formats.md has the derivation.
#ifndef EPMC_GROUP_QUANT_GROUP_QUANT_H_
#define EPMC_GROUP_QUANT_GROUP_QUANT_H_

#include <cstdint>

#include "xla_ffi/common/dither.h"
#include "xla_ffi/common/float_types.h"
#include "xla_ffi/common/host_device.h"
#include "xla_ffi/common/layout.h"

namespace epmc::group_quant {

constexpr int kMinGroupSize = 32;
constexpr int kMaxGroupSize = 1024;
constexpr int32_t kHalf16 = 32768;  // dither of rounding to nearest, in 2^-16 of a step

// The top bit of an odd number of bits is in a plane, a word per block. The bits below it are
// in fields, several to a byte. 3 bits are two parts of a row, and not 12 bytes per block:
// both then have the alignment of 2 bits and of 1.
EPMC_HD constexpr int PlaneBits(int bit_width) { return bit_width % 2; }
EPMC_HD constexpr int FieldBits(int bit_width) { return bit_width - PlaneBits(bit_width); }

// Where the parts of a row of `elements` elements are, in bytes. The fields are at 0.
struct RowLayout {
  int64_t groups;
  int64_t plane_offset;
  int64_t lo_offset;
  int64_t step_offset;
  int64_t nbytes;
};

EPMC_HD RowLayout LayoutOf(int64_t elements, int bit_width, int group_size) {
  RowLayout layout;
  layout.groups = CeilDiv(elements, group_size);
  const int64_t plane = NumBlocks(elements) * 4;
  layout.plane_offset = Round16(plane * FieldBits(bit_width));
  layout.lo_offset = layout.plane_offset + Round16(plane * PlaneBits(bit_width));
  layout.step_offset = layout.lo_offset + Round16(4 * layout.groups);
  layout.nbytes = layout.step_offset + Round16(4 * layout.groups);
  return layout;
}

// The bytes between the parts. They are zero: equal arrays have equal rows.
struct RowPadding {
  static constexpr int kParts = 4;
  int64_t begin[kParts];
  int64_t end[kParts];
};

EPMC_HD RowPadding PaddingOf(const RowLayout& layout, int64_t elements, int bit_width) {
  const int64_t plane = NumBlocks(elements) * 4;
  const int64_t scales = 4 * layout.groups;
  return {{plane * FieldBits(bit_width), layout.plane_offset + plane * PlaneBits(bit_width),
           layout.lo_offset + scales, layout.step_offset + scales},
          {layout.plane_offset, layout.lo_offset, layout.step_offset, layout.nbytes}};
}

// Where the codes from element `first` of a row on are, a multiple of 32.
template <typename Byte>
struct CodePlace {
  Byte* fields;
  Byte* plane;
};

template <typename Byte>
EPMC_HD CodePlace<Byte> CodesAt(Byte* row, const RowLayout& layout, int64_t first,
                                int bit_width) {
  return {row + first * FieldBits(bit_width) / 8, row + layout.plane_offset + first / 8};
}

struct GroupScale {
  float lo;
  float step;
};

// Integers ordered as the floats are; integer min and max are vectorised, float ones are
// not without assumptions about NaN. Its own inverse.
EPMC_HD int32_t OrderedKey(uint32_t bits) {
  const int32_t key = static_cast<int32_t>(bits);
  return key ^ ((key >> 31) & 0x7fffffff);
}

EPMC_HD float KeyToFloat(int32_t key) {
  return BitsToFloat(static_cast<uint32_t>(key ^ ((key >> 31) & 0x7fffffff)));
}

// The key of the flushed float. It keeps the order: the least of all keys, flushed, is the
// least of the flushed ones.
EPMC_HD int32_t FlushedKey(int32_t key) {
  return OrderedKey(FlushedBits(FloatBits(KeyToFloat(key))));
}

// 1 / (2^w - 1), rounded once to float.
EPMC_HD float InverseLevels(int bit_width) {
  switch (bit_width) {
    case 1:
      return 1.0f;
    case 2:
      return 1.0f / 3.0f;
    case 3:
      return 1.0f / 7.0f;
    case 4:
      return 1.0f / 15.0f;
    default:
      return 1.0f / 255.0f;
  }
}

// `lo_key`, `hi_key`: smallest and largest OrderedKey of the group's flushed elements.
EPMC_HD GroupScale ScaleOf(int32_t lo_key, int32_t hi_key, int bit_width) {
  constexpr float kMaxRange = 0x1p126f;
  constexpr float kMinRange = 0x1p-100f;
  constexpr int32_t kInfKey = 0x7f800000;
  const bool is_finite = hi_key < kInfKey && lo_key > ~kInfKey;
  const float lo = KeyToFloat(lo_key);
  const float range = KeyToFloat(hi_key) - lo;
  if (!is_finite || !(range <= kMaxRange)) return {BitsToFloat(kQuietNan), 0.0f};
  if (range < kMinRange) return {lo, 0.0f};
  // A step of 16 significant bits: code * step is exact, and so is the sum's only rounding.
  const uint32_t bits = FloatBits(range * InverseLevels(bit_width));
  return {lo, BitsToFloat((bits + 0xffu) & ~0xffu)};
}

// 65536 / step, rounded down to 24 bits; 0 for step 0. Division of integers only: what a
// compiler makes of a float division differs between hosts and devices.
EPMC_HD float InverseStep16(float step) {
  const uint32_t bits = FloatBits(step);
  if (bits == 0) return 0.0f;
  const uint32_t mantissa = ((bits & 0x7fffffu) | 0x800000u) >> 8;
  const uint32_t high = 0x80000000u / mantissa;
  const uint32_t rest = 0x80000000u - high * mantissa;
  const uint32_t quotient = high * 256u + rest * 256u / mantissa;  // 2^39 / mantissa
  const int32_t exponent = static_cast<int32_t>(bits >> 23);
  const uint32_t scaled = FloatBits(static_cast<float>(quotient)) +
                          (static_cast<uint32_t>(119 - exponent) << 23);
  return BitsToFloat(scaled);
}

EPMC_HD uint32_t GroupKey(uint32_t seed, uint32_t group, GroupScale scale) {
  return Mix((seed ^ Mix(group) ^ FloatBits(scale.lo)) +
             RotateLeft16(FloatBits(scale.step)));
}

// `steps16`, `dither16`: in 2^-16 of a step. The clamp is needed: (hi - lo) / step may exceed
// the last code by a rounding, and such a code would spill into its neighbour's bits.
EPMC_HD uint32_t CodeOf(int32_t steps16, int32_t dither16, int32_t levels) {
  const int32_t code = (steps16 + dither16) >> 16;
  return static_cast<uint32_t>(code < levels ? code : levels);
}

// `x`: flushed. A difference below 2^-126 counts as 0, so a processor may flush it.
EPMC_HD uint32_t EncodeOne(float x, float lo, float inv16, int32_t dither16, int32_t levels) {
  return CodeOf(static_cast<int32_t>((x - lo) * inv16), dither16, levels);
}

EPMC_HD float DecodeOne(uint32_t code, GroupScale scale) {
  return scale.lo + static_cast<float>(static_cast<int32_t>(code)) * scale.step;
}

}  // namespace epmc::group_quant

#endif  // EPMC_GROUP_QUANT_GROUP_QUANT_H_
