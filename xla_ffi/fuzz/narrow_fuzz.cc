#include "xla_ffi/fuzz/fuzz.h"
#include "xla_ffi/narrow/kernels.h"
#include "xla_ffi/narrow/narrow.h"

namespace epmc::narrow {
namespace {

void Fuzz(fuzz::Input& input) {
  const FloatType type = input.AnyFloatType();
  const Format format{input.OneOf({ValueType::kBf16, ValueType::kE4m3fn, ValueType::kE5m2}),
                      static_cast<int>(kBlock * input.Number(1, kMaxGroupSize / kBlock))};
  const fuzz::Shape shape = input.AnyShape(1100);
  const int value_nbytes = format.value == ValueType::kBf16 ? 2 : 1;
  const RowLayout layout = LayoutOf(shape.elements, value_nbytes, format.group_size);
  const int64_t units = shape.rows * layout.groups;
  const int64_t cut = input.Number(0, units);
  const int64_t dense_nbytes = shape.rows * shape.elements * fuzz::NbytesOf(type);
  const bool bypass_cache = input.OneOf({false, true});
  const auto decode = [&](const fuzz::Bytes& bytes) {
    fuzz::OnAllIsas(dense_nbytes, [&](uint8_t* out, Isa isa) {
      const DecodeArgs args{bytes.data(), out, type, shape.elements, format, bypass_cache};
      DecodeOnHost(args, {0, cut}, isa);
      DecodeOnHost(args, {cut, units}, isa);
    });
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
}  // namespace epmc::narrow

EPMC_FUZZER(epmc::narrow::Fuzz)
