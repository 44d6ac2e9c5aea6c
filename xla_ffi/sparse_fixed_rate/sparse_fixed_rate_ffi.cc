#include "xla_ffi/sparse_fixed_rate/sparse_fixed_rate_ffi.h"

#include "xla_ffi/ffi/cache.h"
#include "xla_ffi/ffi/parallel.h"

namespace epmc::sparse_fixed_rate {
namespace {

ffi::Error Encode(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::ResultBuffer<ffi::U8> out,
                  int64_t group_size, int64_t payload_nbytes, bool is_stochastic,
                  int64_t seed) {
  const ffi::ErrorOr<EncodeCall> call =
      CheckEncode(x, out, group_size, payload_nbytes, is_stochastic, seed);
  if (call.has_error()) return call.error();
  const EncodeArgs& args = call->args;
  const int64_t pools = PoolsOf(call->num_rows, args.row_elements, args.format);
  ParallelFor(pool, pools, x.size_bytes(), [&](UnitRange range) { EncodeOnHost(args, range); });
  return ffi::Error::Success();
}

ffi::Error Decode(ffi::ThreadPool pool, ffi::Buffer<ffi::U8> encoded, ffi::RemainingArgs,
                  ffi::Result<ffi::AnyBuffer> x, int64_t group_size, int64_t payload_nbytes) {
  const ffi::ErrorOr<DecodeCall> call = CheckDecode(encoded, x, group_size, payload_nbytes);
  if (call.has_error()) return call.error();
  DecodeArgs args = call->args;
  args.bypass_cache = BypassesCache(x->size_bytes());
  const int64_t pools = PoolsOf(call->num_rows, args.row_elements, args.format);
  ParallelFor(pool, pools, x->size_bytes(), [&](UnitRange range) { DecodeOnHost(args, range); });
  return ffi::Error::Success();
}

ffi::Error Mask(ffi::ThreadPool pool, ffi::Buffer<ffi::U8> encoded, ffi::RemainingArgs,
                ffi::ResultBuffer<ffi::PRED> mask, int64_t group_size, int64_t payload_nbytes,
                int64_t value_bits) {
  const ffi::ErrorOr<MaskCall> call =
      CheckMask(encoded, mask, group_size, payload_nbytes, value_bits);
  if (call.has_error()) return call.error();
  const MaskArgs& args = call->args;
  const int64_t pools = PoolsOf(call->num_rows, args.row_elements, args.format);
  ParallelFor(pool, pools, mask->size_bytes(), [&](UnitRange range) { MaskOnHost(args, range); });
  return ffi::Error::Success();
}

}  // namespace
}  // namespace epmc::sparse_fixed_rate

EPMC_DEFINE_TARGET(epmc_sparse_fixed_rate_encode, epmc::sparse_fixed_rate::Encode,
                   xla::ffi::Ffi::Bind()
                       .Ctx<xla::ffi::ThreadPool>()
                       .Arg<xla::ffi::AnyBuffer>()
                       .Ret<xla::ffi::Buffer<xla::ffi::U8>>()
                       .Attr<int64_t>("group_size")
                       .Attr<int64_t>("payload_nbytes")
                       .Attr<bool>("is_stochastic")
                       .Attr<int64_t>("seed"));

EPMC_DEFINE_TARGET(epmc_sparse_fixed_rate_decode, epmc::sparse_fixed_rate::Decode,
                   xla::ffi::Ffi::Bind()
                       .Ctx<xla::ffi::ThreadPool>()
                       .Arg<xla::ffi::Buffer<xla::ffi::U8>>()
                       .RemainingArgs()
                       .Ret<xla::ffi::AnyBuffer>()
                       .Attr<int64_t>("group_size")
                       .Attr<int64_t>("payload_nbytes"));

EPMC_DEFINE_TARGET(epmc_sparse_fixed_rate_mask, epmc::sparse_fixed_rate::Mask,
                   xla::ffi::Ffi::Bind()
                       .Ctx<xla::ffi::ThreadPool>()
                       .Arg<xla::ffi::Buffer<xla::ffi::U8>>()
                       .RemainingArgs()
                       .Ret<xla::ffi::Buffer<xla::ffi::PRED>>()
                       .Attr<int64_t>("group_size")
                       .Attr<int64_t>("payload_nbytes")
                       .Attr<int64_t>("value_bits"));
