#include "xla_ffi/ffi/checks.h"
#include "xla_ffi/ffi/parallel.h"
#include "xla_ffi/int_pack/int_pack.h"
#include "xla_ffi/int_pack/kernels.h"

namespace epmc::int_pack {
namespace {

// Bytes of an integer type, 0 for all other types.
int IntegerNbytes(ffi::DataType type) {
  switch (type) {
    case ffi::DataType::S8:
    case ffi::DataType::U8:
      return 1;
    case ffi::DataType::S16:
    case ffi::DataType::U16:
      return 2;
    case ffi::DataType::S32:
    case ffi::DataType::U32:
      return 4;
    default:
      return 0;
  }
}

ffi::Error Check(const char* target, ffi::AnyBuffer::Dimensions encoded, const Rows& rows,
                 ffi::DataType type, int64_t bit_width) {
  if (IntegerNbytes(type) == 0) {
    return UnsupportedType(target, type, "an integer of 8, 16 or 32 bits");
  }
  if (bit_width < 1 || bit_width > kMaxBitWidth) {
    return InvalidArgument(target, "bit_width", bit_width, "1 to 32");
  }
  return CheckRowsBuffer(target, encoded, rows, RowNbytes(rows.elements, bit_width));
}

ffi::Error Encode(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::ResultBuffer<ffi::U8> out,
                  int64_t bit_width) {
  const Rows rows = RowsOf(x.dimensions());
  ffi::Error error =
      Check("epmc_int_pack_encode", out->dimensions(), rows, x.element_type(), bit_width);
  if (error.failure()) return error;
  const EncodeArgs args{x.untyped_data(), out->typed_data(), IntegerNbytes(x.element_type()),
                        rows.elements, static_cast<int>(bit_width)};
  ParallelFor(pool, rows.count * NumBlocks(rows.elements), x.size_bytes(),
              [&](UnitRange blocks) { EncodeOnHost(args, blocks); });
  return ffi::Error::Success();
}

ffi::Error Decode(ffi::ThreadPool pool, ffi::Buffer<ffi::U8> encoded, ffi::RemainingArgs,
                  ffi::Result<ffi::AnyBuffer> x, int64_t bit_width) {
  const Rows rows = RowsOf(x->dimensions());
  ffi::Error error = Check("epmc_int_pack_decode", encoded.dimensions(), rows,
                           x->element_type(), bit_width);
  if (error.failure()) return error;
  const DecodeArgs args{encoded.typed_data(), x->untyped_data(),
                        IntegerNbytes(x->element_type()), rows.elements,
                        static_cast<int>(bit_width)};
  ParallelFor(pool, rows.count * NumBlocks(rows.elements), x->size_bytes(),
              [&](UnitRange blocks) { DecodeOnHost(args, blocks); });
  return ffi::Error::Success();
}

}  // namespace
}  // namespace epmc::int_pack

EPMC_DEFINE_TARGET(epmc_int_pack_encode, epmc::int_pack::Encode,
                   xla::ffi::Ffi::Bind()
                       .Ctx<xla::ffi::ThreadPool>()
                       .Arg<xla::ffi::AnyBuffer>()
                       .Ret<xla::ffi::Buffer<xla::ffi::U8>>()
                       .Attr<int64_t>("bit_width"));

EPMC_DEFINE_TARGET(epmc_int_pack_decode, epmc::int_pack::Decode,
                   xla::ffi::Ffi::Bind()
                       .Ctx<xla::ffi::ThreadPool>()
                       .Arg<xla::ffi::Buffer<xla::ffi::U8>>()
                       .RemainingArgs()
                       .Ret<xla::ffi::AnyBuffer>()
                       .Attr<int64_t>("bit_width"));
