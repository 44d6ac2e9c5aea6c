#include <cstring>

#include "xla_ffi/bit_mask/bit_mask.h"
#include "xla_ffi/bit_mask/kernels.h"
#include "xla_ffi/common/byte_plane.h"
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

struct DecodeKernel {
  EPMC_HD static void Run(const DecodeArgs& args, const UnitRange& range) {
    const int64_t row_nbytes = RowNbytes(args.row_elements);
    for (int64_t unit = range.first; unit < range.last;) {
      const RowSpan span = NextSpan(unit, range.last, args.row_elements);
      const uint8_t* words = args.rows + span.row * row_nbytes + 4 * span.block;
      uint8_t* x = args.x + span.row * args.row_elements + span.block * kBlock;
      uint32_t word;
      for (int64_t block = 0; block < span.full_blocks; ++block) {
        memcpy(&word, words + 4 * block, 4);
        for (int i = 0; i < kBlock; ++i) x[block * kBlock + i] = BitOf(word, i);
      }
      if (span.tail_elements > 0) {
        memcpy(&word, words + 4 * span.full_blocks, 4);
        uint8_t* tail = x + span.full_blocks * kBlock;
        for (int i = 0; i < span.tail_elements; ++i) tail[i] = BitOf(word, i);
      }
      unit = span.next;
    }
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
  RunOn<DecodeKernel>(isa, args, blocks);
}

}  // namespace epmc::bit_mask
