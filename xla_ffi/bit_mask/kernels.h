// What the CPU kernels of BitMask take: raw pointers and sizes.
#ifndef EPMC_BIT_MASK_KERNELS_H_
#define EPMC_BIT_MASK_KERNELS_H_

#include <cstdint>

#include "xla_ffi/common/isa.h"
#include "xla_ffi/common/layout.h"

namespace epmc::bit_mask {

enum class ElementType { kBool, kF32, kBf16, kF16 };

struct EncodeArgs {
  const void* x;
  uint8_t* rows;
  ElementType type;
  int64_t row_elements;
};

struct DecodeArgs {
  const uint8_t* rows;
  uint8_t* x;  // 0 or 1 per element
  int64_t row_elements;
  bool bypass_cache = false;  // CPU: write `x` past the cache, it would not stay there
};

// Blocks are numbered through all rows: block k of row r is r * blocks_per_row + k.
void EncodeOnHost(const EncodeArgs& args, UnitRange blocks, Isa isa = BestIsa());
void DecodeOnHost(const DecodeArgs& args, UnitRange blocks, Isa isa = BestIsa());

}  // namespace epmc::bit_mask

#endif  // EPMC_BIT_MASK_KERNELS_H_
