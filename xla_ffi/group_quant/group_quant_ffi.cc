#include "xla_ffi/group_quant/group_quant_ffi.h"

#include "xla_ffi/ffi/cache.h"
#include "xla_ffi/ffi/parallel.h"

namespace epmc::group_quant {
namespace {

ffi::Error Encode(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::ResultBuffer<ffi::U8> out,
                  int64_t bit_width, int64_t group_size, bool is_stochastic, int64_t seed) {
  const ffi::ErrorOr<EncodeCall> call =
      CheckEncode(x, out, bit_width, group_size, is_stochastic, seed);
  if (call.has_error()) return call.error();
  const int64_t groups = call->num_rows * CeilDiv(call->args.row_elements, group_size);
  ParallelFor(pool, groups, x.size_bytes(),
              [&](UnitRange range) { EncodeOnHost(call->args, range); });
  return ffi::Error::Success();
}

ffi::Error Decode(ffi::ThreadPool pool, ffi::Buffer<ffi::U8> encoded, ffi::RemainingArgs,
                  ffi::Result<ffi::AnyBuffer> x, int64_t bit_width, int64_t group_size) {
  const ffi::ErrorOr<DecodeCall> call = CheckDecode(encoded, x, bit_width, group_size);
  if (call.has_error()) return call.error();
  const int64_t groups = call->num_rows * CeilDiv(call->args.row_elements, group_size);
  DecodeArgs args = call->args;
  args.bypass_cache = BypassesCache(x->size_bytes());
  ParallelFor(pool, groups, x->size_bytes(), [&](UnitRange range) { DecodeOnHost(args, range); });
  return ffi::Error::Success();
}

}  // namespace
}  // namespace epmc::group_quant

EPMC_DEFINE_TARGET(epmc_group_quant_encode, epmc::group_quant::Encode,
                   xla::ffi::Ffi::Bind()
                       .Ctx<xla::ffi::ThreadPool>()
                       .Arg<xla::ffi::AnyBuffer>()
                       .Ret<xla::ffi::Buffer<xla::ffi::U8>>()
                       .Attr<int64_t>("bit_width")
                       .Attr<int64_t>("group_size")
                       .Attr<bool>("is_stochastic")
                       .Attr<int64_t>("seed"));

EPMC_DEFINE_TARGET(epmc_group_quant_decode, epmc::group_quant::Decode,
                   xla::ffi::Ffi::Bind()
                       .Ctx<xla::ffi::ThreadPool>()
                       .Arg<xla::ffi::Buffer<xla::ffi::U8>>()
                       .RemainingArgs()
                       .Ret<xla::ffi::AnyBuffer>()
                       .Attr<int64_t>("bit_width")
                       .Attr<int64_t>("group_size"));
