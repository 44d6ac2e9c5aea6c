// Checks shared by all handlers. An error names the target, the argument, what it is and
// what it should be.
#ifndef EPMC_FFI_CHECKS_H_
#define EPMC_FFI_CHECKS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "xla/ffi/api/ffi.h"
#include "xla_ffi/common/float_types.h"

namespace epmc {

namespace ffi = ::xla::ffi;

// An array seen as rows: all axes of the encoded array but its last count them, and count
// those of the array itself too. Arrays with less axes are one row.
struct Rows {
  int64_t count;
  int64_t elements;
  ffi::AnyBuffer::Dimensions axes = {};  // of the array, that count the rows
};

inline Rows RowsOf(ffi::AnyBuffer::Dimensions x, ffi::AnyBuffer::Dimensions encoded) {
  const size_t row_axes = encoded.size() < 2 ? 0 : encoded.size() - 1;
  Rows rows{1, 1};
  if (x.size() > row_axes) rows.axes = {x.begin(), row_axes};
  for (size_t i = 0; i < x.size(); ++i) {
    (i < rows.axes.size() ? rows.count : rows.elements) *= x[i];
  }
  return rows;
}

inline ffi::Error InvalidArgument(const char* target, const char* argument, int64_t value,
                                  const std::string& expected) {
  return ffi::Error(ffi::ErrorCode::kInvalidArgument,
                    std::string(target) + ": " + argument + " is " + std::to_string(value) +
                        ", expected " + expected + ".");
}

// `dimensions` must be [..., row_nbytes], with leading axes that count the rows.
inline ffi::Error CheckRowsBuffer(const char* target, ffi::AnyBuffer::Dimensions dimensions,
                                  const Rows& rows, int64_t row_nbytes) {
  if (dimensions.size() < 2) {
    return InvalidArgument(target, "rank of rows", dimensions.size(), "2 or more");
  }
  int64_t count = 1;
  for (size_t i = 0; i + 1 < dimensions.size(); ++i) count *= dimensions[i];
  if (count != rows.count) {
    return InvalidArgument(target, "number of rows", count,
                           std::to_string(rows.count) + ", the leading axes of x");
  }
  for (size_t i = 0; i < rows.axes.size(); ++i) {
    if (dimensions[i] != rows.axes[i]) {
      return InvalidArgument(target, "size of an axis of rows", dimensions[i],
                             std::to_string(rows.axes[i]) + ", that of x");
    }
  }
  if (dimensions.back() != row_nbytes) {
    return InvalidArgument(target, "bytes per row", dimensions.back(),
                           std::to_string(row_nbytes) + " for " +
                               std::to_string(rows.elements) + " elements");
  }
  return ffi::Error::Success();
}

inline std::optional<FloatType> AsFloatType(ffi::DataType type) {
  switch (type) {
    case ffi::DataType::F32:
      return FloatType::kF32;
    case ffi::DataType::BF16:
      return FloatType::kBf16;
    case ffi::DataType::F16:
      return FloatType::kF16;
    default:
      return std::nullopt;
  }
}

inline ffi::Error UnsupportedType(const char* target, ffi::DataType type,
                                  const std::string& expected) {
  return InvalidArgument(target, "element type of x (XLA number)", static_cast<int64_t>(type),
                         expected);
}

}  // namespace epmc

// Defines the handler of a target as a C symbol of the target's name; all else is hidden.
#define EPMC_DEFINE_TARGET(target, function, ...)                           \
  extern "C" __attribute__((visibility("default"))) XLA_FFI_Error* target( \
      XLA_FFI_CallFrame* call_frame);                                       \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(target, function, __VA_ARGS__)

#endif  // EPMC_FFI_CHECKS_H_
