// What the CPU kernels of GroupQuant take: raw pointers and sizes.
#ifndef EPMC_GROUP_QUANT_KERNELS_H_
#define EPMC_GROUP_QUANT_KERNELS_H_

#include <cstdint>

#include "xla_ffi/common/float_types.h"
#include "xla_ffi/common/isa.h"
#include "xla_ffi/common/layout.h"

namespace epmc::group_quant {

struct Format {
  int bit_width;
  int group_size;
  bool is_stochastic;
  uint32_t seed;
};

struct EncodeArgs {
  const void* x;
  uint8_t* rows;
  FloatType type;
  int64_t row_elements;
  Format format;
};

struct DecodeArgs {
  const uint8_t* rows;
  void* x;
  FloatType type;
  int64_t row_elements;
  Format format;
  bool bypass_cache = false;  // CPU: write `x` past the cache, it would not stay there
};

// Groups are numbered through all rows: group k of row r is r * groups_per_row + k.
void EncodeOnHost(const EncodeArgs& args, UnitRange groups, Isa isa = BestIsa());
void DecodeOnHost(const DecodeArgs& args, UnitRange groups, Isa isa = BestIsa());

}  // namespace epmc::group_quant

#endif  // EPMC_GROUP_QUANT_KERNELS_H_
