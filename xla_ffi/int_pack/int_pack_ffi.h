// The checks that the handlers of IntPack share on CPU and CUDA.
#ifndef EPMC_INT_PACK_INT_PACK_FFI_H_
#define EPMC_INT_PACK_INT_PACK_FFI_H_

#include "xla_ffi/ffi/checks.h"
#include "xla_ffi/int_pack/int_pack.h"
#include "xla_ffi/int_pack/kernels.h"

namespace epmc::int_pack {

constexpr char kEncodeTarget[] = "epmc_int_pack_encode";
constexpr char kDecodeTarget[] = "epmc_int_pack_decode";

struct EncodeCall {
  EncodeArgs args;
  int64_t num_rows;
};

struct DecodeCall {
  DecodeArgs args;
  int64_t num_rows;
};

// Bytes of an integer type, 0 for all other types.
inline int IntegerNbytes(ffi::DataType type) {
  switch (type) {
    case ffi::DataType::S8:
    case ffi::DataType::U8:
      return 1;
    case ffi::DataType::S16:
    case ffi::DataType::U16:
      return 2;
    case ffi::DataType::S32:
    case ffi::DataType::U32:
      return 4;
    default:
      return 0;
  }
}

inline ffi::Error CheckArrays(const char* target, ffi::AnyBuffer::Dimensions encoded,
                              const Rows& rows, ffi::DataType type, int64_t bit_width) {
  if (IntegerNbytes(type) == 0) {
    return UnsupportedType(target, type, "an integer of 8, 16 or 32 bits");
  }
  if (bit_width < 1 || bit_width > kMaxBitWidth) {
    return InvalidArgument(target, "bit_width", bit_width, "1 to 32");
  }
  return CheckRowsBuffer(target, encoded, rows, RowNbytes(rows.elements, bit_width));
}

inline ffi::ErrorOr<EncodeCall> CheckEncode(ffi::AnyBuffer x, ffi::ResultBuffer<ffi::U8> out,
                                            int64_t bit_width) {
  const Rows rows = RowsOf(x.dimensions(), out->dimensions());
  ffi::Error error =
      CheckArrays(kEncodeTarget, out->dimensions(), rows, x.element_type(), bit_width);
  if (error.failure()) return ffi::Unexpected(error);
  const EncodeArgs args{x.untyped_data(), out->typed_data(), IntegerNbytes(x.element_type()),
                        rows.elements, static_cast<int>(bit_width)};
  return EncodeCall{args, rows.count};
}

inline ffi::ErrorOr<DecodeCall> CheckDecode(ffi::Buffer<ffi::U8> encoded,
                                            ffi::Result<ffi::AnyBuffer> x,
                                            int64_t bit_width) {
  const Rows rows = RowsOf(x->dimensions(), encoded.dimensions());
  ffi::Error error =
      CheckArrays(kDecodeTarget, encoded.dimensions(), rows, x->element_type(), bit_width);
  if (error.failure()) return ffi::Unexpected(error);
  const DecodeArgs args{encoded.typed_data(), x->untyped_data(),
                        IntegerNbytes(x->element_type()), rows.elements,
                        static_cast<int>(bit_width)};
  return DecodeCall{args, rows.count};
}

}  // namespace epmc::int_pack

#endif  // EPMC_INT_PACK_INT_PACK_FFI_H_
