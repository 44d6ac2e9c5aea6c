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
