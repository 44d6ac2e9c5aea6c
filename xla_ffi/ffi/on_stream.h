// What the handlers of the CUDA library share: the stream, errors, traits.
#ifndef EPMC_FFI_ON_STREAM_H_
#define EPMC_FFI_ON_STREAM_H_

#include <optional>
#include <string>

#include "xla/ffi/api/ffi.h"
#include "xla_ffi/common/cuda_kernel.h"

namespace epmc {

namespace ffi = ::xla::ffi;

// A handler's context: XLA's stream; in the emulator, which runs on a CPU, none.
struct OnStream {};

// No handler allocates or waits, so XLA may record its launches in a CUDA graph.
constexpr ffi::Traits kStreamTraits = ffi::Traits::kCmdBufferCompatible;

// The error of the launches before it, if there was one.
inline ffi::Error LaunchError(const char* target) {
  const cudaError_t error = cudaGetLastError();
  if (error == cudaSuccess) return ffi::Error::Success();
  return ffi::Error::Internal(std::string(target) + ": " + cudaGetErrorString(error));
}

}  // namespace epmc

namespace xla::ffi {

template <>
struct CtxDecoding<epmc::OnStream> {
  using Type = cudaStream_t;

  static std::optional<Type> Decode([[maybe_unused]] const XLA_FFI_Api* api,
                                    [[maybe_unused]] XLA_FFI_ExecutionContext* context,
                                    [[maybe_unused]] DiagnosticEngine& diagnostic) {
#if defined(EPMC_EMULATED)
    return Type{};
#else
    return CtxDecoding<PlatformStream<cudaStream_t>>::Decode(api, context, diagnostic);
#endif
  }
};

}  // namespace xla::ffi

#endif  // EPMC_FFI_ON_STREAM_H_
