#include <cstring>

#include "xla_ffi/common/byte_plane.h"
#include "xla_ffi/common/row_span.h"
#include "xla_ffi/int_pack/int_pack.h"
#include "xla_ffi/int_pack/kernels.h"

namespace epmc::int_pack {
namespace {

template <typename T>
EPMC_HD void PackBlock(const T* x, int count, int bit_width, uint8_t* out) {
  uint8_t bytes[kBlock] = {};
  for (int plane = 0; plane < bit_width; ++plane) {
    if (plane % 8 == 0) {
      for (int i = 0; i < count; ++i) bytes[i] = static_cast<uint8_t>(x[i] >> plane);
    }
    const uint32_t word = BytePlane(bytes, plane % 8);
    memcpy(out + 4 * plane, &word, 4);
  }
}

template <typename T>
EPMC_HD void UnpackBlock(const uint8_t* in, int count, int bit_width, T* x) {
  uint32_t values[kBlock] = {};
  for (int plane = 0; plane < bit_width; ++plane) {
    uint32_t word;
    memcpy(&word, in + 4 * plane, 4);
    for (int i = 0; i < kBlock; ++i) values[i] |= (word >> i & 1u) << plane;
  }
  for (int i = 0; i < count; ++i) x[i] = static_cast<T>(values[i]);
}

template <typename T>
struct EncodeKernel {
  EPMC_HD static void Run(const EncodeArgs& args, const UnitRange& range) {
    const int width = args.bit_width;
    const int64_t row_nbytes = RowNbytes(args.row_elements, width);
    for (int64_t unit = range.first; unit < range.last;) {
      const RowSpan span = NextSpan(unit, range.last, args.row_elements);
      uint8_t* row = args.rows + span.row * row_nbytes;
      uint8_t* words = row + 4 * width * span.block;
      const T* x = static_cast<const T*>(args.x) + span.row * args.row_elements +
                   span.block * kBlock;
      for (int64_t i = 0; i < span.full_blocks; ++i) {
        PackBlock(x + i * kBlock, kBlock, width, words + 4 * width * i);
      }
      if (span.tail_elements > 0) {
        PackBlock(x + span.full_blocks * kBlock, span.tail_elements, width,
                  words + 4 * width * span.full_blocks);
      }
      if (span.ends_row) {
        const int64_t used = 4 * width * NumBlocks(args.row_elements);
        memset(row + used, 0, row_nbytes - used);
      }
      unit = span.next;
    }
  }
};

template <typename T>
struct DecodeKernel {
  EPMC_HD static void Run(const DecodeArgs& args, const UnitRange& range) {
    const int width = args.bit_width;
    const int64_t row_nbytes = RowNbytes(args.row_elements, width);
    for (int64_t unit = range.first; unit < range.last;) {
      const RowSpan span = NextSpan(unit, range.last, args.row_elements);
      const uint8_t* words = args.rows + span.row * row_nbytes + 4 * width * span.block;
      T* x = static_cast<T*>(args.x) + span.row * args.row_elements + span.block * kBlock;
      for (int64_t i = 0; i < span.full_blocks; ++i) {
        UnpackBlock(words + 4 * width * i, kBlock, width, x + i * kBlock);
      }
      if (span.tail_elements > 0) {
        UnpackBlock(words + 4 * width * span.full_blocks, span.tail_elements, width,
                    x + span.full_blocks * kBlock);
      }
      unit = span.next;
    }
  }
};

template <template <typename> typename Kernel, typename Args>
void RunForSize(const Args& args, const UnitRange& blocks, Isa isa) {
  switch (args.element_nbytes) {
    case 1:
      return RunOn<Kernel<uint8_t>>(isa, args, blocks);
    case 2:
      return RunOn<Kernel<uint16_t>>(isa, args, blocks);
    default:
      return RunOn<Kernel<uint32_t>>(isa, args, blocks);
  }
}

}  // namespace

void EncodeOnHost(const EncodeArgs& args, UnitRange blocks, Isa isa) {
  RunForSize<EncodeKernel>(args, blocks, isa);
}

void DecodeOnHost(const DecodeArgs& args, UnitRange blocks, Isa isa) {
  RunForSize<DecodeKernel>(args, blocks, isa);
}

}  // namespace epmc::int_pack
