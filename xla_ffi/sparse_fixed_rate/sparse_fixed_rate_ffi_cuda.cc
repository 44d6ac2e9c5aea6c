#include "xla_ffi/sparse_fixed_rate/sparse_fixed_rate_ffi.h"

#include "xla_ffi/ffi/on_stream.h"
#include "xla_ffi/sparse_fixed_rate/kernels_cuda.h"

namespace epmc::sparse_fixed_rate {
namespace {

ffi::Error Encode(cudaStream_t stream, ffi::AnyBuffer x, ffi::ResultBuffer<ffi::U8> out,
                  int64_t group_size, int64_t payload_nbytes, bool is_stochastic,
                  int64_t seed) {
  const ffi::ErrorOr<EncodeCall> call =
      CheckEncode(x, out, group_size, payload_nbytes, is_stochastic, seed);
  if (call.has_error()) return call.error();
  if (x.element_count() == 0) return ffi::Error::Success();
  LaunchEncode(call->args, call->num_rows, stream);
  return LaunchError(kEncodeTarget);
}

ffi::Error Decode(cudaStream_t stream, ffi::Buffer<ffi::U8> encoded, ffi::RemainingArgs,
                  ffi::Result<ffi::AnyBuffer> x, int64_t group_size, int64_t payload_nbytes) {
  const ffi::ErrorOr<DecodeCall> call = CheckDecode(encoded, x, group_size, payload_nbytes);
  if (call.has_error()) return call.error();
  if (x->element_count() == 0) return ffi::Error::Success();
  LaunchDecode(call->args, call->num_rows, stream);
  return LaunchError(kDecodeTarget);
}

ffi::Error Mask(cudaStream_t stream, ffi::Buffer<ffi::U8> encoded, ffi::RemainingArgs,
                ffi::ResultBuffer<ffi::PRED> mask, int64_t group_size, int64_t payload_nbytes,
                int64_t value_bits) {
  const ffi::ErrorOr<MaskCall> call =
      CheckMask(encoded, mask, group_size, payload_nbytes, value_bits);
  if (call.has_error()) return call.error();
  if (mask->element_count() == 0) return ffi::Error::Success();
  LaunchMask(call->args, call->num_rows, stream);
  return LaunchError(kMaskTarget);
}

}  // namespace
}  // namespace epmc::sparse_fixed_rate

EPMC_DEFINE_TARGET(epmc_sparse_fixed_rate_encode, epmc::sparse_fixed_rate::Encode,
                   xla::ffi::Ffi::Bind()
                       .Ctx<epmc::OnStream>()
                       .Arg<xla::ffi::AnyBuffer>()
                       .Ret<xla::ffi::Buffer<xla::ffi::U8>>()
                       .Attr<int64_t>("group_size")
                       .Attr<int64_t>("payload_nbytes")
                       .Attr<bool>("is_stochastic")
                       .Attr<int64_t>("seed"),
                   {epmc::kStreamTraits});

EPMC_DEFINE_TARGET(epmc_sparse_fixed_rate_decode, epmc::sparse_fixed_rate::Decode,
                   xla::ffi::Ffi::Bind()
                       .Ctx<epmc::OnStream>()
                       .Arg<xla::ffi::Buffer<xla::ffi::U8>>()
                       .RemainingArgs()
                       .Ret<xla::ffi::AnyBuffer>()
                       .Attr<int64_t>("group_size")
                       .Attr<int64_t>("payload_nbytes"),
                   {epmc::kStreamTraits});

EPMC_DEFINE_TARGET(epmc_sparse_fixed_rate_mask, epmc::sparse_fixed_rate::Mask,
                   xla::ffi::Ffi::Bind()
                       .Ctx<epmc::OnStream>()
                       .Arg<xla::ffi::Buffer<xla::ffi::U8>>()
                       .RemainingArgs()
                       .Ret<xla::ffi::Buffer<xla::ffi::PRED>>()
                       .Attr<int64_t>("group_size")
                       .Attr<int64_t>("payload_nbytes")
                       .Attr<int64_t>("value_bits"),
                   {epmc::kStreamTraits});
