#include "xla_ffi/bit_mask/bit_mask.h"
#include "xla_ffi/bit_mask/kernels.h"
#include "xla_ffi/fuzz/fuzz.h"

namespace epmc::bit_mask {
namespace {

int NbytesOf(ElementType type) {
  return type == ElementType::kBool ? 1 : type == ElementType::kF32 ? 4 : 2;
}

void Fuzz(fuzz::Input& input) {
  const ElementType type = input.OneOf(
      {ElementType::kBool, ElementType::kF32, ElementType::kBf16, ElementType::kF16});
  const fuzz::Shape shape = input.AnyShape(300);
  const int64_t units = shape.rows * NumBlocks(shape.elements);
  const int64_t cut = input.Number(0, units);
  const bool bypass_cache = input.OneOf({false, true});
  const auto decode = [&](const fuzz::Bytes& bytes) {
    return fuzz::OnAllIsas(shape.rows * shape.elements, [&](uint8_t* out, Isa isa) {
      const DecodeArgs args{bytes.data(), out, shape.elements, bypass_cache};
      DecodeOnHost(args, {0, cut}, isa);
      DecodeOnHost(args, {cut, units}, isa);
    });
  };

  const fuzz::Bytes x = input.Array(shape.rows * shape.elements * NbytesOf(type));
  const auto encode = [&](uint8_t* out, Isa isa) {
    EncodeOnHost({x.data(), out, type, shape.elements}, {0, cut}, isa);
    EncodeOnHost({x.data(), out, type, shape.elements}, {cut, units}, isa);
  };
  decode(fuzz::OnAllIsas(shape.rows * RowNbytes(shape.elements), encode));
  const fuzz::Bytes any = input.Array(shape.rows * RowNbytes(shape.elements));
  for (uint8_t bit : decode(any)) EPMC_CHECK(bit <= 1);
}

}  // namespace
}  // namespace epmc::bit_mask

EPMC_FUZZER(epmc::bit_mask::Fuzz)
