// The checks that the handlers of Narrow share on CPU and CUDA.
#ifndef EPMC_NARROW_NARROW_FFI_H_
#define EPMC_NARROW_NARROW_FFI_H_

#include "xla_ffi/ffi/checks.h"
#include "xla_ffi/narrow/kernels.h"
#include "xla_ffi/narrow/narrow.h"

namespace epmc::narrow {

constexpr char kEncodeTarget[] = "epmc_narrow_encode";
constexpr char kDecodeTarget[] = "epmc_narrow_decode";

struct EncodeCall {
  EncodeArgs args;
  int64_t num_rows;
};

struct DecodeCall {
  DecodeArgs args;
  int64_t num_rows;
};

// Values are told apart by the bits of their mantissa.
inline ffi::ErrorOr<Format> FormatOf(const char* target, int64_t mantissa_bits,
                                     int64_t group_size) {
  if (group_size % kBlock != 0 || group_size < kMinGroupSize || group_size > kMaxGroupSize) {
    return ffi::Unexpected(
        InvalidArgument(target, "group_size", group_size, "a multiple of 32 up to 1024"));
  }
  const int size = static_cast<int>(group_size);
  switch (mantissa_bits) {
    case 7:
      return Format{ValueType::kBf16, size};
    case AsE4m3fn::kMantissaBits:
      return Format{ValueType::kE4m3fn, size};
    case AsE5m2::kMantissaBits:
      return Format{ValueType::kE5m2, size};
    default:
      return ffi::Unexpected(InvalidArgument(target, "mantissa_bits", mantissa_bits,
                                             "7 (bf16), 3 (f8e4m3fn) or 2 (f8e5m2)"));
  }
}

// Checks the type of x, and that `encoded` has the rows of x.
inline ffi::Error CheckArrays(const char* target, ffi::DataType type, const Rows& rows,
                              ffi::AnyBuffer::Dimensions encoded, const Format& format) {
  if (!AsFloatType(type)) return UnsupportedType(target, type, "f32, bf16 or f16");
  const int value_nbytes = format.value == ValueType::kBf16 ? 2 : 1;
  const RowLayout layout = LayoutOf(rows.elements, value_nbytes, format.group_size);
  return CheckRowsBuffer(target, encoded, rows, layout.nbytes);
}

inline ffi::ErrorOr<EncodeCall> CheckEncode(ffi::AnyBuffer x, ffi::ResultBuffer<ffi::U8> out,
                                            int64_t mantissa_bits, int64_t group_size) {
  const ffi::ErrorOr<Format> format = FormatOf(kEncodeTarget, mantissa_bits, group_size);
  if (format.has_error()) return ffi::Unexpected(format.error());
  const Rows rows = RowsOf(x.dimensions(), out->dimensions());
  ffi::Error error =
      CheckArrays(kEncodeTarget, x.element_type(), rows, out->dimensions(), *format);
  if (error.failure()) return ffi::Unexpected(error);
  const EncodeArgs args{x.untyped_data(), out->typed_data(), *AsFloatType(x.element_type()),
                        rows.elements, *format};
  return EncodeCall{args, rows.count};
}

inline ffi::ErrorOr<DecodeCall> CheckDecode(ffi::Buffer<ffi::U8> encoded,
                                            ffi::Result<ffi::AnyBuffer> x,
                                            int64_t mantissa_bits, int64_t group_size) {
  const ffi::ErrorOr<Format> format = FormatOf(kDecodeTarget, mantissa_bits, group_size);
  if (format.has_error()) return ffi::Unexpected(format.error());
  const Rows rows = RowsOf(x->dimensions(), encoded.dimensions());
  ffi::Error error =
      CheckArrays(kDecodeTarget, x->element_type(), rows, encoded.dimensions(), *format);
  if (error.failure()) return ffi::Unexpected(error);
  const DecodeArgs args{encoded.typed_data(), x->untyped_data(),
                        *AsFloatType(x->element_type()), rows.elements, *format};
  return DecodeCall{args, rows.count};
}

}  // namespace epmc::narrow

#endif  // EPMC_NARROW_NARROW_FFI_H_
