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

// An array seen as rows: the leading axis, if there are at least two.
struct Rows {
  int64_t count;
  int64_t elements;
};

inline Rows RowsOf(ffi::AnyBuffer::Dimensions dimensions) {
  const bool has_rows = dimensions.size() >= 2;
  Rows rows{has_rows ? dimensions[0] : 1, 1};
  for (size_t i = has_rows ? 1 : 0; i < dimensions.size(); ++i) rows.elements *= dimensions[i];
  return rows;
}

inline ffi::Error InvalidArgument(const char* target, const char* argument, int64_t value,
                                  const std::string& expected) {
  return ffi::Error(ffi::ErrorCode::kInvalidArgument,
                    std::string(target) + ": " + argument + " is " + std::to_string(value) +
                        ", expected " + expected + ".");
}

// `dimensions` must be [rows.count, row_nbytes].
inline ffi::Error CheckRowsBuffer(const char* target, ffi::AnyBuffer::Dimensions dimensions,
                                  const Rows& rows, int64_t row_nbytes) {
  if (dimensions.size() != 2) {
    return InvalidArgument(target, "rank of rows", dimensions.size(), "2");
  }
  if (dimensions[0] != rows.count) {
    return InvalidArgument(target, "number of rows", dimensions[0],
                           std::to_string(rows.count) + ", the leading axis of x");
  }
  if (dimensions[1] != row_nbytes) {
    return InvalidArgument(target, "bytes per row", dimensions[1],
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
