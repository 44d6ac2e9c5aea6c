// The checks that the handlers of Csr share on CPU and CUDA.
#ifndef EPMC_CSR_CSR_FFI_H_
#define EPMC_CSR_CSR_FFI_H_

#include "xla_ffi/csr/csr.h"
#include "xla_ffi/csr/kernels.h"
#include "xla_ffi/ffi/checks.h"

namespace epmc::csr {

constexpr char kEncodeTarget[] = "epmc_csr_encode";
constexpr char kDecodeTarget[] = "epmc_csr_decode";

struct EncodeCall {
  EncodeArgs args;
  int64_t num_rows;
};

struct DecodeCall {
  DecodeArgs args;
  int64_t num_rows;
};

// The layout of the rows of x, if that is what `encoded` has.
inline ffi::ErrorOr<RowLayout> CheckArrays(const char* target, ffi::DataType type,
                                           const Rows& rows,
                                           ffi::AnyBuffer::Dimensions encoded,
                                           double capacity) {
  if (!AsFloatType(type)) {
    return ffi::Unexpected(UnsupportedType(target, type, "f32, bf16 or f16"));
  }
  if (!(capacity > 0 && capacity <= 1)) {
    return ffi::Unexpected(InvalidArgument(target, "capacity, rounded down,",
                                           static_cast<int64_t>(capacity),
                                           "a fraction above 0 and at most 1"));
  }
  const int element_nbytes = type == ffi::DataType::F32 ? 4 : 2;
  const RowLayout layout = LayoutOf(rows.elements, element_nbytes, capacity);
  ffi::Error error = CheckRowsBuffer(target, encoded, rows, layout.nbytes);
  if (error.failure()) return ffi::Unexpected(error);
  return layout;
}

inline uint32_t NanOf(FloatType type) {
  switch (type) {
    case FloatType::kF32:
      return 0x7fc00000u;
    case FloatType::kBf16:
      return 0x7fc0u;
    default:
      return 0x7e00u;
  }
}

inline ffi::ErrorOr<EncodeCall> CheckEncode(ffi::AnyBuffer x, ffi::ResultBuffer<ffi::U8> out,
                                            double capacity) {
  const Rows rows = RowsOf(x.dimensions(), out->dimensions());
  const ffi::ErrorOr<RowLayout> layout =
      CheckArrays(kEncodeTarget, x.element_type(), rows, out->dimensions(), capacity);
  if (layout.has_error()) return ffi::Unexpected(layout.error());
  return EncodeCall{{x.untyped_data(), out->typed_data(), *layout}, rows.count};
}

inline ffi::ErrorOr<DecodeCall> CheckDecode(ffi::Buffer<ffi::U8> encoded,
                                            ffi::Result<ffi::AnyBuffer> x, double capacity) {
  const Rows rows = RowsOf(x->dimensions(), encoded.dimensions());
  const ffi::ErrorOr<RowLayout> layout =
      CheckArrays(kDecodeTarget, x->element_type(), rows, encoded.dimensions(), capacity);
  if (layout.has_error()) return ffi::Unexpected(layout.error());
  const uint32_t nan = NanOf(*AsFloatType(x->element_type()));
  return DecodeCall{{encoded.typed_data(), x->untyped_data(), *layout, nan}, rows.count};
}

}  // namespace epmc::csr

#endif  // EPMC_CSR_CSR_FFI_H_
