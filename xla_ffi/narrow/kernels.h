// What the CPU kernels of Narrow take: raw pointers and sizes.
#ifndef EPMC_NARROW_KERNELS_H_
#define EPMC_NARROW_KERNELS_H_

#include <cstdint>

#include "xla_ffi/common/float_types.h"
#include "xla_ffi/common/isa.h"
#include "xla_ffi/common/layout.h"

namespace epmc::narrow {

enum class ValueType { kBf16, kE4m3fn, kE5m2 };

struct Format {
  ValueType value;
  int group_size;  // of bfloat16, which has no scale: the elements of a unit of work
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

}  // namespace epmc::narrow

#endif  // EPMC_NARROW_KERNELS_H_
