// What the CPU kernels of PoolIndex take: raw pointers and sizes.
#ifndef EPMC_POOL_INDEX_KERNELS_H_
#define EPMC_POOL_INDEX_KERNELS_H_

#include <cstdint>

#include "xla_ffi/common/float_types.h"
#include "xla_ffi/common/isa.h"
#include "xla_ffi/common/layout.h"
#include "xla_ffi/pool_index/pool_index.h"

namespace epmc::pool_index {

struct MaxPoolArgs {
  const void* x;
  void* y;
  uint8_t* rows;
  FloatType type;
  PoolShape shape;
};

struct GradientArgs {
  const uint8_t* rows;
  const void* ct;
  void* ct_x;
  FloatType type;
  PoolShape shape;
};

// Blocks of results are numbered through all rows: block k of row r is
// r * blocks_per_row + k.
void MaxPoolOnHost(const MaxPoolArgs& args, UnitRange blocks, Isa isa = BestIsa());

// Lines of the operand, [batch, axis 0, axis 1], are numbered row-major.
void GradientOnHost(const GradientArgs& args, UnitRange lines, Isa isa = BestIsa());

}  // namespace epmc::pool_index

#endif  // EPMC_POOL_INDEX_KERNELS_H_
