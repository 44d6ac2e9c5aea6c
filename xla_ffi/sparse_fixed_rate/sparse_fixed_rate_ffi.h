// The checks that the handlers of SparseFixedRate share on CPU and CUDA.
#ifndef EPMC_SPARSE_FIXED_RATE_SPARSE_FIXED_RATE_FFI_H_
#define EPMC_SPARSE_FIXED_RATE_SPARSE_FIXED_RATE_FFI_H_

#include "xla_ffi/ffi/checks.h"
#include "xla_ffi/sparse_fixed_rate/kernels.h"
#include "xla_ffi/sparse_fixed_rate/sparse_fixed_rate.h"

namespace epmc::sparse_fixed_rate {

constexpr char kEncodeTarget[] = "epmc_sparse_fixed_rate_encode";
constexpr char kDecodeTarget[] = "epmc_sparse_fixed_rate_decode";
constexpr char kMaskTarget[] = "epmc_sparse_fixed_rate_mask";

struct EncodeCall {
  EncodeArgs args;
  int64_t num_rows;
};

struct DecodeCall {
  DecodeArgs args;
  int64_t num_rows;
};

struct MaskCall {
  MaskArgs args;
  int64_t num_rows;
};

// The format, if it is one and `encoded` has rows of it.
inline ffi::ErrorOr<Format> CheckFormat(const char* target, const Rows& rows,
                                        ffi::AnyBuffer::Dimensions encoded, int64_t group_size,
                                        int64_t payload_nbytes) {
  const bool is_power = group_size > 0 && (group_size & (group_size - 1)) == 0;
  if (!is_power || group_size < kMinGroupSize || group_size > kMaxGroupSize) {
    return ffi::Unexpected(
        InvalidArgument(target, "group_size", group_size, "64, 128, 256, 512 or 1024"));
  }
  constexpr int64_t kMost = 2 * kPool;
  if (payload_nbytes < 16 || payload_nbytes > kMost || payload_nbytes % 16 != 0) {
    return ffi::Unexpected(InvalidArgument(target, "payload_nbytes", payload_nbytes,
                                           "a multiple of 16 up to " + std::to_string(kMost)));
  }
  const Format format{static_cast<int>(group_size), payload_nbytes};
  ffi::Error error =
      CheckRowsBuffer(target, encoded, rows, LayoutOf(rows.elements, format).nbytes);
  if (error.failure()) return ffi::Unexpected(error);
  return format;
}

inline ffi::ErrorOr<EncodeCall> CheckEncode(ffi::AnyBuffer x, ffi::ResultBuffer<ffi::U8> out,
                                            int64_t group_size, int64_t payload_nbytes,
                                            bool is_stochastic, int64_t seed) {
  const std::optional<FloatType> type = AsFloatType(x.element_type());
  if (!type) {
    return ffi::Unexpected(
        UnsupportedType(kEncodeTarget, x.element_type(), "f32, bf16 or f16"));
  }
  const Rows rows = RowsOf(x.dimensions(), out->dimensions());
  const ffi::ErrorOr<Format> format =
      CheckFormat(kEncodeTarget, rows, out->dimensions(), group_size, payload_nbytes);
  if (format.has_error()) return ffi::Unexpected(format.error());
  if (seed < 0 || seed > UINT32_MAX) {
    return ffi::Unexpected(InvalidArgument(kEncodeTarget, "seed", seed, "0 to 4294967295"));
  }
  const EncodeArgs args{x.untyped_data(), out->typed_data(), *type,
                        rows.elements,    *format,           is_stochastic,
                        static_cast<uint32_t>(seed)};
  return EncodeCall{args, rows.count};
}

inline ffi::ErrorOr<DecodeCall> CheckDecode(ffi::Buffer<ffi::U8> encoded,
                                            ffi::Result<ffi::AnyBuffer> x, int64_t group_size,
                                            int64_t payload_nbytes) {
  const std::optional<FloatType> type = AsFloatType(x->element_type());
  if (!type) {
    return ffi::Unexpected(
        UnsupportedType(kDecodeTarget, x->element_type(), "f32, bf16 or f16"));
  }
  const Rows rows = RowsOf(x->dimensions(), encoded.dimensions());
  const ffi::ErrorOr<Format> format =
      CheckFormat(kDecodeTarget, rows, encoded.dimensions(), group_size, payload_nbytes);
  if (format.has_error()) return ffi::Unexpected(format.error());
  const DecodeArgs args{encoded.typed_data(), x->untyped_data(), *type, rows.elements, *format};
  return DecodeCall{args, rows.count};
}

inline ffi::ErrorOr<MaskCall> CheckMask(ffi::Buffer<ffi::U8> encoded,
                                        ffi::ResultBuffer<ffi::PRED> mask, int64_t group_size,
                                        int64_t payload_nbytes, int64_t value_bits) {
  if (value_bits != 16 && value_bits != 32) {
    return ffi::Unexpected(InvalidArgument(kMaskTarget, "value_bits", value_bits, "16 or 32"));
  }
  const Rows rows = RowsOf(mask->dimensions(), encoded.dimensions());
  const ffi::ErrorOr<Format> format =
      CheckFormat(kMaskTarget, rows, encoded.dimensions(), group_size, payload_nbytes);
  if (format.has_error()) return ffi::Unexpected(format.error());
  const MaskArgs args{encoded.typed_data(), static_cast<uint8_t*>(mask->untyped_data()),
                      static_cast<int>(value_bits), rows.elements, *format};
  return MaskCall{args, rows.count};
}

inline int64_t PoolsOf(int64_t num_rows, int64_t row_elements, const Format& format) {
  return num_rows * LayoutOf(row_elements, format).pools;
}

}  // namespace epmc::sparse_fixed_rate

#endif  // EPMC_SPARSE_FIXED_RATE_SPARSE_FIXED_RATE_FFI_H_
