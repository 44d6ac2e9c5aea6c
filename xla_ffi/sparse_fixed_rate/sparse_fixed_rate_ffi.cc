#include "xla_ffi/ffi/cache.h"
#include "xla_ffi/ffi/checks.h"
#include "xla_ffi/ffi/parallel.h"
#include "xla_ffi/sparse_fixed_rate/kernels.h"

namespace epmc::sparse_fixed_rate {
namespace {

constexpr char kEncodeTarget[] = "epmc_sparse_fixed_rate_encode";
constexpr char kDecodeTarget[] = "epmc_sparse_fixed_rate_decode";
constexpr char kMaskTarget[] = "epmc_sparse_fixed_rate_mask";

ffi::Error CheckFormat(const char* target, int64_t group_size, int64_t payload_nbytes) {
  const bool is_power = group_size > 0 && (group_size & (group_size - 1)) == 0;
  if (!is_power || group_size < kMinGroupSize || group_size > kMaxGroupSize) {
    return InvalidArgument(target, "group_size", group_size, "64, 128, 256, 512 or 1024");
  }
  constexpr int64_t kMost = 2 * kPool;
  if (payload_nbytes < 16 || payload_nbytes > kMost || payload_nbytes % 16 != 0) {
    return InvalidArgument(target, "payload_nbytes", payload_nbytes,
                           "a multiple of 16 up to " + std::to_string(kMost));
  }
  return ffi::Error::Success();
}

ffi::Error Check(const char* target, ffi::DataType type, const Rows& rows,
                 ffi::AnyBuffer::Dimensions encoded, int64_t group_size,
                 int64_t payload_nbytes) {
  ffi::Error error = CheckFormat(target, group_size, payload_nbytes);
  if (error.failure()) return error;
  if (!AsFloatType(type)) return UnsupportedType(target, type, "f32, bf16 or f16");
  const Format format{static_cast<int>(group_size), payload_nbytes};
  return CheckRowsBuffer(target, encoded, rows, LayoutOf(rows.elements, format).nbytes);
}

ffi::Error Encode(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::ResultBuffer<ffi::U8> out,
                  int64_t group_size, int64_t payload_nbytes, bool is_stochastic,
                  int64_t seed) {
  const Rows rows = RowsOf(x.dimensions());
  ffi::Error error = Check(kEncodeTarget, x.element_type(), rows, out->dimensions(), group_size,
                           payload_nbytes);
  if (error.failure()) return error;
  if (seed < 0 || seed > UINT32_MAX) {
    return InvalidArgument(kEncodeTarget, "seed", seed, "0 to 4294967295");
  }
  const Format format{static_cast<int>(group_size), payload_nbytes};
  const EncodeArgs args{x.untyped_data(), out->typed_data(), *AsFloatType(x.element_type()),
                        rows.elements,    format,            is_stochastic,
                        static_cast<uint32_t>(seed)};
  ParallelFor(pool, rows.count * LayoutOf(rows.elements, format).pools, x.size_bytes(),
              [&](UnitRange pools) { EncodeOnHost(args, pools); });
  return ffi::Error::Success();
}

ffi::Error Decode(ffi::ThreadPool pool, ffi::Buffer<ffi::U8> encoded, ffi::RemainingArgs,
                  ffi::Result<ffi::AnyBuffer> x, int64_t group_size, int64_t payload_nbytes) {
  const Rows rows = RowsOf(x->dimensions());
  ffi::Error error = Check(kDecodeTarget, x->element_type(), rows, encoded.dimensions(),
                           group_size, payload_nbytes);
  if (error.failure()) return error;
  const Format format{static_cast<int>(group_size), payload_nbytes};
  DecodeArgs args{encoded.typed_data(), x->untyped_data(), *AsFloatType(x->element_type()),
                  rows.elements, format};
  args.bypass_cache = BypassesCache(x->size_bytes());
  ParallelFor(pool, rows.count * LayoutOf(rows.elements, format).pools, x->size_bytes(),
              [&](UnitRange pools) { DecodeOnHost(args, pools); });
  return ffi::Error::Success();
}

ffi::Error Mask(ffi::ThreadPool pool, ffi::Buffer<ffi::U8> encoded, ffi::RemainingArgs,
                ffi::ResultBuffer<ffi::PRED> mask, int64_t group_size, int64_t payload_nbytes,
                int64_t value_bits) {
  ffi::Error error = CheckFormat(kMaskTarget, group_size, payload_nbytes);
  if (error.failure()) return error;
  if (value_bits != 16 && value_bits != 32) {
    return InvalidArgument(kMaskTarget, "value_bits", value_bits, "16 or 32");
  }
  const Rows rows = RowsOf(mask->dimensions());
  const Format format{static_cast<int>(group_size), payload_nbytes};
  const RowLayout layout = LayoutOf(rows.elements, format);
  error = CheckRowsBuffer(kMaskTarget, encoded.dimensions(), rows, layout.nbytes);
  if (error.failure()) return error;
  const MaskArgs args{encoded.typed_data(), static_cast<uint8_t*>(mask->untyped_data()),
                      static_cast<int>(value_bits), rows.elements, format};
  ParallelFor(pool, rows.count * layout.pools, mask->size_bytes(),
              [&](UnitRange pools) { MaskOnHost(args, pools); });
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
