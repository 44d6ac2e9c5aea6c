// The checks that the handlers of PoolIndex share on CPU and CUDA.
#ifndef EPMC_POOL_INDEX_POOL_INDEX_FFI_H_
#define EPMC_POOL_INDEX_POOL_INDEX_FFI_H_

#include "xla_ffi/ffi/checks.h"
#include "xla_ffi/pool_index/kernels.h"
#include "xla_ffi/pool_index/pool_index.h"

namespace epmc::pool_index {

// Products of places and strides, and sums with padding, stay in 64 bits.
constexpr int64_t kMaxStride = int64_t{1} << 30;

constexpr char kMaxPoolTarget[] = "epmc_max_pool";
constexpr char kGradientTarget[] = "epmc_pool_gradient";

using Sizes = ffi::Span<const int64_t>;

// Window, strides and low padding of all axes, batch and channels included.
struct Window {
  Sizes window;
  Sizes strides;
  Sizes padding;
};

// [batch, 1 to 3 pooled axes, channels], padded with axes of size 1.
inline ffi::ErrorOr<PoolShape> ShapeOf(const char* target, Sizes operand, Sizes result,
                                       const Window& window) {
  const auto refuse = [target](const char* argument, int64_t value, const std::string& limit) {
    return ffi::Unexpected(InvalidArgument(target, argument, value, limit));
  };
  const size_t rank = operand.size();
  if (rank < 3 || rank > 2 + kAxes) return refuse("rank of x", rank, "3 to 5");
  for (size_t size : {result.size(), window.window.size(), window.strides.size(),
                      window.padding.size()}) {
    if (size == rank) continue;
    return refuse("number of axes of the result, window, strides or padding", size,
                  std::to_string(rank) + ", the rank of x");
  }
  for (size_t axis : {size_t{0}, rank - 1}) {
    const auto refuse_axis = [&](const char* argument, int64_t value, int64_t expected) {
      return refuse(argument, value,
                    std::to_string(expected) + ": batch and channels are not pooled");
    };
    if (operand[axis] != result[axis]) {
      return refuse_axis("size of an axis of the result", result[axis], operand[axis]);
    }
    if (window.window[axis] != 1) return refuse_axis("window", window.window[axis], 1);
    if (window.strides[axis] != 1) return refuse_axis("stride", window.strides[axis], 1);
    if (window.padding[axis] != 0) return refuse_axis("padding", window.padding[axis], 0);
  }
  PoolShape shape = {operand[0], operand[rank - 1], {}};
  for (Axis& axis : shape.axes) axis = {1, 1, 1, 1, 0};
  int64_t places = 1;
  for (size_t i = 1; i + 1 < rank; ++i) {
    shape.axes[kAxes + 1 + i - rank] = {operand[i], result[i], window.window[i],
                                        window.strides[i], window.padding[i]};
    if (window.window[i] < 1 || window.window[i] > kMaxWindow) {
      return refuse("window", window.window[i], "1 to 256");
    }
    if (window.strides[i] < 1 || window.strides[i] > kMaxStride) {
      return refuse("stride", window.strides[i], "1 to 2^30");
    }
    if (window.padding[i] < -kMaxStride || window.padding[i] > kMaxStride) {
      return refuse("padding", window.padding[i], "-2^30 to 2^30");
    }
    places *= window.window[i];
  }
  if (places > kMaxWindow) return refuse("elements of the window", places, "at most 256");
  return shape;
}

inline ffi::Error CheckRows(const char* target, Sizes rows, const PoolShape& shape) {
  if (rows.size() != 2) return InvalidArgument(target, "rank of rows", rows.size(), "2");
  const int64_t elements = PooledRowElements(shape);
  const int64_t row_nbytes = int_pack::RowNbytes(elements, BitWidth(shape));
  return CheckRowsBuffer(target, rows, Rows{shape.batch, elements}, row_nbytes);
}

inline ffi::ErrorOr<MaxPoolArgs> CheckMaxPool(ffi::AnyBuffer x, ffi::Result<ffi::AnyBuffer> y,
                                              ffi::ResultBuffer<ffi::U8> rows,
                                              const Window& window) {
  const std::optional<FloatType> type = AsFloatType(x.element_type());
  if (!type || y->element_type() != x.element_type()) {
    return ffi::Unexpected(UnsupportedType(kMaxPoolTarget, x.element_type(),
                                           "f32, bf16 or f16, the type of y"));
  }
  const ffi::ErrorOr<PoolShape> shape =
      ShapeOf(kMaxPoolTarget, x.dimensions(), y->dimensions(), window);
  if (shape.has_error()) return ffi::Unexpected(shape.error());
  ffi::Error error = CheckRows(kMaxPoolTarget, rows->dimensions(), *shape);
  if (error.failure()) return ffi::Unexpected(error);
  return MaxPoolArgs{x.untyped_data(), y->untyped_data(), rows->typed_data(), *type, *shape};
}

inline ffi::ErrorOr<GradientArgs> CheckGradient(ffi::Buffer<ffi::U8> rows, ffi::AnyBuffer ct,
                                                ffi::Result<ffi::AnyBuffer> ct_x,
                                                const Window& window) {
  const std::optional<FloatType> type = AsFloatType(ct.element_type());
  if (!type || ct_x->element_type() != ct.element_type()) {
    return ffi::Unexpected(UnsupportedType(kGradientTarget, ct.element_type(),
                                           "f32, bf16 or f16, the type of ct_x"));
  }
  const ffi::ErrorOr<PoolShape> shape =
      ShapeOf(kGradientTarget, ct_x->dimensions(), ct.dimensions(), window);
  if (shape.has_error()) return ffi::Unexpected(shape.error());
  ffi::Error error = CheckRows(kGradientTarget, rows.dimensions(), *shape);
  if (error.failure()) return ffi::Unexpected(error);
  return GradientArgs{rows.typed_data(), ct.untyped_data(), ct_x->untyped_data(), *type,
                      *shape};
}

}  // namespace epmc::pool_index

#endif  // EPMC_POOL_INDEX_POOL_INDEX_FFI_H_
