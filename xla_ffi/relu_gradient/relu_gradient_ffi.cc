#include "xla_ffi/bit_mask/bit_mask.h"
#include "xla_ffi/ffi/cache.h"
#include "xla_ffi/ffi/checks.h"
#include "xla_ffi/ffi/parallel.h"
#include "xla_ffi/relu_gradient/kernels.h"

namespace epmc::relu_gradient {
namespace {

ffi::Error Run(ffi::ThreadPool pool, ffi::Buffer<ffi::U8> encoded, ffi::AnyBuffer ct,
               ffi::Result<ffi::AnyBuffer> ct_x) {
  constexpr char kTarget[] = "epmc_relu_gradient";
  const int64_t element_nbytes = ffi::ByteWidth(ct.element_type());
  if (ct_x->element_type() != ct.element_type() || (element_nbytes != 2 && element_nbytes != 4)) {
    return UnsupportedType(kTarget, ct.element_type(), "one of 2 or 4 bytes, the type of ct_x");
  }
  const Rows rows = RowsOf(ct.dimensions(), encoded.dimensions());
  const Rows result = RowsOf(ct_x->dimensions(), encoded.dimensions());
  if (result.count != rows.count || result.elements != rows.elements) {
    return InvalidArgument(kTarget, "elements of ct_x", ct_x->element_count(),
                           std::to_string(ct.element_count()) + " in the rows of ct");
  }
  ffi::Error error = CheckRowsBuffer(kTarget, encoded.dimensions(), rows,
                                     bit_mask::RowNbytes(rows.elements));
  if (error.failure()) return error;
  const Args args{encoded.typed_data(), ct.untyped_data(), ct_x->untyped_data(), rows.elements,
                  BypassesCache(ct_x->size_bytes())};
  ParallelFor(pool, rows.count * NumBlocks(rows.elements), ct.size_bytes(),
              [&](UnitRange blocks) { RunOnHost(args, element_nbytes, blocks); });
  return ffi::Error::Success();
}

}  // namespace
}  // namespace epmc::relu_gradient

EPMC_DEFINE_TARGET(epmc_relu_gradient, epmc::relu_gradient::Run,
                   xla::ffi::Ffi::Bind()
                       .Ctx<xla::ffi::ThreadPool>()
                       .Arg<xla::ffi::Buffer<xla::ffi::U8>>()
                       .Arg<xla::ffi::AnyBuffer>()
                       .Ret<xla::ffi::AnyBuffer>());
