#include "xla_ffi/bit_mask/bit_mask_ffi.h"

#include "xla_ffi/ffi/cache.h"
#include "xla_ffi/ffi/parallel.h"

namespace epmc::bit_mask {
namespace {

ffi::Error Encode(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::ResultBuffer<ffi::U8> out) {
  const ffi::ErrorOr<EncodeCall> call = CheckEncode(x, out);
  if (call.has_error()) return call.error();
  ParallelFor(pool, call->num_rows * NumBlocks(call->args.row_elements), x.size_bytes(),
              [&](UnitRange blocks) { EncodeOnHost(call->args, blocks); });
  return ffi::Error::Success();
}

ffi::Error Decode(ffi::ThreadPool pool, ffi::Buffer<ffi::U8> encoded, ffi::RemainingArgs,
                  ffi::ResultBuffer<ffi::PRED> x) {
  const ffi::ErrorOr<DecodeCall> call = CheckDecode(encoded, x);
  if (call.has_error()) return call.error();
  DecodeArgs args = call->args;
  args.bypass_cache = BypassesCache(x->size_bytes());
  ParallelFor(pool, call->num_rows * NumBlocks(args.row_elements), x->size_bytes(),
              [&](UnitRange blocks) { DecodeOnHost(args, blocks); });
  return ffi::Error::Success();
}

}  // namespace
}  // namespace epmc::bit_mask

EPMC_DEFINE_TARGET(epmc_bit_mask_encode, epmc::bit_mask::Encode,
                   xla::ffi::Ffi::Bind()
                       .Ctx<xla::ffi::ThreadPool>()
                       .Arg<xla::ffi::AnyBuffer>()
                       .Ret<xla::ffi::Buffer<xla::ffi::U8>>());

EPMC_DEFINE_TARGET(epmc_bit_mask_decode, epmc::bit_mask::Decode,
                   xla::ffi::Ffi::Bind()
                       .Ctx<xla::ffi::ThreadPool>()
                       .Arg<xla::ffi::Buffer<xla::ffi::U8>>()
                       .RemainingArgs()
                       .Ret<xla::ffi::Buffer<xla::ffi::PRED>>());
