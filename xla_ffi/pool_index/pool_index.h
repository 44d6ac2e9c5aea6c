// PoolIndex: which element of its window a max-pool selects, and the gradient from that.
//
// Arrays are [batch, 3 pooled axes, channels]; an axis that is not there has size 1.
#ifndef EPMC_POOL_INDEX_POOL_INDEX_H_
#define EPMC_POOL_INDEX_POOL_INDEX_H_

#include <cstdint>
#include <cstring>

#include "xla_ffi/common/float_types.h"
#include "xla_ffi/common/host_device.h"
#include "xla_ffi/common/layout.h"
#include "xla_ffi/int_pack/int_pack.h"

namespace epmc::pool_index {

constexpr int kAxes = 3;
constexpr int kMaxWindow = 256;  // an index fits in a byte
constexpr float kNegativeInfinity = -__builtin_inff();

// One pooled axis; result i covers operand elements i * stride - pad + 0 ... window - 1.
// Of 32-bit numbers in CUDA kernels: a GPU divides 64-bit ones in software.
template <typename Int>
struct AxisOf {
  Int in;
  Int out;
  Int window;
  Int stride;
  Int pad;
};
using Axis = AxisOf<int64_t>;

struct PoolShape {
  int64_t batch;
  int64_t channels;
  Axis axes[kAxes];
};

template <typename Int>
struct IntervalOf {
  Int first;
  Int last;  // exclusive
};
using Interval = IntervalOf<int64_t>;

EPMC_HD int BitWidth(const PoolShape& shape) {
  const int64_t window = shape.axes[0].window * shape.axes[1].window * shape.axes[2].window;
  int bits = 1;
  while ((int64_t{1} << bits) < window) ++bits;
  return bits;
}

EPMC_HD int64_t PooledRowElements(const PoolShape& shape) {
  return shape.axes[0].out * shape.axes[1].out * shape.axes[2].out * shape.channels;
}

// The offsets within the window of result `at` that are not padding.
template <typename Int>
EPMC_HD IntervalOf<Int> InsideWindow(const AxisOf<Int>& axis, Int at) {
  const Int start = at * axis.stride - axis.pad;
  const Int room = axis.in - start;
  return {start < 0 ? -start : 0, room < axis.window ? room : axis.window};
}

// The results whose windows hold element `at` of the operand.
template <typename Int>
EPMC_HD IntervalOf<Int> WindowsOver(const AxisOf<Int>& axis, Int at) {
  const Int place = at + axis.pad;
  const Int first = place < axis.window ? 0 : (place - axis.window) / axis.stride + 1;
  const Int last = place / axis.stride + 1;
  return {first, last < axis.out ? last : axis.out};
}

// One candidate for one result. `best` is what the gradient selects: `>=` keeps it, so a
// NaN never stays; `y` is the maximum, in which a NaN does stay.
EPMC_HD void Consider(float candidate, int32_t place, float* best, float* y, int32_t* index) {
  const bool take = !(*best >= candidate);
  *best = take ? candidate : *best;
  *index = take ? place : *index;
  const bool exceeds = (*y == *y) & !(*y >= candidate);
  *y = exceeds ? candidate : *y;
}

// Bit i: element i of the block has this index.
EPMC_HD uint32_t BlockElementsWithIndex(const uint8_t* block, int bit_width, uint32_t index) {
  uint32_t equal = ~0u;
  for (int plane = 0; plane < bit_width; ++plane) {
    uint32_t word;
    memcpy(&word, block + 4 * plane, 4);
    equal &= (index >> plane & 1u) != 0 ? word : ~word;
  }
  return equal;
}

// Bit i: element `first + i` of the row has this index; i below `count`, at most 32.
EPMC_HD uint32_t ElementsWithIndex(const uint8_t* row, int64_t first, int count, int bit_width,
                                   uint32_t index) {
  const int shift = static_cast<int>(first & (kBlock - 1));
  const uint8_t* block = row + first / kBlock * 4 * bit_width;
  uint64_t equal = BlockElementsWithIndex(block, bit_width, index);
  if (shift + count > kBlock) {
    const uint8_t* next = block + 4 * bit_width;
    equal |= static_cast<uint64_t>(BlockElementsWithIndex(next, bit_width, index)) << kBlock;
  }
  return static_cast<uint32_t>(equal >> shift);
}

}  // namespace epmc::pool_index

#endif  // EPMC_POOL_INDEX_POOL_INDEX_H_
