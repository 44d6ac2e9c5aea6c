// What CPU kernels of SparseFixedRate keep of one pool while they work on it.
#ifndef EPMC_SPARSE_FIXED_RATE_WORKSPACE_H_
#define EPMC_SPARSE_FIXED_RATE_WORKSPACE_H_

#include <cstdint>

#include "xla_ffi/common/float_types.h"
#include "xla_ffi/sparse_fixed_rate/pool.h"

namespace epmc::sparse_fixed_rate {

// Vectors are written whole: up to this many elements behind the last one that counts.
constexpr int kSlack = 2 * kBlock;
// Codes of a pool in the order of their streams, each of which ends with a whole block.
constexpr int kMaxCodes = kPool + 2 * kBlock;

// One pool on its way, in the first two caches.
struct Workspace {
  alignas(64) uint16_t codes[kMaxCodes + kSlack];
  alignas(64) uint32_t bitmap[kPool / kBlock];
  alignas(64) F32 raw[kPool + kSlack];  // values that are stored as they are
  // Of one group:
  alignas(64) F32 padded[kMaxGroupSize];  // its elements, if they do not fill their blocks
  alignas(64) F32 widened[kMaxGroupSize + kSlack];
  alignas(64) uint16_t dither[kMaxGroupSize + kSlack];
};

struct Group {
  int first;  // element of the pool
  int elements;
  int blocks;
};

inline Group GroupOf(const Place& at, int group, int group_size) {
  const int elements = ElementsOf(at, group, group_size);
  return {group * group_size, elements, static_cast<int>(NumBlocks(elements))};
}

}  // namespace epmc::sparse_fixed_rate

#endif  // EPMC_SPARSE_FIXED_RATE_WORKSPACE_H_
