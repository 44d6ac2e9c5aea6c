#include "xla_ffi/fuzz/fuzz.h"
#include "xla_ffi/int_pack/int_pack.h"
#include "xla_ffi/int_pack/kernels.h"

namespace epmc::int_pack {
namespace {

void Fuzz(fuzz::Input& input) {
  const int element_nbytes = input.OneOf({1, 2, 4});
  const int bit_width = static_cast<int>(input.Number(1, kMaxBitWidth));
  const fuzz::Shape shape = input.AnyShape(300);
  const int64_t units = shape.rows * NumBlocks(shape.elements);
  const int64_t cut = input.Number(0, units);
  const int64_t dense_nbytes = shape.rows * shape.elements * element_nbytes;
  const bool bypass_cache = input.OneOf({false, true});
  const auto decode = [&](const fuzz::Bytes& bytes) {
    return fuzz::OnAllIsas(dense_nbytes, [&](uint8_t* out, Isa isa) {
      const DecodeArgs args{bytes.data(),   out,       element_nbytes,
                            shape.elements, bit_width, bypass_cache};
      DecodeOnHost(args, {0, cut}, isa);
      DecodeOnHost(args, {cut, units}, isa);
    });
  };

  const fuzz::Bytes x = input.Array(dense_nbytes);
  const auto encode = [&](uint8_t* out, Isa isa) {
    const EncodeArgs args{x.data(), out, element_nbytes, shape.elements, bit_width};
    EncodeOnHost(args, {0, cut}, isa);
    EncodeOnHost(args, {cut, units}, isa);
  };
  const int64_t nbytes = shape.rows * RowNbytes(shape.elements, bit_width);
  const fuzz::Bytes decoded = decode(fuzz::OnAllIsas(nbytes, encode));
  if (bit_width >= 8 * element_nbytes) EPMC_CHECK(decoded == x);
  decode(input.Array(nbytes));
}

}  // namespace
}  // namespace epmc::int_pack

EPMC_FUZZER(epmc::int_pack::Fuzz)
