#include <cstring>

#include "xla_ffi/bit_mask/bit_mask.h"
#include "xla_ffi/bit_mask/bit_mask_x86.h"
#include "xla_ffi/bit_mask/kernels.h"
#include "xla_ffi/common/byte_plane.h"
#include "xla_ffi/common/cache_lines.h"
#include "xla_ffi/common/row_span.h"

namespace epmc::bit_mask {
namespace {

template <typename T>
EPMC_HD uint32_t PackBlock(const T* x, int count) {
  alignas(32) uint8_t bytes[kBlock] = {};
  for (int i = 0; i < count; ++i) bytes[i] = static_cast<uint8_t>(IsSet(x[i]));
  return BytePlane(bytes, 0);
}

template <typename T>
struct EncodeKernel {
  EPMC_HD static void Run(const EncodeArgs& args, const UnitRange& range) {
    const int64_t row_nbytes = RowNbytes(args.row_elements);
    for (int64_t unit = range.first; unit < range.last;) {
      const RowSpan span = NextSpan(unit, range.last, args.row_elements);
      uint8_t* row = args.rows + span.row * row_nbytes;
      uint8_t* words = row + 4 * span.block;
      const T* x = static_cast<const T*>(args.x) + span.row * args.row_elements +
                   span.block * kBlock;
      for (int64_t i = 0; i < span.full_blocks; ++i) {
        PrefetchBlock(x + i * kBlock);
        const uint32_t word = PackBlock(x + i * kBlock, kBlock);
        memcpy(words + 4 * i, &word, 4);
      }
      if (span.tail_elements > 0) {
        const uint32_t word = PackBlock(x + span.full_blocks * kBlock, span.tail_elements);
        memcpy(words + 4 * span.full_blocks, &word, 4);
      }
      if (span.ends_row) {
        const int64_t used = 4 * NumBlocks(args.row_elements);
        memset(row + used, 0, row_nbytes - used);
      }
      unit = span.next;
    }
  }
};

EPMC_HD void UnpackBlock(const uint8_t* from, int count, uint8_t* x) {
  uint32_t word;
  memcpy(&word, from, 4);
  for (int i = 0; i < count; ++i) x[i] = BitOf(word, i);
}

// How whole blocks are decoded: as everywhere.
struct AnyBlocks {
  EPMC_HD static void Decode(const uint8_t* words, int64_t blocks, uint8_t* x, bool) {
    for (int64_t i = 0; i < blocks; ++i) UnpackBlock(words + 4 * i, kBlock, x + i * kBlock);
  }
};

#if defined(__x86_64__)

// Two blocks are a line of booleans. A range may start in the middle of one.
template <typename Line>
struct PairsOfBlocks {
  EPMC_HD static void Decode(const uint8_t* words, int64_t blocks, uint8_t* x, bool bypass) {
    const int64_t head = blocks > 0 && bypass && StartsLine(x + kBlock);
    AnyBlocks::Decode(words, head, x, false);
    if (bypass && StartsLine(x + head * kBlock)) {
      DecodePairs<true>(words + 4 * head, blocks - head, x + head * kBlock);
    } else {
      DecodePairs<false>(words + 4 * head, blocks - head, x + head * kBlock);
    }
  }

  template <bool kBypass>
  EPMC_HD static void DecodePairs(const uint8_t* words, int64_t blocks, uint8_t* x) {
    const int64_t even = blocks & ~int64_t{1};
    for (int64_t i = 0; i < even; i += 2) {
      Line::template Decode<kBypass>(words + 4 * i, x + i * kBlock);
    }
    AnyBlocks::Decode(words + 4 * even, blocks - even, x + even * kBlock, false);
  }
};

#endif  // defined(__x86_64__)

template <typename Blocks>
struct DecodeKernel {
  EPMC_HD static void Run(const DecodeArgs& args, const UnitRange& range) {
    const int64_t row_nbytes = RowNbytes(args.row_elements);
    for (int64_t unit = range.first; unit < range.last;) {
      const RowSpan span = NextSpan(unit, range.last, args.row_elements);
      const uint8_t* words = args.rows + span.row * row_nbytes + 4 * span.block;
      uint8_t* x = args.x + span.row * args.row_elements + span.block * kBlock;
      Blocks::Decode(words, span.full_blocks, x, args.bypass_cache);
      if (span.tail_elements > 0) {
        UnpackBlock(words + 4 * span.full_blocks, span.tail_elements,
                    x + span.full_blocks * kBlock);
      }
      unit = span.next;
    }
    if (args.bypass_cache) FinishStreaming();
  }
};

}  // namespace

void EncodeOnHost(const EncodeArgs& args, UnitRange blocks, Isa isa) {
  switch (args.type) {
    case ElementType::kBool:
      return RunOn<EncodeKernel<uint8_t>>(isa, args, blocks);
    case ElementType::kF32:
      return RunOn<EncodeKernel<F32>>(isa, args, blocks);
    case ElementType::kBf16:
      return RunOn<EncodeKernel<Bf16>>(isa, args, blocks);
    case ElementType::kF16:
      return RunOn<EncodeKernel<F16>>(isa, args, blocks);
  }
}

void DecodeOnHost(const DecodeArgs& args, UnitRange blocks, Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::kAvx512) {
    return RunAvx512<DecodeKernel<PairsOfBlocks<Avx512Line>>>(args, blocks);
  }
  if (isa == Isa::kAvx2) return RunAvx2<DecodeKernel<PairsOfBlocks<Avx2Line>>>(args, blocks);
#endif
  RunOn<DecodeKernel<AnyBlocks>>(isa, args, blocks);
}

}  // namespace epmc::bit_mask
