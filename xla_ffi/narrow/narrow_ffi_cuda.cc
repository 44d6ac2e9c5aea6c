#include "xla_ffi/ffi/on_stream.h"
#include "xla_ffi/narrow/kernels_cuda.h"
#include "xla_ffi/narrow/narrow_ffi.h"

namespace epmc::narrow {
namespace {

ffi::Error Encode(cudaStream_t stream, ffi::AnyBuffer x, ffi::ResultBuffer<ffi::U8> out,
                  int64_t mantissa_bits, int64_t group_size) {
  const ffi::ErrorOr<EncodeCall> call = CheckEncode(x, out, mantissa_bits, group_size);
  if (call.has_error()) return call.error();
  if (x.element_count() == 0) return ffi::Error::Success();
  LaunchEncode(call->args, call->num_rows, stream);
  return LaunchError(kEncodeTarget);
}

ffi::Error Decode(cudaStream_t stream, ffi::Buffer<ffi::U8> encoded, ffi::RemainingArgs,
                  ffi::Result<ffi::AnyBuffer> x, int64_t mantissa_bits, int64_t group_size) {
  const ffi::ErrorOr<DecodeCall> call = CheckDecode(encoded, x, mantissa_bits, group_size);
  if (call.has_error()) return call.error();
  if (x->element_count() == 0) return ffi::Error::Success();
  LaunchDecode(call->args, call->num_rows, stream);
  return LaunchError(kDecodeTarget);
}

}  // namespace
}  // namespace epmc::narrow

EPMC_DEFINE_TARGET(epmc_narrow_encode, epmc::narrow::Encode,
                   xla::ffi::Ffi::Bind()
                       .Ctx<epmc::OnStream>()
                       .Arg<xla::ffi::AnyBuffer>()
                       .Ret<xla::ffi::Buffer<xla::ffi::U8>>()
                       .Attr<int64_t>("mantissa_bits")
                       .Attr<int64_t>("group_size"),
                   {epmc::kStreamTraits});

EPMC_DEFINE_TARGET(epmc_narrow_decode, epmc::narrow::Decode,
                   xla::ffi::Ffi::Bind()
                       .Ctx<epmc::OnStream>()
                       .Arg<xla::ffi::Buffer<xla::ffi::U8>>()
                       .RemainingArgs()
                       .Ret<xla::ffi::AnyBuffer>()
                       .Attr<int64_t>("mantissa_bits")
                       .Attr<int64_t>("group_size"),
                   {epmc::kStreamTraits});
