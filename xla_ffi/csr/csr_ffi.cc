#include "xla_ffi/csr/csr_ffi.h"

#include "xla_ffi/ffi/parallel.h"

namespace epmc::csr {
namespace {

ffi::Error Encode(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::ResultBuffer<ffi::U8> out,
                  double capacity) {
  const ffi::ErrorOr<EncodeCall> call = CheckEncode(x, out, capacity);
  if (call.has_error()) return call.error();
  ParallelFor(pool, call->num_rows, x.size_bytes(),
              [&](UnitRange rows) { EncodeOnHost(call->args, rows); });
  return ffi::Error::Success();
}

ffi::Error Decode(ffi::ThreadPool pool, ffi::Buffer<ffi::U8> encoded, ffi::RemainingArgs,
                  ffi::Result<ffi::AnyBuffer> x, double capacity) {
  const ffi::ErrorOr<DecodeCall> call = CheckDecode(encoded, x, capacity);
  if (call.has_error()) return call.error();
  ParallelFor(pool, call->num_rows, x->size_bytes(),
              [&](UnitRange rows) { DecodeOnHost(call->args, rows); });
  return ffi::Error::Success();
}

}  // namespace
}  // namespace epmc::csr

EPMC_DEFINE_TARGET(epmc_csr_encode, epmc::csr::Encode,
                   xla::ffi::Ffi::Bind()
                       .Ctx<xla::ffi::ThreadPool>()
                       .Arg<xla::ffi::AnyBuffer>()
                       .Ret<xla::ffi::Buffer<xla::ffi::U8>>()
                       .Attr<double>("capacity"));

EPMC_DEFINE_TARGET(epmc_csr_decode, epmc::csr::Decode,
                   xla::ffi::Ffi::Bind()
                       .Ctx<xla::ffi::ThreadPool>()
                       .Arg<xla::ffi::Buffer<xla::ffi::U8>>()
                       .RemainingArgs()
                       .Ret<xla::ffi::AnyBuffer>()
                       .Attr<double>("capacity"));
