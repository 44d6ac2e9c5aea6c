#include "xla_ffi/relu_gradient/kernels.h"

#include <cstring>

#include "xla_ffi/bit_mask/bit_mask.h"
#include "xla_ffi/common/row_span.h"

namespace epmc::relu_gradient {
namespace {

// By the bits, not by a product: the cotangent of a masked element may be NaN, and is gone.
template <typename Bits>
EPMC_HD void MaskBlock(uint32_t word, const Bits* ct, Bits* ct_x, int count) {
  for (int i = 0; i < count; ++i) {
    const Bits keep = static_cast<Bits>(-static_cast<int32_t>(word >> i & 1u));
    ct_x[i] = static_cast<Bits>(ct[i] & keep);
  }
}

template <typename Bits>
struct Kernel {
  EPMC_HD static void Run(const Args& args, const UnitRange& range) {
    const int64_t row_nbytes = bit_mask::RowNbytes(args.row_elements);
    for (int64_t unit = range.first; unit < range.last;) {
      const RowSpan span = NextSpan(unit, range.last, args.row_elements);
      const uint8_t* words = args.rows + span.row * row_nbytes + 4 * span.block;
      const int64_t first = span.row * args.row_elements + span.block * kBlock;
      const Bits* ct = static_cast<const Bits*>(args.ct) + first;
      Bits* ct_x = static_cast<Bits*>(args.ct_x) + first;
      uint32_t word;
      for (int64_t block = 0; block < span.full_blocks; ++block) {
        memcpy(&word, words + 4 * block, 4);
        MaskBlock(word, ct + block * kBlock, ct_x + block * kBlock, kBlock);
      }
      if (span.tail_elements > 0) {
        const int64_t tail = span.full_blocks * kBlock;
        memcpy(&word, words + 4 * span.full_blocks, 4);
        MaskBlock(word, ct + tail, ct_x + tail, span.tail_elements);
      }
      unit = span.next;
    }
  }
};

}  // namespace

void RunOnHost(const Args& args, int element_nbytes, UnitRange blocks, Isa isa) {
  if (element_nbytes == 4) return RunOn<Kernel<uint32_t>>(isa, args, blocks);
  RunOn<Kernel<uint16_t>>(isa, args, blocks);
}

}  // namespace epmc::relu_gradient
