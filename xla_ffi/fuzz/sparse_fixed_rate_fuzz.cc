#include "xla_ffi/fuzz/fuzz.h"
#include "xla_ffi/sparse_fixed_rate/kernels.h"

namespace epmc::sparse_fixed_rate {
namespace {

void Fuzz(fuzz::Input& input) {
  const FloatType type = input.AnyFloatType();
  const int group_size = input.OneOf({64, 128, 256, 512, 1024});
  const Format format{group_size, 16 * input.Number(1, 2 * kPool / 16)};
  const bool is_stochastic = input.OneOf({false, true});
  const uint32_t seed = static_cast<uint32_t>(input.Number(0, UINT32_MAX));
  const fuzz::Shape shape = input.AnyShape(kPool + 1100);
  const RowLayout layout = LayoutOf(shape.elements, format);
  const int64_t pools = shape.rows * layout.pools;
  const int64_t cut = input.Number(0, pools);
  const bool bypass_cache = input.OneOf({false, true});
  const int64_t dense_nbytes = shape.rows * shape.elements * fuzz::NbytesOf(type);
  const auto decode = [&](const fuzz::Bytes& bytes) {
    const auto run = [&](uint8_t* out, Isa isa) {
      const DecodeArgs args{bytes.data(), out, type, shape.elements, format, bypass_cache};
      DecodeOnHost(args, {0, cut}, isa);
      DecodeOnHost(args, {cut, pools}, isa);
    };
    fuzz::OnAllIsas(dense_nbytes, run, [&](fuzz::Bytes* x) { fuzz::MergeNans(type, x); });
    const int value_bits = 8 * fuzz::NbytesOf(type);
    const auto run_mask = [&](uint8_t* out, Isa isa) {
      MaskOnHost({bytes.data(), out, value_bits, shape.elements, format}, {0, pools}, isa);
    };
    fuzz::OnAllIsas(shape.rows * shape.elements, run_mask);
  };

  const fuzz::Bytes x = input.Array(dense_nbytes);
  const auto encode = [&](uint8_t* out, Isa isa) {
    const EncodeArgs args{x.data(), out, type, shape.elements, format, is_stochastic, seed};
    EncodeOnHost(args, {0, cut}, isa);
    EncodeOnHost(args, {cut, pools}, isa);
  };
  decode(fuzz::OnAllIsas(shape.rows * layout.nbytes, encode));
  decode(input.Array(shape.rows * layout.nbytes));
}

}  // namespace
}  // namespace epmc::sparse_fixed_rate

EPMC_FUZZER(epmc::sparse_fixed_rate::Fuzz)
