// Operations on floats that a GPU has as one instruction, and C++ has not.
#ifndef EPMC_COMMON_CUDA_FLOATS_H_
#define EPMC_COMMON_CUDA_FLOATS_H_

#include <cmath>

#include "xla_ffi/common/cuda_kernel.h"
#include "xla_ffi/common/float_types.h"

namespace epmc {

#if defined(__CUDA_ARCH__)

// NaN if one is NaN.
__device__ __forceinline__ float NanMin(float a, float b) {
  float least;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(least) : "f"(a), "f"(b));
  return least;
}
__device__ __forceinline__ float NanMax(float a, float b) {
  float most;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(most) : "f"(a), "f"(b));
  return most;
}
// a - b of the flushed numbers, and a subnormal difference flushed.
__device__ __forceinline__ float SubtractFlushed(float a, float b) {
  float difference;
  asm("sub.rn.ftz.f32 %0, %1, %2;" : "=f"(difference) : "f"(a), "f"(b));
  return difference;
}
// Towards zero; 0 for NaN.
__device__ __forceinline__ int32_t TruncatedOr0(float x) { return static_cast<int32_t>(x); }

#else

__device__ __forceinline__ float NanMin(float a, float b) {
  if (std::isnan(a) || std::isnan(b)) return BitsToFloat(kQuietNan);
  return b < a ? b : a;
}
__device__ __forceinline__ float NanMax(float a, float b) {
  if (std::isnan(a) || std::isnan(b)) return BitsToFloat(kQuietNan);
  return b > a ? b : a;
}
__device__ __forceinline__ float SubtractFlushed(float a, float b) {
  const auto flushed = [](float x) { return BitsToFloat(FlushedBits(FloatBits(x))); };
  return flushed(flushed(a) - flushed(b));
}
__device__ __forceinline__ int32_t TruncatedOr0(float x) {
  return std::isnan(x) ? 0 : static_cast<int32_t>(x);
}

#endif

}  // namespace epmc

#endif  // EPMC_COMMON_CUDA_FLOATS_H_
