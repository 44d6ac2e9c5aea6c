// The floating-point types of arrays, as bytes, and their exact conversions.
//
// Integer arithmetic only: no dependence on rounding mode, flushing of subnormals, or on
// what the compiler's half-precision types do.
#ifndef EPMC_COMMON_FLOAT_TYPES_H_
#define EPMC_COMMON_FLOAT_TYPES_H_

#include <cstdint>
#include <cstring>

#include "xla_ffi/common/host_device.h"

namespace epmc {

EPMC_HD uint32_t FloatBits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof(bits));
  return bits;
}

EPMC_HD float BitsToFloat(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof(x));
  return x;
}

constexpr uint32_t kExponentMask = 0x7f800000u;
constexpr uint32_t kQuietNan = 0x7fc00000u;

enum class FloatType { kF32, kBf16, kF16 };

struct F32 {
  float value;
};
struct Bf16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

EPMC_HD uint32_t ToFloatBits(F32 x) { return FloatBits(x.value); }

EPMC_HD uint32_t ToFloatBits(Bf16 x) { return static_cast<uint32_t>(x.bits) << 16; }

// A subnormal half is normal as float: its exponent is that of a subtraction of 2^-14.
EPMC_HD uint32_t ToFloatBits(F16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(x.bits & 0x7fffu) << 13;
  const uint32_t exponent = magnitude & 0x0f800000u;
  const uint32_t normal = magnitude + 0x38000000u;
  const uint32_t special = magnitude + 0x70000000u;
  const uint32_t subnormal =
      FloatBits(BitsToFloat(magnitude + 0x38800000u) - BitsToFloat(0x38800000u));
  const uint32_t finite = exponent == 0 ? subnormal : normal;
  return sign | (exponent == 0x0f800000u ? special : finite);
}

// Rounds to nearest, ties to even, as XLA's convert does.
EPMC_HD void FromFloat(float x, F32* out) { out->value = x; }

EPMC_HD void FromFloat(float x, Bf16* out) {
  const uint32_t bits = FloatBits(x);
  const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  const uint32_t nan = (bits >> 16) | 0x40u;
  out->bits = static_cast<uint16_t>((bits & 0x7fffffffu) > kExponentMask ? nan : rounded);
}

EPMC_HD void FromFloat(float x, F16* out) {
  const uint32_t bits = FloatBits(x);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t odd = magnitude >> 13 & 1u;
  const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + odd) >> 13;
  // Below 2^-14 the sum with 0.5 rounds at the unit of a subnormal half, 2^-24.
  const uint32_t subnormal = FloatBits(BitsToFloat(magnitude) + 0.5f) - 0x3f000000u;
  const uint32_t nan = 0x7e00u | (magnitude >> 13 & 0x3ffu);
  uint32_t half = magnitude < 0x38800000u ? subnormal : normal;
  half = magnitude >= 0x47800000u ? 0x7c00u : half;
  half = magnitude > kExponentMask ? nan : half;
  out->bits = static_cast<uint16_t>(sign | half);
}

// What is below the smallest normal float becomes +0, by its bits: whether the processor
// flushes subnormals must not show in the result. -0 becomes +0 too.
EPMC_HD uint32_t FlushedBits(uint32_t bits) { return (bits & kExponentMask) == 0 ? 0 : bits; }

}  // namespace epmc

#endif  // EPMC_COMMON_FLOAT_TYPES_H_
