#include "xla_ffi/pool_index/pool_index_ffi.h"

#include "xla_ffi/ffi/parallel.h"

namespace epmc::pool_index {
namespace {

ffi::Error MaxPool(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::Result<ffi::AnyBuffer> y,
                   ffi::ResultBuffer<ffi::U8> rows, Sizes window, Sizes strides,
                   Sizes padding) {
  const ffi::ErrorOr<MaxPoolArgs> args = CheckMaxPool(x, y, rows, {window, strides, padding});
  if (args.has_error()) return args.error();
  const PoolShape& shape = args->shape;
  ParallelFor(pool, shape.batch * NumBlocks(PooledRowElements(shape)), x.size_bytes(),
              [&](UnitRange blocks) { MaxPoolOnHost(*args, blocks); });
  return ffi::Error::Success();
}

ffi::Error Gradient(ffi::ThreadPool pool, ffi::Buffer<ffi::U8> rows, ffi::AnyBuffer ct,
                    ffi::Result<ffi::AnyBuffer> ct_x, Sizes window, Sizes strides,
                    Sizes padding) {
  const ffi::ErrorOr<GradientArgs> args =
      CheckGradient(rows, ct, ct_x, {window, strides, padding});
  if (args.has_error()) return args.error();
  const PoolShape& shape = args->shape;
  ParallelFor(pool, shape.batch * shape.axes[0].in * shape.axes[1].in, ct_x->size_bytes(),
              [&](UnitRange lines) { GradientOnHost(*args, lines); });
  return ffi::Error::Success();
}

}  // namespace
}  // namespace epmc::pool_index

EPMC_DEFINE_TARGET(epmc_max_pool, epmc::pool_index::MaxPool,
                   xla::ffi::Ffi::Bind()
                       .Ctx<xla::ffi::ThreadPool>()
                       .Arg<xla::ffi::AnyBuffer>()
                       .Ret<xla::ffi::AnyBuffer>()
                       .Ret<xla::ffi::Buffer<xla::ffi::U8>>()
                       .Attr<xla::ffi::Span<const int64_t>>("window")
                       .Attr<xla::ffi::Span<const int64_t>>("strides")
                       .Attr<xla::ffi::Span<const int64_t>>("padding"));

EPMC_DEFINE_TARGET(epmc_pool_gradient, epmc::pool_index::Gradient,
                   xla::ffi::Ffi::Bind()
                       .Ctx<xla::ffi::ThreadPool>()
                       .Arg<xla::ffi::Buffer<xla::ffi::U8>>()
                       .Arg<xla::ffi::AnyBuffer>()
                       .Ret<xla::ffi::AnyBuffer>()
                       .Attr<xla::ffi::Span<const int64_t>>("window")
                       .Attr<xla::ffi::Span<const int64_t>>("strides")
                       .Attr<xla::ffi::Span<const int64_t>>("padding"));
