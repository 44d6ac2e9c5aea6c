#include "xla_ffi/bit_mask/bit_mask.h"
#include "xla_ffi/bit_mask/kernels.h"
#include "xla_ffi/ffi/checks.h"
#include "xla_ffi/ffi/parallel.h"

namespace epmc::bit_mask {
namespace {

std::optional<ElementType> AsElementType(ffi::DataType type) {
  switch (type) {
    case ffi::DataType::PRED:
      return ElementType::kBool;
    case ffi::DataType::F32:
      return ElementType::kF32;
    case ffi::DataType::BF16:
      return ElementType::kBf16;
    case ffi::DataType::F16:
      return ElementType::kF16;
    default:
      return std::nullopt;
  }
}

ffi::Error Encode(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::ResultBuffer<ffi::U8> out) {
  constexpr char kTarget[] = "epmc_bit_mask_encode";
  const std::optional<ElementType> type = AsElementType(x.element_type());
  if (!type) return UnsupportedType(kTarget, x.element_type(), "bool, f32, bf16 or f16");
  const Rows rows = RowsOf(x.dimensions());
  const int64_t row_nbytes = RowNbytes(rows.elements);
  ffi::Error error = CheckRowsBuffer(kTarget, out->dimensions(), rows, row_nbytes);
  if (error.failure()) return error;
  const EncodeArgs args{x.untyped_data(), out->typed_data(), *type, rows.elements};
  ParallelFor(pool, rows.count * NumBlocks(rows.elements), x.size_bytes(),
              [&](UnitRange blocks) { EncodeOnHost(args, blocks); });
  return ffi::Error::Success();
}

ffi::Error Decode(ffi::ThreadPool pool, ffi::Buffer<ffi::U8> encoded, ffi::RemainingArgs,
                  ffi::ResultBuffer<ffi::PRED> x) {
  constexpr char kTarget[] = "epmc_bit_mask_decode";
  const Rows rows = RowsOf(x->dimensions());
  const int64_t row_nbytes = RowNbytes(rows.elements);
  ffi::Error error = CheckRowsBuffer(kTarget, encoded.dimensions(), rows, row_nbytes);
  if (error.failure()) return error;
  const DecodeArgs args{encoded.typed_data(), static_cast<uint8_t*>(x->untyped_data()),
                        rows.elements};
  ParallelFor(pool, rows.count * NumBlocks(rows.elements), x->size_bytes(),
              [&](UnitRange blocks) { DecodeOnHost(args, blocks); });
  return ffi::Error::Success();
}

}  // namespace
}  // namespace epmc::bit_mask

EPMC_DEFINE_TARGET(epmc_bit_mask_encode, epmc::bit_mask::Encode,
                   xla::ffi::Ffi::Bind()
                       .Ctx<xla::ffi::ThreadPool>()
                       .Arg<xla::ffi::AnyBuffer>()
                       .Ret<xla::ffi::Buffer<xla::ffi::U8>>());

EPMC_DEFINE_TARGET(epmc_bit_mask_decode, epmc::bit_mask::Decode,
                   xla::ffi::Ffi::Bind()
                       .Ctx<xla::ffi::ThreadPool>()
                       .Arg<xla::ffi::Buffer<xla::ffi::U8>>()
                       .RemainingArgs()
                       .Ret<xla::ffi::Buffer<xla::ffi::PRED>>());
