#include <cstring>
#include <vector>

#include "xla_ffi/bit_mask/bit_mask.h"
#include "xla_ffi/common/check.h"
#include "xla_ffi/common/dither.h"
#include "xla_ffi/common/test_data.h"
#include "xla_ffi/relu_gradient/kernels.h"

namespace epmc::relu_gradient {
namespace {

// Any bits, any mask; in place and not, in one piece and in two.
template <typename Bits>
void TestShape(int64_t rows, int64_t elements) {
  const int64_t row_nbytes = bit_mask::RowNbytes(elements);
  std::vector<uint8_t> mask(rows * row_nbytes);
  for (size_t i = 0; i < mask.size(); ++i) mask[i] = static_cast<uint8_t>(Mix(i));
  std::vector<Bits> ct(rows * elements);
  for (size_t i = 0; i < ct.size(); ++i) ct[i] = static_cast<Bits>(Mix(i + 99));
  std::vector<Bits> expected = ct;
  for (int64_t i = 0; i < rows * elements; ++i) {
    const int64_t element = i % elements;
    const uint8_t* row = mask.data() + i / elements * row_nbytes;
    if ((row[element / 8] >> element % 8 & 1) == 0) expected[i] = 0;
  }
  const int64_t blocks = rows * NumBlocks(elements);
  for (Isa isa : RunnableIsas()) {
    std::vector<Bits> in_place = ct, elsewhere(ct.size(), 7);
    RunOnHost({mask.data(), in_place.data(), in_place.data(), elements}, sizeof(Bits),
              {0, blocks}, isa);
    const Args args{mask.data(), ct.data(), elsewhere.data(), elements};
    RunOnHost(args, sizeof(Bits), {0, blocks / 2}, isa);
    RunOnHost(args, sizeof(Bits), {blocks / 2, blocks}, isa);
    EPMC_CHECK(in_place == expected);
    EPMC_CHECK(elsewhere == expected);
    for (size_t offset : {0, 4, 32}) {
      PlacedArray past(ct.size() * sizeof(Bits), offset);
      const Args streamed{mask.data(), ct.data(), past.data(), elements, true};
      RunOnHost(streamed, sizeof(Bits), {0, blocks / 2}, isa);
      RunOnHost(streamed, sizeof(Bits), {blocks / 2, blocks}, isa);
      EPMC_CHECK(std::memcmp(past.data(), expected.data(), ct.size() * sizeof(Bits)) == 0);
      EPMC_CHECK(past.IsUntouchedAround());
    }
  }
}

}  // namespace
}  // namespace epmc::relu_gradient

int main() {
  for (int64_t elements : {1, 31, 32, 33, 512, 1000}) {
    epmc::relu_gradient::TestShape<uint32_t>(3, elements);
    epmc::relu_gradient::TestShape<uint16_t>(3, elements);
  }
  return 0;
}
