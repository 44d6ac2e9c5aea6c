// epmc_pin on a stream: the work queued for its arguments comes before all that reads its
// result, and nothing is queued here.
#include "xla_ffi/ffi/checks.h"
#include "xla_ffi/ffi/on_stream.h"

namespace epmc {
namespace {

ffi::Error Pin(cudaStream_t stream, ffi::AnyBuffer x, ffi::RemainingArgs,
               ffi::Result<ffi::AnyBuffer> pinned) {
  constexpr char kTarget[] = "epmc_pin";
  if (pinned->size_bytes() != x.size_bytes()) {
    return InvalidArgument(kTarget, "bytes of the result", pinned->size_bytes(),
                           std::to_string(x.size_bytes()) + ", the bytes of x");
  }
  // XLA gives both the same memory, unless x is an input of the program that it must keep.
  if (pinned->untyped_data() != x.untyped_data() && x.size_bytes() > 0) {
    cudaMemcpyAsync(pinned->untyped_data(), x.untyped_data(), x.size_bytes(),
                    cudaMemcpyDeviceToDevice, stream);
  }
  return LaunchError(kTarget);
}

}  // namespace
}  // namespace epmc

EPMC_DEFINE_TARGET(epmc_pin, epmc::Pin,
                   xla::ffi::Ffi::Bind()
                       .Ctx<epmc::OnStream>()
                       .Arg<xla::ffi::AnyBuffer>()
                       .RemainingArgs()
                       .Ret<xla::ffi::AnyBuffer>(),
                   {epmc::kStreamTraits});
