// IntPack: w bit planes per block of 32 integers; word k holds bit k of all 32.
#ifndef EPMC_INT_PACK_INT_PACK_H_
#define EPMC_INT_PACK_INT_PACK_H_

#include <cstdint>

#include "xla_ffi/common/host_device.h"
#include "xla_ffi/common/layout.h"

namespace epmc::int_pack {

constexpr int kMaxBitWidth = 32;

EPMC_HD int64_t RowNbytes(int64_t elements, int bit_width) {
  return Round16(4 * bit_width * NumBlocks(elements));
}

// Word `plane` of a block; elements from `count` on are zero.
template <typename T>
EPMC_HD uint32_t PlaneOf(const T* x, int count, int plane) {
  uint32_t word = 0;
  for (int i = 0; i < count; ++i) word |= (static_cast<uint32_t>(x[i]) >> plane & 1u) << i;
  return word;
}

EPMC_HD uint32_t ValueOf(const uint32_t* words, int bit_width, int i) {
  uint32_t value = 0;
  for (int plane = 0; plane < bit_width; ++plane) value |= (words[plane] >> i & 1u) << plane;
  return value;
}

// The elements of a block that are equal to `value`, one bit each.
EPMC_HD uint32_t EqualTo(const uint32_t* words, int bit_width, uint32_t value) {
  uint32_t equal = ~0u;
  for (int plane = 0; plane < bit_width; ++plane) {
    equal &= (value >> plane & 1u) != 0 ? words[plane] : ~words[plane];
  }
  return equal;
}

}  // namespace epmc::int_pack

#endif  // EPMC_INT_PACK_INT_PACK_H_
