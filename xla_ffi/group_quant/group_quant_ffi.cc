#include "xla_ffi/ffi/checks.h"
#include "xla_ffi/ffi/parallel.h"
#include "xla_ffi/group_quant/group_quant.h"
#include "xla_ffi/group_quant/kernels.h"

namespace epmc::group_quant {
namespace {

ffi::Error CheckFormat(const char* target, int64_t bit_width, int64_t group_size) {
  if (bit_width != 2 && bit_width != 4 && bit_width != 8) {
    return InvalidArgument(target, "bit_width", bit_width, "2, 4 or 8");
  }
  if (group_size % kBlock != 0 || group_size < kMinGroupSize || group_size > kMaxGroupSize) {
    return InvalidArgument(target, "group_size", group_size, "a multiple of 32 up to 1024");
  }
  return ffi::Error::Success();
}

ffi::Error Encode(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::ResultBuffer<ffi::U8> out,
                  int64_t bit_width, int64_t group_size, bool is_stochastic, int64_t seed) {
  constexpr char kTarget[] = "epmc_group_quant_encode";
  ffi::Error error = CheckFormat(kTarget, bit_width, group_size);
  if (error.failure()) return error;
  const std::optional<FloatType> type = AsFloatType(x.element_type());
  if (!type) return UnsupportedType(kTarget, x.element_type(), "f32, bf16 or f16");
  const Rows rows = RowsOf(x.dimensions());
  const RowLayout layout = LayoutOf(rows.elements, bit_width, group_size);
  error = CheckRowsBuffer(kTarget, out->dimensions(), rows, layout.nbytes);
  if (error.failure()) return error;
  const Format format{static_cast<int>(bit_width), static_cast<int>(group_size),
                      is_stochastic, static_cast<uint32_t>(seed)};
  const EncodeArgs args{x.untyped_data(), out->typed_data(), *type, rows.elements, format};
  ParallelFor(pool, rows.count * layout.groups, x.size_bytes(),
              [&](UnitRange groups) { EncodeOnHost(args, groups); });
  return ffi::Error::Success();
}

ffi::Error Decode(ffi::ThreadPool pool, ffi::Buffer<ffi::U8> encoded, ffi::RemainingArgs,
                  ffi::Result<ffi::AnyBuffer> x, int64_t bit_width, int64_t group_size) {
  constexpr char kTarget[] = "epmc_group_quant_decode";
  ffi::Error error = CheckFormat(kTarget, bit_width, group_size);
  if (error.failure()) return error;
  const std::optional<FloatType> type = AsFloatType(x->element_type());
  if (!type) return UnsupportedType(kTarget, x->element_type(), "f32, bf16 or f16");
  const Rows rows = RowsOf(x->dimensions());
  const RowLayout layout = LayoutOf(rows.elements, bit_width, group_size);
  error = CheckRowsBuffer(kTarget, encoded.dimensions(), rows, layout.nbytes);
  if (error.failure()) return error;
  const Format format{static_cast<int>(bit_width), static_cast<int>(group_size), false, 0};
  const DecodeArgs args{encoded.typed_data(), x->untyped_data(), *type, rows.elements, format};
  ParallelFor(pool, rows.count * layout.groups, x->size_bytes(),
              [&](UnitRange groups) { DecodeOnHost(args, groups); });
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
