// What the CPU kernels of SparseFixedRate take: raw pointers and sizes.
#ifndef EPMC_SPARSE_FIXED_RATE_KERNELS_H_
#define EPMC_SPARSE_FIXED_RATE_KERNELS_H_

#include <cstdint>

#include "xla_ffi/common/float_types.h"
#include "xla_ffi/common/isa.h"
#include "xla_ffi/common/layout.h"
#include "xla_ffi/sparse_fixed_rate/sparse_fixed_rate.h"

namespace epmc::sparse_fixed_rate {

struct EncodeArgs {
  const void* x;
  uint8_t* rows;
  FloatType type;
  int64_t row_elements;
  Format format;
  bool is_stochastic;
  uint32_t seed;
};

struct DecodeArgs {
  const uint8_t* rows;
  void* x;
  FloatType type;
  int64_t row_elements;
  Format format;
  bool bypass_cache = false;  // CPU: write `x` past the cache, it would not stay there
};

// Only which elements are nonzero, a byte each.
struct MaskArgs {
  const uint8_t* rows;
  uint8_t* mask;
  int value_bits;  // of the elements that were encoded
  int64_t row_elements;
  Format format;
};

// Pools are numbered through all rows: pool k of row r is r * pools_per_row + k.
void EncodeOnHost(const EncodeArgs& args, UnitRange pools, Isa isa = BestIsa());
void DecodeOnHost(const DecodeArgs& args, UnitRange pools, Isa isa = BestIsa());
void MaskOnHost(const MaskArgs& args, UnitRange pools, Isa isa = BestIsa());

}  // namespace epmc::sparse_fixed_rate

#endif  // EPMC_SPARSE_FIXED_RATE_KERNELS_H_
