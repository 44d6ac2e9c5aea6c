#include "xla_ffi/relu_gradient/kernels.h"

#include <cstring>

#include "xla_ffi/bit_mask/bit_mask.h"
#include "xla_ffi/common/cache_lines.h"
#include "xla_ffi/common/row_span.h"
#include "xla_ffi/relu_gradient/relu_gradient_x86.h"

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

// How whole blocks are masked: as everywhere.
struct AnyBlock {
  template <bool kBypass, typename Bits>
  EPMC_HD static void Mask(uint32_t word, const Bits* ct, Bits* ct_x) {
    MaskBlock(word, ct, ct_x, kBlock);
  }
};

template <typename Block, bool kBypass, typename Bits>
EPMC_HD void MaskBlocks(const uint8_t* words, int64_t blocks, const Bits* ct, Bits* ct_x) {
  uint32_t word;
  for (int64_t i = 0; i < blocks; ++i) {
    PrefetchBlock(ct + i * kBlock);
    memcpy(&word, words + 4 * i, 4);
    Block::template Mask<kBypass>(word, ct + i * kBlock, ct_x + i * kBlock);
  }
}

template <typename Bits, typename Block>
struct Kernel {
  EPMC_HD static void Run(const Args& args, const UnitRange& range) {
    const int64_t row_nbytes = bit_mask::RowNbytes(args.row_elements);
    for (int64_t unit = range.first; unit < range.last;) {
      const RowSpan span = NextSpan(unit, range.last, args.row_elements);
      const uint8_t* words = args.rows + span.row * row_nbytes + 4 * span.block;
      const int64_t first = span.row * args.row_elements + span.block * kBlock;
      const Bits* ct = static_cast<const Bits*>(args.ct) + first;
      Bits* ct_x = static_cast<Bits*>(args.ct_x) + first;
      if (args.bypass_cache && StartsLine(ct_x)) {
        MaskBlocks<Block, true>(words, span.full_blocks, ct, ct_x);
      } else {
        MaskBlocks<Block, false>(words, span.full_blocks, ct, ct_x);
      }
      if (span.tail_elements > 0) {
        const int64_t tail = span.full_blocks * kBlock;
        uint32_t word;
        memcpy(&word, words + 4 * span.full_blocks, 4);
        MaskBlock(word, ct + tail, ct_x + tail, span.tail_elements);
      }
      unit = span.next;
    }
    if (args.bypass_cache) FinishStreaming();
  }
};

template <typename Bits>
void RunOnIsa(const Args& args, const UnitRange& blocks, Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::kAvx512) return RunAvx512<Kernel<Bits, Avx512Block>>(args, blocks);
  if (isa == Isa::kAvx2) return RunAvx2<Kernel<Bits, Avx2Block>>(args, blocks);
#endif
  RunOn<Kernel<Bits, AnyBlock>>(isa, args, blocks);
}

}  // namespace

void RunOnHost(const Args& args, int element_nbytes, UnitRange blocks, Isa isa) {
  if (element_nbytes == 4) return RunOnIsa<uint32_t>(args, blocks, isa);
  RunOnIsa<uint16_t>(args, blocks, isa);
}

}  // namespace epmc::relu_gradient
