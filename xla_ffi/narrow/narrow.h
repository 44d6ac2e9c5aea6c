// Narrow, one element or one group at a time: the only definition of the bytes.
//
// Products are with powers of two, sums round once: neither a fused multiply-add nor a
// processor that flushes subnormals changes a bit. docs/formats.md has the derivation.
#ifndef EPMC_NARROW_NARROW_H_
#define EPMC_NARROW_NARROW_H_

#include <cstdint>

#include "xla_ffi/common/float_types.h"
#include "xla_ffi/common/host_device.h"
#include "xla_ffi/common/layout.h"

namespace epmc::narrow {

constexpr int kMinGroupSize = 32;
constexpr int kMaxGroupSize = 1024;
constexpr int kFloatMantissaBits = 23;
constexpr int kFloatBias = 127;

// What a value is kept as. `kTopMantissa`: the largest mantissa, in float32's 23 bits, with
// which a number of the top binade still rounds to the largest finite value.
struct AsBf16 {
  static constexpr int kNbytes = 2;
  static constexpr bool kHasScale = false;
};

struct AsE4m3fn {
  static constexpr int kNbytes = 1;
  static constexpr bool kHasScale = true;
  static constexpr int kMantissaBits = 3;
  static constexpr int kBias = 7;
  static constexpr int kTopExponent = 8;              // 448 = 1.75 * 2^8
  static constexpr uint32_t kTopMantissa = 0x680000;  // 464 = 1.8125 * 2^8 ties to 448
  static constexpr uint32_t kInf = 0x7f;              // there is none: NaN
  static constexpr uint32_t kNan = 0x7f;
};

struct AsE5m2 {
  static constexpr int kNbytes = 1;
  static constexpr bool kHasScale = true;
  static constexpr int kMantissaBits = 2;
  static constexpr int kBias = 15;
  static constexpr int kTopExponent = 15;             // 57344 = 1.75 * 2^15
  static constexpr uint32_t kTopMantissa = 0x6fffff;  // 61440 = 1.875 * 2^15 ties to 65536
  static constexpr uint32_t kInf = 0x7c;
  static constexpr uint32_t kNan = 0x7e;
};

// Where the parts of a row of `elements` elements are, in bytes.
struct RowLayout {
  int64_t groups;
  int64_t values_nbytes;  // without padding
  int64_t exponents_offset;
  int64_t nbytes;
};

EPMC_HD RowLayout LayoutOf(int64_t elements, int value_nbytes, int group_size) {
  RowLayout layout;
  layout.groups = CeilDiv(elements, group_size);
  layout.values_nbytes = elements * value_nbytes;
  layout.exponents_offset = Round16(layout.values_nbytes);
  const int64_t exponents = value_nbytes == 1 ? Round16(layout.groups) : 0;
  layout.nbytes = layout.exponents_offset + exponents;
  return layout;
}

// The largest finite number of an array's type, as the bits of a float.
EPMC_HD uint32_t LargestFinite(F32) { return 0x7f7fffffu; }
EPMC_HD uint32_t LargestFinite(Bf16) { return 0x7f7f0000u; }
EPMC_HD uint32_t LargestFinite(F16) { return 0x477fe000u; }

// What the maximum over a group is taken of: 0 for NaN and infinity.
EPMC_HD uint32_t FiniteMagnitude(uint32_t bits) {
  const uint32_t magnitude = bits & 0x7fffffffu;
  return magnitude < kExponentMask ? magnitude : 0;
}

// With an exponent below it the smallest subnormal value would decode to less than 2^-126.
template <typename As>
constexpr int kMinExponent = As::kBias + As::kMantissaBits;

// The exponent byte E of a group, of its largest finite magnitude m (the bits of a float):
// its elements are kept divided by 2^(E - 127).
//
// Nothing is ever above the largest finite value: let m = f * 2^k, 1 <= f < 2. Where f is
// at most the top mantissa, m becomes f * 2^kTopExponent, and that rounds to at most the
// largest finite value. Else the sum carries into the exponent, and m becomes
// f / 2 * 2^kTopExponent, below the top binade. Rounding is monotonic, so smaller elements
// stay below, and kMinExponent can only make them all smaller. E is at most 247.
template <typename As>
EPMC_HD int ExponentOf(uint32_t max_magnitude) {
  const uint32_t carried = max_magnitude + (0x7fffffu - As::kTopMantissa);
  const int exponent = static_cast<int>(carried >> kFloatMantissaBits) - As::kTopExponent;
  return exponent < kMinExponent<As> ? kMinExponent<As> : exponent;
}

// 2^(127 - E), for the E of an encoder: from 2^-120 to 2^117.
EPMC_HD float InverseScale(int exponent) {
  return BitsToFloat(static_cast<uint32_t>(2 * kFloatBias - exponent) << kFloatMantissaBits);
}

// 2^(E - 127). No encoder writes an E for which this is too small or too large: bytes that
// none wrote decode as the nearest E that one does, to numbers as good as any.
template <typename As>
EPMC_HD float ScaleOf(uint8_t exponent) {
  const int least = exponent < kMinExponent<As> ? kMinExponent<As> : exponent;
  const int clamped = least > 254 ? 254 : least;
  return BitsToFloat(static_cast<uint32_t>(clamped) << kFloatMantissaBits);
}

// `bits`: of a float; `inverse`: the group's. The number y = |x| / 2^(E - 127) is added to
// the power of two whose unit is that of y's binade, or of the subnormal values: the sum
// rounds y to nearest, ties to even, and what it has gained is the count of units.
template <typename As>
EPMC_HD uint8_t EncodeOne(uint32_t bits, float inverse) {
  constexpr int kShift = kFloatMantissaBits - As::kMantissaBits;
  constexpr uint32_t kLeast = static_cast<uint32_t>(kFloatBias + 1 - As::kBias)
                              << kFloatMantissaBits;
  const uint32_t magnitude = bits & 0x7fffffffu;
  const float y = BitsToFloat(FlushedBits(magnitude)) * inverse;
  const uint32_t own = FloatBits(y) & kExponentMask;
  const uint32_t binade = own < kLeast ? kLeast : own;
  const uint32_t power = binade + (static_cast<uint32_t>(kShift) << kFloatMantissaBits);
  const uint32_t units = FloatBits(y + BitsToFloat(power)) - power;
  const uint32_t finite = ((binade - kLeast) >> kShift) + units;
  const uint32_t special = magnitude > kExponentMask ? As::kNan : As::kInf;
  const uint32_t code = magnitude < kExponentMask ? finite : special;
  return static_cast<uint8_t>((bits >> 24 & 0x80u) | code);
}

// The bits of a float; `largest`: LargestFinite of the array's type, which rounding may
// have gone beyond.
template <typename As>
EPMC_HD uint32_t DecodeOne(uint8_t code, float scale, uint32_t largest) {
  constexpr uint32_t kLeast = static_cast<uint32_t>(kFloatBias + 1 - As::kBias)
                              << kFloatMantissaBits;
  const uint32_t sign = static_cast<uint32_t>(code & 0x80u) << 24;
  const uint32_t magnitude = code & 0x7fu;
  const uint32_t shifted = magnitude << (kFloatMantissaBits - As::kMantissaBits);
  const uint32_t normal = shifted + kLeast - 0x800000u;
  const uint32_t subnormal = FloatBits(BitsToFloat(shifted + kLeast) - BitsToFloat(kLeast));
  const uint32_t value = shifted < 0x800000u ? subnormal : normal;
  const uint32_t scaled = FloatBits(BitsToFloat(value) * scale);
  const uint32_t finite = scaled < largest ? scaled : largest;
  const uint32_t special = magnitude == As::kInf && As::kInf != As::kNan ? kExponentMask
                                                                         : kQuietNan;
  return sign | (magnitude < As::kInf ? finite : special);
}

// bfloat16: NaN stays NaN, and what rounds beyond the largest number becomes infinite.
EPMC_HD Bf16 EncodeBf16(uint32_t bits) {
  Bf16 value;
  FromFloat(BitsToFloat(bits), &value);
  return value;
}

EPMC_HD uint32_t DecodeBf16(Bf16 value, uint32_t largest) {
  const uint32_t bits = ToFloatBits(value);
  const uint32_t magnitude = bits & 0x7fffffffu;
  const bool is_beyond = magnitude > largest && magnitude < kExponentMask;
  return is_beyond ? (bits & 0x80000000u) | largest : bits;
}

}  // namespace epmc::narrow

#endif  // EPMC_NARROW_NARROW_H_
