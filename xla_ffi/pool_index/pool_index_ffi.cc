#include "xla_ffi/ffi/checks.h"
#include "xla_ffi/ffi/parallel.h"
#include "xla_ffi/pool_index/kernels.h"
#include "xla_ffi/pool_index/pool_index.h"

namespace epmc::pool_index {
namespace {

using Sizes = ffi::Span<const int64_t>;

// Window, strides and low padding of all axes, batch and channels included.
struct Window {
  Sizes window;
  Sizes strides;
  Sizes padding;
};

// Fills `shape` with [batch, 1 to 3 pooled axes, channels], padded with axes of size 1.
ffi::Error ShapeOf(const char* target, Sizes operand, Sizes result, const Window& window,
                   PoolShape* shape) {
  const size_t rank = operand.size();
  if (rank < 3 || rank > 2 + kAxes) {
    return InvalidArgument(target, "rank of x", rank, "3 to 5");
  }
  for (size_t size : {result.size(), window.window.size(), window.strides.size(),
                      window.padding.size()}) {
    if (size == rank) continue;
    return InvalidArgument(target, "number of axes of the result, window, strides or padding",
                           size, std::to_string(rank) + ", the rank of x");
  }
  for (size_t axis : {size_t{0}, rank - 1}) {
    if (operand[axis] == result[axis] && window.window[axis] == 1) continue;
    return InvalidArgument(target, "window of the batch or channel axis", window.window[axis],
                           "1, with stride 1 and no padding");
  }
  *shape = {operand[0], operand[rank - 1], {}};
  for (Axis& axis : shape->axes) axis = {1, 1, 1, 1, 0};
  int64_t places = 1;
  for (size_t i = 1; i + 1 < rank; ++i) {
    shape->axes[kAxes + 1 + i - rank] = {operand[i], result[i], window.window[i],
                                         window.strides[i], window.padding[i]};
    if (window.window[i] < 1 || window.strides[i] < 1) {
      return InvalidArgument(target, "window or stride", 0, "at least 1");
    }
    places *= window.window[i];
  }
  if (places > kMaxWindow) return InvalidArgument(target, "window", places, "at most 256 elements");
  return ffi::Error::Success();
}

ffi::Error CheckRows(const char* target, Sizes rows, const PoolShape& shape) {
  const int64_t elements = PooledRowElements(shape);
  const int64_t row_nbytes = int_pack::RowNbytes(elements, BitWidth(shape));
  return CheckRowsBuffer(target, rows, Rows{shape.batch, elements}, row_nbytes);
}

ffi::Error MaxPool(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::Result<ffi::AnyBuffer> y,
                   ffi::ResultBuffer<ffi::U8> rows, Sizes window, Sizes strides,
                   Sizes padding) {
  constexpr char kTarget[] = "epmc_max_pool";
  const std::optional<FloatType> type = AsFloatType(x.element_type());
  if (!type || y->element_type() != x.element_type()) {
    return UnsupportedType(kTarget, x.element_type(), "f32, bf16 or f16, the type of y");
  }
  PoolShape shape;
  ffi::Error error = ShapeOf(kTarget, x.dimensions(), y->dimensions(),
                             {window, strides, padding}, &shape);
  if (error.failure()) return error;
  error = CheckRows(kTarget, rows->dimensions(), shape);
  if (error.failure()) return error;
  const MaxPoolArgs args{x.untyped_data(), y->untyped_data(), rows->typed_data(), *type, shape};
  ParallelFor(pool, shape.batch * NumBlocks(PooledRowElements(shape)), x.size_bytes(),
              [&](UnitRange blocks) { MaxPoolOnHost(args, blocks); });
  return ffi::Error::Success();
}

ffi::Error Gradient(ffi::ThreadPool pool, ffi::Buffer<ffi::U8> rows, ffi::AnyBuffer ct,
                    ffi::Result<ffi::AnyBuffer> ct_x, Sizes window, Sizes strides,
                    Sizes padding) {
  constexpr char kTarget[] = "epmc_pool_gradient";
  const std::optional<FloatType> type = AsFloatType(ct.element_type());
  if (!type || ct_x->element_type() != ct.element_type()) {
    return UnsupportedType(kTarget, ct.element_type(), "f32, bf16 or f16, the type of ct_x");
  }
  PoolShape shape;
  ffi::Error error = ShapeOf(kTarget, ct_x->dimensions(), ct.dimensions(),
                             {window, strides, padding}, &shape);
  if (error.failure()) return error;
  error = CheckRows(kTarget, rows.dimensions(), shape);
  if (error.failure()) return error;
  const GradientArgs args{rows.typed_data(), ct.untyped_data(), ct_x->untyped_data(), *type,
                          shape};
  ParallelFor(pool, shape.batch * shape.axes[0].in * shape.axes[1].in, ct_x->size_bytes(),
              [&](UnitRange lines) { GradientOnHost(args, lines); });
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
