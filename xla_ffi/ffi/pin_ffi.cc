// epmc_pin: returns its first argument after all others exist. It does nothing, and XLA
// cannot know that: the order of its arguments and its result is kept by every scheduler.
#include <cstring>

#include "xla_ffi/ffi/checks.h"

namespace epmc {
namespace {

ffi::Error Pin(ffi::AnyBuffer x, ffi::RemainingArgs, ffi::Result<ffi::AnyBuffer> pinned) {
  if (pinned->size_bytes() != x.size_bytes()) {
    return InvalidArgument("epmc_pin", "bytes of the result", pinned->size_bytes(),
                           std::to_string(x.size_bytes()) + ", the bytes of x");
  }
  // XLA gives both the same memory, unless x is an input of the program that it must keep.
  if (pinned->untyped_data() != x.untyped_data() && x.size_bytes() > 0) {
    std::memcpy(pinned->untyped_data(), x.untyped_data(), x.size_bytes());
  }
  return ffi::Error::Success();
}

}  // namespace
}  // namespace epmc

EPMC_DEFINE_TARGET(epmc_pin, epmc::Pin,
                   xla::ffi::Ffi::Bind()
                       .Arg<xla::ffi::AnyBuffer>()
                       .RemainingArgs()
                       .Ret<xla::ffi::AnyBuffer>());
