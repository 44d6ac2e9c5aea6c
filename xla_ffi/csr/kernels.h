// What the CPU kernels of Csr take: raw pointers and sizes.
#ifndef EPMC_CSR_KERNELS_H_
#define EPMC_CSR_KERNELS_H_

#include <cstdint>

#include "xla_ffi/common/isa.h"
#include "xla_ffi/common/layout.h"
#include "xla_ffi/csr/csr.h"

namespace epmc::csr {

struct EncodeArgs {
  const void* x;
  uint8_t* rows;
  RowLayout layout;
};

struct DecodeArgs {
  const uint8_t* rows;
  void* x;
  RowLayout layout;
  uint32_t nan;  // the bits of a NaN of the type of x
};

void EncodeOnHost(const EncodeArgs& args, UnitRange rows, Isa isa = BestIsa());
void DecodeOnHost(const DecodeArgs& args, UnitRange rows, Isa isa = BestIsa());

}  // namespace epmc::csr

#endif  // EPMC_CSR_KERNELS_H_
