#include "xla_ffi/csr/csr_ffi.h"
#include "xla_ffi/csr/kernels_cuda.h"
#include "xla_ffi/ffi/on_stream.h"

namespace epmc::csr {
namespace {

ffi::Error Encode(cudaStream_t stream, ffi::AnyBuffer x, ffi::ResultBuffer<ffi::U8> out,
                  double capacity) {
  const ffi::ErrorOr<EncodeCall> call = CheckEncode(x, out, capacity);
  if (call.has_error()) return call.error();
  if (x.element_count() == 0) return ffi::Error::Success();
  LaunchEncode(call->args, call->num_rows, stream);
  return LaunchError(kEncodeTarget);
}

ffi::Error Decode(cudaStream_t stream, ffi::Buffer<ffi::U8> encoded, ffi::RemainingArgs,
                  ffi::Result<ffi::AnyBuffer> x, double capacity) {
  const ffi::ErrorOr<DecodeCall> call = CheckDecode(encoded, x, capacity);
  if (call.has_error()) return call.error();
  if (x->element_count() == 0) return ffi::Error::Success();
  LaunchDecode(call->args, call->num_rows, stream);
  return LaunchError(kDecodeTarget);
}

}  // namespace
}  // namespace epmc::csr

EPMC_DEFINE_TARGET(epmc_csr_encode, epmc::csr::Encode,
                   xla::ffi::Ffi::Bind()
                       .Ctx<epmc::OnStream>()
                       .Arg<xla::ffi::AnyBuffer>()
                       .Ret<xla::ffi::Buffer<xla::ffi::U8>>()
                       .Attr<double>("capacity"),
                   {epmc::kStreamTraits});

EPMC_DEFINE_TARGET(epmc_csr_decode, epmc::csr::Decode,
                   xla::ffi::Ffi::Bind()
                       .Ctx<epmc::OnStream>()
                       .Arg<xla::ffi::Buffer<xla::ffi::U8>>()
                       .RemainingArgs()
                       .Ret<xla::ffi::AnyBuffer>()
                       .Attr<double>("capacity"),
                   {epmc::kStreamTraits});
