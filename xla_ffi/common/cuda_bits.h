// Bits of the elements that a warp loads 16 bytes at a time, and words of 32 elements.
#ifndef EPMC_COMMON_CUDA_BITS_H_
#define EPMC_COMMON_CUDA_BITS_H_

#include <cstdint>

#include "xla_ffi/common/cuda_memory.h"
#include "xla_ffi/common/layout.h"

namespace epmc {

// Load j of lane l covers elements (32 * j + l) * kElements ... of a tile, so the loads of a
// warp touch each sector once. `fields` has a bit for each of the lane's 32 elements, those
// of a load side by side. Lane b gets the word of block b of the tile, which is 32 /
// kElements neighbouring lanes' fields of load b / kElements.
template <int kElements>
__device__ __forceinline__ uint32_t WordOfLane(uint32_t fields, int lane) {
  constexpr int kLoads = kBlock / kElements;
  uint32_t word = 0;
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    const uint32_t other = __shfl_sync(kAllLanes, fields, lane % kElements * kLoads + i);
    const uint32_t field = other >> (lane / kElements * kElements) & ((1u << kElements) - 1);
    word |= field << (i * kElements);
  }
  return word;
}

// Bit i of the lowest four to byte i, as 0 or 1: the multiplication puts copies of the four
// bits at distance 7, so that bit i is also at 8 * i.
__device__ __forceinline__ uint32_t BytesOfBits(uint32_t bits) {
  return (bits & 15u) * 0x00204081u & 0x01010101u;
}

}  // namespace epmc

#endif  // EPMC_COMMON_CUDA_BITS_H_
