// BitMask: one bit per element, element i of a block is bit i of its 32-bit word.
#ifndef EPMC_BIT_MASK_BIT_MASK_H_
#define EPMC_BIT_MASK_BIT_MASK_H_

#include <cstdint>

#include "xla_ffi/common/float_types.h"
#include "xla_ffi/common/host_device.h"
#include "xla_ffi/common/layout.h"

namespace epmc::bit_mask {

EPMC_HD int64_t RowNbytes(int64_t elements) { return Round16(4 * NumBlocks(elements)); }

// The mask of an element, 0 or 1: true for booleans, above 0 for floats, so false for NaN.
EPMC_HD uint32_t IsSet(uint8_t x) { return x != 0; }

// Between +0 and +inf, of the bits: as signed integers the negative numbers are below 0.
EPMC_HD uint32_t IsSet(F32 x) {
  const int32_t bits = static_cast<int32_t>(FloatBits(x.value));
  return bits > 0 && bits <= 0x7f800000;
}

EPMC_HD uint32_t IsSet(Bf16 x) {
  const int16_t bits = static_cast<int16_t>(x.bits);
  return bits > 0 && bits <= 0x7f80;
}

EPMC_HD uint32_t IsSet(F16 x) {
  const int16_t bits = static_cast<int16_t>(x.bits);
  return bits > 0 && bits <= 0x7c00;
}

EPMC_HD uint8_t BitOf(uint32_t word, int i) { return static_cast<uint8_t>(word >> i & 1u); }

}  // namespace epmc::bit_mask

#endif  // EPMC_BIT_MASK_BIT_MASK_H_
