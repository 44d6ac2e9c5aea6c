// The checks that the handlers of GroupQuant share on CPU and CUDA.
#ifndef EPMC_GROUP_QUANT_GROUP_QUANT_FFI_H_
#define EPMC_GROUP_QUANT_GROUP_QUANT_FFI_H_

#include "xla_ffi/ffi/checks.h"
#include "xla_ffi/group_quant/group_quant.h"
#include "xla_ffi/group_quant/kernels.h"

namespace epmc::group_quant {

constexpr char kEncodeTarget[] = "epmc_group_quant_encode";
constexpr char kDecodeTarget[] = "epmc_group_quant_decode";

struct EncodeCall {
  EncodeArgs args;
  int64_t num_rows;
};

struct DecodeCall {
  DecodeArgs args;
  int64_t num_rows;
};

inline ffi::Error CheckFormat(const char* target, int64_t bit_width, int64_t group_size) {
  if (bit_width != 8 && (bit_width < 1 || bit_width > 4)) {
    return InvalidArgument(target, "bit_width", bit_width, "1, 2, 3, 4 or 8");
  }
  if (group_size % kBlock != 0 || group_size < kMinGroupSize || group_size > kMaxGroupSize) {
    return InvalidArgument(target, "group_size", group_size, "a multiple of 32 up to 1024");
  }
  return ffi::Error::Success();
}

// Checks the format, the type of x, and that `encoded` has the rows of x.
inline ffi::Error CheckArrays(const char* target, ffi::DataType type, const Rows& rows,
                              ffi::AnyBuffer::Dimensions encoded, int64_t bit_width,
                              int64_t group_size) {
  ffi::Error error = CheckFormat(target, bit_width, group_size);
  if (error.failure()) return error;
  if (!AsFloatType(type)) return UnsupportedType(target, type, "f32, bf16 or f16");
  const RowLayout layout = LayoutOf(rows.elements, bit_width, group_size);
  return CheckRowsBuffer(target, encoded, rows, layout.nbytes);
}

inline ffi::ErrorOr<EncodeCall> CheckEncode(ffi::AnyBuffer x, ffi::ResultBuffer<ffi::U8> out,
                                            int64_t bit_width, int64_t group_size,
                                            bool is_stochastic, int64_t seed) {
  if (seed < 0 || seed > int64_t{UINT32_MAX}) {
    return ffi::Unexpected(InvalidArgument(kEncodeTarget, "seed", seed, "0 to 2^32 - 1"));
  }
  const Rows rows = RowsOf(x.dimensions(), out->dimensions());
  ffi::Error error = CheckArrays(kEncodeTarget, x.element_type(), rows, out->dimensions(),
                                 bit_width, group_size);
  if (error.failure()) return ffi::Unexpected(error);
  const Format format{static_cast<int>(bit_width), static_cast<int>(group_size),
                      is_stochastic, static_cast<uint32_t>(seed)};
  const EncodeArgs args{x.untyped_data(), out->typed_data(), *AsFloatType(x.element_type()),
                        rows.elements, format};
  return EncodeCall{args, rows.count};
}

inline ffi::ErrorOr<DecodeCall> CheckDecode(ffi::Buffer<ffi::U8> encoded,
                                            ffi::Result<ffi::AnyBuffer> x, int64_t bit_width,
                                            int64_t group_size) {
  const Rows rows = RowsOf(x->dimensions(), encoded.dimensions());
  ffi::Error error = CheckArrays(kDecodeTarget, x->element_type(), rows, encoded.dimensions(),
                                 bit_width, group_size);
  if (error.failure()) return ffi::Unexpected(error);
  const Format format{static_cast<int>(bit_width), static_cast<int>(group_size), false, 0};
  const DecodeArgs args{encoded.typed_data(), x->untyped_data(),
                        *AsFloatType(x->element_type()), rows.elements, format};
  return DecodeCall{args, rows.count};
}

}  // namespace epmc::group_quant

#endif  // EPMC_GROUP_QUANT_GROUP_QUANT_FFI_H_
