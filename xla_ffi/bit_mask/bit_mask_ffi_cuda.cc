#include "xla_ffi/bit_mask/bit_mask_ffi.h"
#include "xla_ffi/bit_mask/kernels_cuda.h"
#include "xla_ffi/ffi/on_stream.h"

namespace epmc::bit_mask {
namespace {

ffi::Error Encode(cudaStream_t stream, ffi::AnyBuffer x, ffi::ResultBuffer<ffi::U8> out) {
  const ffi::ErrorOr<EncodeCall> call = CheckEncode(x, out);
  if (call.has_error()) return call.error();
  if (x.element_count() == 0) return ffi::Error::Success();
  LaunchEncode(call->args, call->num_rows, stream);
  return LaunchError(kEncodeTarget);
}

ffi::Error Decode(cudaStream_t stream, ffi::Buffer<ffi::U8> encoded, ffi::RemainingArgs,
                  ffi::ResultBuffer<ffi::PRED> x) {
  const ffi::ErrorOr<DecodeCall> call = CheckDecode(encoded, x);
  if (call.has_error()) return call.error();
  if (x->element_count() == 0) return ffi::Error::Success();
  LaunchDecode(call->args, call->num_rows, stream);
  return LaunchError(kDecodeTarget);
}

}  // namespace
}  // namespace epmc::bit_mask

EPMC_DEFINE_TARGET(epmc_bit_mask_encode, epmc::bit_mask::Encode,
                   xla::ffi::Ffi::Bind()
                       .Ctx<epmc::OnStream>()
                       .Arg<xla::ffi::AnyBuffer>()
                       .Ret<xla::ffi::Buffer<xla::ffi::U8>>(),
                   {epmc::kStreamTraits});

EPMC_DEFINE_TARGET(epmc_bit_mask_decode, epmc::bit_mask::Decode,
                   xla::ffi::Ffi::Bind()
                       .Ctx<epmc::OnStream>()
                       .Arg<xla::ffi::Buffer<xla::ffi::U8>>()
                       .RemainingArgs()
                       .Ret<xla::ffi::Buffer<xla::ffi::PRED>>(),
                   {epmc::kStreamTraits});
