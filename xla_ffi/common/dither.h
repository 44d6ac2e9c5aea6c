// Pseudo-random dither: a hash of seed and place, so that no state is kept between calls.
#ifndef EPMC_COMMON_DITHER_H_
#define EPMC_COMMON_DITHER_H_

#include <cstdint>

#include "xla_ffi/common/host_device.h"

namespace epmc {

// lowbias32 of Chris Wellons: bias 0.17 over all 32-bit inputs, two multiplications.
EPMC_HD uint32_t Mix(uint32_t x) {
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  x ^= x >> 16;
  return x;
}

EPMC_HD uint32_t RotateLeft16(uint32_t x) { return x << 16 | x >> 16; }

// 2^32 / golden ratio: consecutive pairs are far apart before they are mixed.
EPMC_HD uint32_t DitherOfPair(uint32_t key, uint32_t pair) {
  return Mix(key + pair * 0x9e3779b9u);
}

}  // namespace epmc

#endif  // EPMC_COMMON_DITHER_H_
