#include "xla_ffi/ffi/on_stream.h"
#include "xla_ffi/group_quant/group_quant_ffi.h"
#include "xla_ffi/group_quant/kernels_cuda.h"

namespace epmc::group_quant {
namespace {

ffi::Error Encode(cudaStream_t stream, ffi::AnyBuffer x, ffi::ResultBuffer<ffi::U8> out,
                  int64_t bit_width, int64_t group_size, bool is_stochastic, int64_t seed) {
  const ffi::ErrorOr<EncodeCall> call =
      CheckEncode(x, out, bit_width, group_size, is_stochastic, seed);
  if (call.has_error()) return call.error();
  if (x.element_count() == 0) return ffi::Error::Success();
  LaunchEncode(call->args, call->num_rows, stream);
  return LaunchError(kEncodeTarget);
}

ffi::Error Decode(cudaStream_t stream, ffi::Buffer<ffi::U8> encoded, ffi::RemainingArgs,
                  ffi::Result<ffi::AnyBuffer> x, int64_t bit_width, int64_t group_size) {
  const ffi::ErrorOr<DecodeCall> call = CheckDecode(encoded, x, bit_width, group_size);
  if (call.has_error()) return call.error();
  if (x->element_count() == 0) return ffi::Error::Success();
  LaunchDecode(call->args, call->num_rows, stream);
  return LaunchError(kDecodeTarget);
}

}  // namespace
}  // namespace epmc::group_quant

EPMC_DEFINE_TARGET(epmc_group_quant_encode, epmc::group_quant::Encode,
                   xla::ffi::Ffi::Bind()
                       .Ctx<epmc::OnStream>()
                       .Arg<xla::ffi::AnyBuffer>()
                       .Ret<xla::ffi::Buffer<xla::ffi::U8>>()
                       .Attr<int64_t>("bit_width")
                       .Attr<int64_t>("group_size")
                       .Attr<bool>("is_stochastic")
                       .Attr<int64_t>("seed"),
                   {epmc::kStreamTraits});

EPMC_DEFINE_TARGET(epmc_group_quant_decode, epmc::group_quant::Decode,
                   xla::ffi::Ffi::Bind()
                       .Ctx<epmc::OnStream>()
                       .Arg<xla::ffi::Buffer<xla::ffi::U8>>()
                       .RemainingArgs()
                       .Ret<xla::ffi::AnyBuffer>()
                       .Attr<int64_t>("bit_width")
                       .Attr<int64_t>("group_size"),
                   {epmc::kStreamTraits});
