#include "xla_ffi/bit_mask/bit_mask.h"
#include "xla_ffi/fuzz/fuzz.h"
#include "xla_ffi/relu_gradient/kernels.h"

namespace epmc::relu_gradient {
namespace {

void Fuzz(fuzz::Input& input) {
  const int element_nbytes = input.OneOf({2, 4});
  const fuzz::Shape shape = input.AnyShape(300);
  const int64_t blocks = shape.rows * NumBlocks(shape.elements);
  const int64_t cut = input.Number(0, blocks);
  const bool bypass_cache = input.OneOf({false, true});
  const fuzz::Bytes rows = input.Array(shape.rows * bit_mask::RowNbytes(shape.elements));
  const fuzz::Bytes ct = input.Array(shape.rows * shape.elements * element_nbytes, 7);
  const fuzz::Bytes out = fuzz::OnAllIsas(ct.size(), [&](uint8_t* to, Isa isa) {
    const Args args{rows.data(), ct.data(), to, shape.elements, bypass_cache};
    RunOnHost(args, element_nbytes, {0, cut}, isa);
    RunOnHost(args, element_nbytes, {cut, blocks}, isa);
  });
  for (size_t i = 0; i < out.size(); ++i) EPMC_CHECK(out[i] == 0 || out[i] == ct[i]);
}

}  // namespace
}  // namespace epmc::relu_gradient

EPMC_FUZZER(epmc::relu_gradient::Fuzz)
