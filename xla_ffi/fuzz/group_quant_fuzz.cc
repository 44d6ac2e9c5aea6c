#include "xla_ffi/fuzz/fuzz.h"
#include "xla_ffi/group_quant/group_quant.h"
#include "xla_ffi/group_quant/kernels.h"

namespace epmc::group_quant {
namespace {

void Fuzz(fuzz::Input& input) {
  const FloatType type = input.AnyFloatType();
  const int group_size = static_cast<int>(kBlock * input.Number(1, kMaxGroupSize / kBlock));
  const Format format{input.OneOf({1, 2, 3, 4, 8}), group_size, input.OneOf({false, true}),
                      static_cast<uint32_t>(input.Number(0, UINT32_MAX))};
  const fuzz::Shape shape = input.AnyShape(1100);
  const RowLayout layout = LayoutOf(shape.elements, format.bit_width, group_size);
  const int64_t units = shape.rows * layout.groups;
  const int64_t cut = input.Number(0, units);
  const bool bypass_cache = input.OneOf({false, true});
  const int64_t dense_nbytes = shape.rows * shape.elements * fuzz::NbytesOf(type);
  const auto decode = [&](const fuzz::Bytes& bytes) {
    const auto run = [&](uint8_t* out, Isa isa) {
      const DecodeArgs args{bytes.data(), out, type, shape.elements, format, bypass_cache};
      DecodeOnHost(args, {0, cut}, isa);
      DecodeOnHost(args, {cut, units}, isa);
    };
    fuzz::OnAllIsas(dense_nbytes, run, [&](fuzz::Bytes* x) { fuzz::MergeNans(type, x); });
  };

  const fuzz::Bytes x = input.Array(dense_nbytes);
  const auto encode = [&](uint8_t* out, Isa isa) {
    const EncodeArgs args{x.data(), out, type, shape.elements, format};
    EncodeOnHost(args, {0, cut}, isa);
    EncodeOnHost(args, {cut, units}, isa);
  };
  decode(fuzz::OnAllIsas(shape.rows * layout.nbytes, encode));
  decode(input.Array(shape.rows * layout.nbytes));
}

}  // namespace
}  // namespace epmc::group_quant

EPMC_FUZZER(epmc::group_quant::Fuzz)
