// What the vectorised kernels of Narrow share, whatever the width of their registers.
#ifndef EPMC_NARROW_NARROW_SIMD_H_
#define EPMC_NARROW_NARROW_SIMD_H_

#include <cstdint>

#include "xla_ffi/common/float_types.h"
#include "xla_ffi/narrow/narrow.h"

namespace epmc::narrow {

// The largest magnitude of a group, and whether all of it is finite.
struct GroupRange {
  uint32_t largest;  // as the bits of a float
  bool is_finite;
};

// Numbers below 2^-126 count as 0, and of most groups need not be set to it: with an exponent
// above the least one, they are less than half of the smallest value.
template <typename As>
EPMC_HD bool FlushesByRounding(int exponent, uint32_t largest) {
  return exponent > kMinExponent<As> || largest == 0;
}

// `EncodeOne` of finite numbers, in fewer steps: the lowest 8 bits of
//
//   bits(y + power) + (binade >> kShift) - kFirst,
//
// without the sign. The power of two and the binade have no bits as low as these.
template <typename As>
struct Rounding {
  static constexpr int kShift = kFloatMantissaBits - As::kMantissaBits;
  static constexpr int kLeast = (kFloatBias + 1 - As::kBias) << kFloatMantissaBits;
  static constexpr int kPower = kShift << kFloatMantissaBits;  // beyond the binade
  static constexpr int8_t kFirst = static_cast<int8_t>(kLeast >> kShift & 0xff);
};

// Whether a group's largest value fits into the array's type without a clamp: that value is
// 1.75 * 2^kTopExponent in both formats.
template <typename As, typename T>
EPMC_HD bool FitsInto(uint8_t exponent) {
  const int top = static_cast<int>(LargestFinite(T{}) >> kFloatMantissaBits);
  return exponent >= kMinExponent<As> && exponent <= top - As::kTopExponent;
}

// Codes are read as float16, which has the exponent of e5m2, and one bit more than that of
// e4m3fn: there, the numbers are 2^-8 of what they should be.
template <typename As>
EPMC_HD float ScaleOfFloat16(uint8_t exponent) {
  return ScaleOf<As>(exponent) * (As::kMantissaBits == 3 ? 256.0f : 1.0f);
}

}  // namespace epmc::narrow

#endif  // EPMC_NARROW_NARROW_SIMD_H_
