#include "xla_ffi/fuzz/fuzz.h"
#include "xla_ffi/pool_index/kernels.h"
#include "xla_ffi/pool_index/pool_index.h"

namespace epmc::pool_index {
namespace {

// Any result size: the handlers do not require that it follows from the operand's.
PoolShape AnyPoolShape(fuzz::Input& input) {
  PoolShape shape = {input.Number(1, 2), input.Number(0, input.OneOf({3, 3, 36})), {}};
  for (Axis& axis : shape.axes) {
    const int64_t in = input.Number(0, 5), out = input.Number(0, 4);
    axis = {in, out, input.Number(1, 4), input.Number(1, 5), input.Number(-2, 5)};
  }
  return shape;
}

void Fuzz(fuzz::Input& input) {
  const FloatType type = input.AnyFloatType();
  const PoolShape shape = AnyPoolShape(input);
  const Axis* axes = shape.axes;
  const int64_t results = shape.batch * PooledRowElements(shape);
  const int64_t lines = shape.batch * axes[0].in * axes[1].in;
  const int64_t operand_nbytes = lines * axes[2].in * shape.channels * fuzz::NbytesOf(type);
  const int64_t result_nbytes = results * fuzz::NbytesOf(type);
  const int64_t rows_nbytes =
      shape.batch * int_pack::RowNbytes(PooledRowElements(shape), BitWidth(shape));
  const int64_t units = shape.batch * NumBlocks(PooledRowElements(shape));
  const int64_t cut = input.Number(0, units), line_cut = input.Number(0, lines);

  const fuzz::Bytes x = input.Array(operand_nbytes);
  const auto pool = [&](uint8_t* out, Isa isa) {
    fuzz::Bytes rows(rows_nbytes, out == nullptr ? 0 : *out);
    fuzz::Bytes y(result_nbytes, 0);
    const MaxPoolArgs args{x.data(), y.data(), rows.data(), type, shape};
    MaxPoolOnHost(args, {0, cut}, isa);
    MaxPoolOnHost(args, {cut, units}, isa);
    for (size_t i = 0; i < rows.size(); ++i) out[i] = rows[i];
    for (size_t i = 0; i < y.size(); ++i) out[rows.size() + i] = y[i];
  };
  fuzz::Bytes rows = fuzz::OnAllIsas(rows_nbytes + result_nbytes, pool);

  const fuzz::Bytes ct = input.Array(result_nbytes, /*first=*/3);
  const auto unify = [&](fuzz::Bytes* sums) { fuzz::MergeNans(type, sums); };
  for (const fuzz::Bytes& bytes : {fuzz::Bytes(rows.begin(), rows.begin() + rows_nbytes),
                                   input.Array(rows_nbytes, /*first=*/1)}) {
    const auto gradient = [&](uint8_t* out, Isa isa) {
      const GradientArgs args{bytes.data(), ct.data(), out, type, shape};
      GradientOnHost(args, {0, line_cut}, isa);
      GradientOnHost(args, {line_cut, lines}, isa);
    };
    fuzz::OnAllIsas(operand_nbytes, gradient, unify);
  }
}

}  // namespace
}  // namespace epmc::pool_index

EPMC_FUZZER(epmc::pool_index::Fuzz)
