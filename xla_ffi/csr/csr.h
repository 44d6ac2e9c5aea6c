// Csr: the nonzero elements of a row, their indices and their number. For benchmarks.
#ifndef EPMC_CSR_CSR_H_
#define EPMC_CSR_CSR_H_

#include <cmath>
#include <cstdint>

#include "xla_ffi/common/host_device.h"
#include "xla_ffi/common/layout.h"

namespace epmc::csr {

// Where the parts of a row are, in bytes. The number of nonzero elements comes first.
constexpr int64_t kIndicesOffset = 16;

struct RowLayout {
  int64_t elements;
  int64_t room;  // for nonzero elements
  int64_t values_offset;
  int64_t nbytes;
  int index_nbytes;
  int element_nbytes;
};

// The product is that of two doubles, rounded once, as in Python.
inline RowLayout LayoutOf(int64_t elements, int element_nbytes, double capacity) {
  RowLayout layout;
  layout.elements = elements;
  layout.room = static_cast<int64_t>(std::ceil(capacity * static_cast<double>(elements)));
  layout.index_nbytes = elements <= 1 << 8 ? 1 : elements <= 1 << 16 ? 2 : 4;
  layout.element_nbytes = element_nbytes;
  layout.values_offset = kIndicesOffset + Round16(layout.room * layout.index_nbytes);
  layout.nbytes = layout.values_offset + Round16(layout.room * element_nbytes);
  return layout;
}

// By the magnitude bits: -0 is a zero; NaN and subnormal numbers are none.
EPMC_HD bool IsNonzero(uint32_t bits) { return (bits << 1) != 0; }
EPMC_HD bool IsNonzero(uint16_t bits) { return (bits & 0x7fffu) != 0; }

}  // namespace epmc::csr

#endif  // EPMC_CSR_CSR_H_
