#include "xla_ffi/narrow/narrow_ffi.h"

#include "xla_ffi/ffi/cache.h"
#include "xla_ffi/ffi/parallel.h"

namespace epmc::narrow {
namespace {

ffi::Error Encode(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::ResultBuffer<ffi::U8> out,
                  int64_t mantissa_bits, int64_t group_size) {
  const ffi::ErrorOr<EncodeCall> call = CheckEncode(x, out, mantissa_bits, group_size);
  if (call.has_error()) return call.error();
  const int64_t groups = call->num_rows * CeilDiv(call->args.row_elements, group_size);
  ParallelFor(pool, groups, x.size_bytes(),
              [&](UnitRange range) { EncodeOnHost(call->args, range); });
  return ffi::Error::Success();
}

ffi::Error Decode(ffi::ThreadPool pool, ffi::Buffer<ffi::U8> encoded, ffi::RemainingArgs,
                  ffi::Result<ffi::AnyBuffer> x, int64_t mantissa_bits, int64_t group_size) {
  const ffi::ErrorOr<DecodeCall> call = CheckDecode(encoded, x, mantissa_bits, group_size);
  if (call.has_error()) return call.error();
  const int64_t groups = call->num_rows * CeilDiv(call->args.row_elements, group_size);
  DecodeArgs args = call->args;
  args.bypass_cache = BypassesCache(x->size_bytes());
  ParallelFor(pool, groups, x->size_bytes(), [&](UnitRange range) { DecodeOnHost(args, range); });
  return ffi::Error::Success();
}

}  // namespace
}  // namespace epmc::narrow

EPMC_DEFINE_TARGET(epmc_narrow_encode, epmc::narrow::Encode,
                   xla::ffi::Ffi::Bind()
                       .Ctx<xla::ffi::ThreadPool>()
                       .Arg<xla::ffi::AnyBuffer>()
                       .Ret<xla::ffi::Buffer<xla::ffi::U8>>()
                       .Attr<int64_t>("mantissa_bits")
                       .Attr<int64_t>("group_size"));

EPMC_DEFINE_TARGET(epmc_narrow_decode, epmc::narrow::Decode,
                   xla::ffi::Ffi::Bind()
                       .Ctx<xla::ffi::ThreadPool>()
                       .Arg<xla::ffi::Buffer<xla::ffi::U8>>()
                       .RemainingArgs()
                       .Ret<xla::ffi::AnyBuffer>()
                       .Attr<int64_t>("mantissa_bits")
                       .Attr<int64_t>("group_size"));
