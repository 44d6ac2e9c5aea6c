// What the vectorised kernels of GroupQuant share, whatever the width of their registers.
#ifndef EPMC_GROUP_QUANT_GROUP_QUANT_SIMD_H_
#define EPMC_GROUP_QUANT_GROUP_QUANT_SIMD_H_

#include <cstdint>

namespace epmc::group_quant {

constexpr int kPrefetchGroups = 16;  // of encoded groups, 8 to 32 are equally good

// Below, elements must be flushed one by one (65536 / step is 2^84 and more).
constexpr float kSmallestFastStep = 0x1p-68f;

// Smallest and largest element of a group, as OrderedKey of their flushed bits. Flushing
// keeps the order, so it is done once, at the end.
struct KeyRange {
  int32_t lo;
  int32_t hi;
};

}  // namespace epmc::group_quant

#endif  // EPMC_GROUP_QUANT_GROUP_QUANT_SIMD_H_
