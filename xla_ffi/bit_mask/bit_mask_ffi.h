// The checks that the handlers of BitMask share on CPU and CUDA.
#ifndef EPMC_BIT_MASK_BIT_MASK_FFI_H_
#define EPMC_BIT_MASK_BIT_MASK_FFI_H_

#include "xla_ffi/bit_mask/bit_mask.h"
#include "xla_ffi/bit_mask/kernels.h"
#include "xla_ffi/ffi/checks.h"

namespace epmc::bit_mask {

constexpr char kEncodeTarget[] = "epmc_bit_mask_encode";
constexpr char kDecodeTarget[] = "epmc_bit_mask_decode";

struct EncodeCall {
  EncodeArgs args;
  int64_t num_rows;
};

struct DecodeCall {
  DecodeArgs args;
  int64_t num_rows;
};

inline std::optional<ElementType> AsElementType(ffi::DataType type) {
  switch (type) {
    case ffi::DataType::PRED:
      return ElementType::kBool;
    case ffi::DataType::F32:
      return ElementType::kF32;
    case ffi::DataType::BF16:
      return ElementType::kBf16;
    case ffi::DataType::F16:
      return ElementType::kF16;
    default:
      return std::nullopt;
  }
}

inline ffi::ErrorOr<EncodeCall> CheckEncode(ffi::AnyBuffer x, ffi::ResultBuffer<ffi::U8> out) {
  const std::optional<ElementType> type = AsElementType(x.element_type());
  if (!type) {
    return ffi::Unexpected(
        UnsupportedType(kEncodeTarget, x.element_type(), "bool, f32, bf16 or f16"));
  }
  const Rows rows = RowsOf(x.dimensions(), out->dimensions());
  ffi::Error error =
      CheckRowsBuffer(kEncodeTarget, out->dimensions(), rows, RowNbytes(rows.elements));
  if (error.failure()) return ffi::Unexpected(error);
  const EncodeArgs args{x.untyped_data(), out->typed_data(), *type, rows.elements};
  return EncodeCall{args, rows.count};
}

inline ffi::ErrorOr<DecodeCall> CheckDecode(ffi::Buffer<ffi::U8> encoded,
                                            ffi::ResultBuffer<ffi::PRED> x) {
  const Rows rows = RowsOf(x->dimensions(), encoded.dimensions());
  ffi::Error error =
      CheckRowsBuffer(kDecodeTarget, encoded.dimensions(), rows, RowNbytes(rows.elements));
  if (error.failure()) return ffi::Unexpected(error);
  const DecodeArgs args{encoded.typed_data(), static_cast<uint8_t*>(x->untyped_data()),
                        rows.elements};
  return DecodeCall{args, rows.count};
}

}  // namespace epmc::bit_mask

#endif  // EPMC_BIT_MASK_BIT_MASK_FFI_H_
