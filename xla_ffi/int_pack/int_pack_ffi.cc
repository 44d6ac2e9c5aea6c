#include "xla_ffi/int_pack/int_pack_ffi.h"

#include "xla_ffi/ffi/cache.h"
#include "xla_ffi/ffi/parallel.h"

namespace epmc::int_pack {
namespace {

ffi::Error Encode(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::ResultBuffer<ffi::U8> out,
                  int64_t bit_width) {
  const ffi::ErrorOr<EncodeCall> call = CheckEncode(x, out, bit_width);
  if (call.has_error()) return call.error();
  ParallelFor(pool, call->num_rows * NumBlocks(call->args.row_elements), x.size_bytes(),
              [&](UnitRange blocks) { EncodeOnHost(call->args, blocks); });
  return ffi::Error::Success();
}

ffi::Error Decode(ffi::ThreadPool pool, ffi::Buffer<ffi::U8> encoded, ffi::RemainingArgs,
                  ffi::Result<ffi::AnyBuffer> x, int64_t bit_width) {
  const ffi::ErrorOr<DecodeCall> call = CheckDecode(encoded, x, bit_width);
  if (call.has_error()) return call.error();
  DecodeArgs args = call->args;
  args.bypass_cache = BypassesCache(x->size_bytes());
  ParallelFor(pool, call->num_rows * NumBlocks(args.row_elements), x->size_bytes(),
              [&](UnitRange blocks) { DecodeOnHost(args, blocks); });
  return ffi::Error::Success();
}

}  // namespace
}  // namespace epmc::int_pack

EPMC_DEFINE_TARGET(epmc_int_pack_encode, epmc::int_pack::Encode,
                   xla::ffi::Ffi::Bind()
                       .Ctx<xla::ffi::ThreadPool>()
                       .Arg<xla::ffi::AnyBuffer>()
                       .Ret<xla::ffi::Buffer<xla::ffi::U8>>()
                       .Attr<int64_t>("bit_width"));

EPMC_DEFINE_TARGET(epmc_int_pack_decode, epmc::int_pack::Decode,
                   xla::ffi::Ffi::Bind()
                       .Ctx<xla::ffi::ThreadPool>()
                       .Arg<xla::ffi::Buffer<xla::ffi::U8>>()
                       .RemainingArgs()
                       .Ret<xla::ffi::AnyBuffer>()
                       .Attr<int64_t>("bit_width"));
