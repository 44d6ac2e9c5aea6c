#include "xla_ffi/csr/csr.h"
#include "xla_ffi/csr/kernels.h"
#include "xla_ffi/fuzz/fuzz.h"

namespace epmc::csr {
namespace {

void Fuzz(fuzz::Input& input) {
  const FloatType type = input.AnyFloatType();
  const double capacity = static_cast<double>(input.Number(1, 1000)) / 1000;
  const fuzz::Shape shape = input.AnyShape(600);
  const RowLayout layout = LayoutOf(shape.elements, fuzz::NbytesOf(type), capacity);
  const int64_t cut = input.Number(0, shape.rows);
  const int64_t dense_nbytes = shape.rows * shape.elements * layout.element_nbytes;
  const uint32_t nan = type == FloatType::kF32 ? kQuietNan : 0x7fc0u;
  const auto decode = [&](const fuzz::Bytes& bytes) {
    return fuzz::OnAllIsas(dense_nbytes, [&](uint8_t* out, Isa isa) {
      DecodeOnHost({bytes.data(), out, layout, nan}, {0, cut}, isa);
      DecodeOnHost({bytes.data(), out, layout, nan}, {cut, shape.rows}, isa);
    });
  };

  const fuzz::Bytes x = input.Array(dense_nbytes);
  const auto encode = [&](uint8_t* out, Isa isa) {
    EncodeOnHost({x.data(), out, layout}, {0, cut}, isa);
    EncodeOnHost({x.data(), out, layout}, {cut, shape.rows}, isa);
  };
  decode(fuzz::OnAllIsas(shape.rows * layout.nbytes, encode));
  decode(input.Array(shape.rows * layout.nbytes));
}

}  // namespace
}  // namespace epmc::csr

EPMC_FUZZER(epmc::csr::Fuzz)
