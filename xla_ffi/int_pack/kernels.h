// What the CPU kernels of IntPack take: raw pointers and sizes.
#ifndef EPMC_INT_PACK_KERNELS_H_
#define EPMC_INT_PACK_KERNELS_H_

#include <cstdint>

#include "xla_ffi/common/isa.h"
#include "xla_ffi/common/layout.h"

namespace epmc::int_pack {

struct EncodeArgs {
  const void* x;
  uint8_t* rows;
  int element_nbytes;  // 1, 2 or 4
  int64_t row_elements;
  int bit_width;
};

struct DecodeArgs {
  const uint8_t* rows;
  void* x;
  int element_nbytes;
  int64_t row_elements;
  int bit_width;
  bool bypass_cache = false;  // CPU: write `x` past the cache, it would not stay there
};

// Blocks are numbered through all rows: block k of row r is r * blocks_per_row + k.
void EncodeOnHost(const EncodeArgs& args, UnitRange blocks, Isa isa = BestIsa());
void DecodeOnHost(const DecodeArgs& args, UnitRange blocks, Isa isa = BestIsa());

}  // namespace epmc::int_pack

#endif  // EPMC_INT_PACK_KERNELS_H_
