// The gradient of ReLU from a BitMask: cotangents where the bit is set, zeros elsewhere, in
// one pass over memory and without an array of booleans.
#ifndef EPMC_RELU_GRADIENT_KERNELS_H_
#define EPMC_RELU_GRADIENT_KERNELS_H_

#include <cstdint>

#include "xla_ffi/common/isa.h"
#include "xla_ffi/common/layout.h"

namespace epmc::relu_gradient {

struct Args {
  const uint8_t* rows;  // of BitMask
  const void* ct;
  void* ct_x;  // may be `ct`
  int64_t row_elements;
  bool bypass_cache = false;  // write `ct_x` past the cache, it would not stay there
};

// `element_nbytes`: 2 or 4. Blocks are numbered through all rows, as BitMask's are.
void RunOnHost(const Args& args, int element_nbytes, UnitRange blocks, Isa isa = BestIsa());

}  // namespace epmc::relu_gradient

#endif  // EPMC_RELU_GRADIENT_KERNELS_H_
