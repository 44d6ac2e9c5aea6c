#include "xla_ffi/ffi/on_stream.h"
#include "xla_ffi/pool_index/kernels_cuda.h"
#include "xla_ffi/pool_index/pool_index_ffi.h"

namespace epmc::pool_index {
namespace {

// The kernels count the elements of a row in 32 bits.
ffi::Error CheckRowElements(const char* target, const PoolShape& shape) {
  const Axis* axes = shape.axes;
  const int64_t operand = axes[0].in * axes[1].in * axes[2].in * shape.channels;
  const int64_t elements = std::max(operand, PooledRowElements(shape));
  if (elements <= kMaxRowElements) return ffi::Error::Success();
  return InvalidArgument(target, "elements of a row", elements,
                         "less than 2^31: split the pooled axes");
}

ffi::Error MaxPool(cudaStream_t stream, ffi::AnyBuffer x, ffi::Result<ffi::AnyBuffer> y,
                   ffi::ResultBuffer<ffi::U8> rows, Sizes window, Sizes strides,
                   Sizes padding) {
  const ffi::ErrorOr<MaxPoolArgs> args = CheckMaxPool(x, y, rows, {window, strides, padding});
  if (args.has_error()) return args.error();
  ffi::Error error = CheckRowElements(kMaxPoolTarget, args->shape);
  if (error.failure() || y->element_count() == 0) return error;
  LaunchMaxPool(*args, stream);
  return LaunchError(kMaxPoolTarget);
}

ffi::Error Gradient(cudaStream_t stream, ffi::Buffer<ffi::U8> rows, ffi::AnyBuffer ct,
                    ffi::Result<ffi::AnyBuffer> ct_x, Sizes window, Sizes strides,
                    Sizes padding) {
  const ffi::ErrorOr<GradientArgs> args =
      CheckGradient(rows, ct, ct_x, {window, strides, padding});
  if (args.has_error()) return args.error();
  ffi::Error error = CheckRowElements(kGradientTarget, args->shape);
  if (error.failure() || ct_x->element_count() == 0) return error;
  LaunchGradient(*args, stream);
  return LaunchError(kGradientTarget);
}

}  // namespace
}  // namespace epmc::pool_index

EPMC_DEFINE_TARGET(epmc_max_pool, epmc::pool_index::MaxPool,
                   xla::ffi::Ffi::Bind()
                       .Ctx<epmc::OnStream>()
                       .Arg<xla::ffi::AnyBuffer>()
                       .Ret<xla::ffi::AnyBuffer>()
                       .Ret<xla::ffi::Buffer<xla::ffi::U8>>()
                       .Attr<xla::ffi::Span<const int64_t>>("window")
                       .Attr<xla::ffi::Span<const int64_t>>("strides")
                       .Attr<xla::ffi::Span<const int64_t>>("padding"),
                   {epmc::kStreamTraits});

EPMC_DEFINE_TARGET(epmc_pool_gradient, epmc::pool_index::Gradient,
                   xla::ffi::Ffi::Bind()
                       .Ctx<epmc::OnStream>()
                       .Arg<xla::ffi::Buffer<xla::ffi::U8>>()
                       .Arg<xla::ffi::AnyBuffer>()
                       .Ret<xla::ffi::AnyBuffer>()
                       .Attr<xla::ffi::Span<const int64_t>>("window")
                       .Attr<xla::ffi::Span<const int64_t>>("strides")
                       .Attr<xla::ffi::Span<const int64_t>>("padding"),
                   {epmc::kStreamTraits});
