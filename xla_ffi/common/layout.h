// Sizes shared by all row formats: blocks of 32 elements, parts that start at 16 bytes.
#ifndef EPMC_COMMON_LAYOUT_H_
#define EPMC_COMMON_LAYOUT_H_

#include <cstdint>

#include "xla_ffi/common/host_device.h"

namespace epmc {

constexpr int kBlock = 32;

EPMC_HD int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
EPMC_HD int64_t Round16(int64_t nbytes) { return (nbytes + 15) & ~int64_t{15}; }
EPMC_HD int64_t NumBlocks(int64_t elements) { return CeilDiv(elements, kBlock); }

// Units (blocks, groups) first <= unit < last, numbered through all rows.
struct UnitRange {
  int64_t first;
  int64_t last;
};

}  // namespace epmc

#endif  // EPMC_COMMON_LAYOUT_H_
