#include "xla_ffi/ffi/on_stream.h"
#include "xla_ffi/int_pack/int_pack_ffi.h"
#include "xla_ffi/int_pack/kernels_cuda.h"

namespace epmc::int_pack {
namespace {

ffi::Error Encode(cudaStream_t stream, ffi::AnyBuffer x, ffi::ResultBuffer<ffi::U8> out,
                  int64_t bit_width) {
  const ffi::ErrorOr<EncodeCall> call = CheckEncode(x, out, bit_width);
  if (call.has_error()) return call.error();
  if (x.element_count() == 0) return ffi::Error::Success();
  LaunchEncode(call->args, call->num_rows, stream);
  return LaunchError(kEncodeTarget);
}

ffi::Error Decode(cudaStream_t stream, ffi::Buffer<ffi::U8> encoded, ffi::RemainingArgs,
                  ffi::Result<ffi::AnyBuffer> x, int64_t bit_width) {
  const ffi::ErrorOr<DecodeCall> call = CheckDecode(encoded, x, bit_width);
  if (call.has_error()) return call.error();
  if (x->element_count() == 0) return ffi::Error::Success();
  LaunchDecode(call->args, call->num_rows, stream);
  return LaunchError(kDecodeTarget);
}

}  // namespace
}  // namespace epmc::int_pack

EPMC_DEFINE_TARGET(epmc_int_pack_encode, epmc::int_pack::Encode,
                   xla::ffi::Ffi::Bind()
                       .Ctx<epmc::OnStream>()
                       .Arg<xla::ffi::AnyBuffer>()
                       .Ret<xla::ffi::Buffer<xla::ffi::U8>>()
                       .Attr<int64_t>("bit_width"),
                   {epmc::kStreamTraits});

EPMC_DEFINE_TARGET(epmc_int_pack_decode, epmc::int_pack::Decode,
                   xla::ffi::Ffi::Bind()
                       .Ctx<epmc::OnStream>()
                       .Arg<xla::ffi::Buffer<xla::ffi::U8>>()
                       .RemainingArgs()
                       .Ret<xla::ffi::AnyBuffer>()
                       .Attr<int64_t>("bit_width"),
                   {epmc::kStreamTraits});
