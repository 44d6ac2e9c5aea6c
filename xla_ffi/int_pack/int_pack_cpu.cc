#include <cstring>

#include "xla_ffi/common/byte_plane.h"
#include "xla_ffi/common/cache_lines.h"
#include "xla_ffi/common/row_span.h"
#include "xla_ffi/int_pack/int_pack.h"
#include "xla_ffi/int_pack/int_pack_avx2.h"
#include "xla_ffi/int_pack/int_pack_avx512.h"
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

// How whole blocks are coded: as everywhere.
struct AnyBlocks {
  template <typename T>
  EPMC_HD static void Encode(const T* x, int64_t blocks, int bit_width, uint8_t* out) {
    for (int64_t i = 0; i < blocks; ++i) {
      PackBlock(x + i * kBlock, kBlock, bit_width, out + 4 * bit_width * i);
    }
  }
  template <typename T>
  EPMC_HD static void Decode(const uint8_t* in, int64_t blocks, int bit_width, T* x, bool) {
    for (int64_t i = 0; i < blocks; ++i) {
      UnpackBlock(in + 4 * bit_width * i, kBlock, bit_width, x + i * kBlock);
    }
  }
};

#if defined(__x86_64__)

// Two at a time: at least a line of memory. A range may start in the middle of one.
template <typename Simd>
struct PairsOfBlocks {
  template <typename T>
  EPMC_HD static void Encode(const T* x, int64_t blocks, int bit_width, uint8_t* out) {
    const int64_t even = blocks & ~int64_t{1};
    for (int64_t i = 0; i < even; i += 2) {
      PrefetchBlock(x + i * kBlock);
      PrefetchBlock(x + (i + 1) * kBlock);
      const int64_t room = 4 * bit_width * (blocks - i);
      Simd::EncodePair(x + i * kBlock, bit_width, room, out + 4 * bit_width * i);
    }
    AnyBlocks::Encode(x + even * kBlock, blocks - even, bit_width, out + 4 * bit_width * even);
  }

  template <typename T>
  EPMC_HD static void Decode(const uint8_t* in, int64_t blocks, int bit_width, T* x,
                             bool bypass) {
    const int64_t head = blocks > 0 && bypass && !StartsLine(x) && StartsLine(x + kBlock);
    AnyBlocks::Decode(in, head, bit_width, x, false);
    in += 4 * bit_width * head;
    x += kBlock * head;
    if (bypass && StartsLine(x)) return DecodeParts<true>(in, blocks - head, bit_width, x);
    DecodeParts<false>(in, blocks - head, bit_width, x);
  }

  template <bool kBypass, typename T>
  EPMC_HD static void DecodeParts(const uint8_t* in, int64_t blocks, int bit_width, T* x) {
    constexpr int kMost = sizeof(T);
    if (bit_width <= 8) return DecodePairs<kBypass, 1>(in, blocks, bit_width, x);
    if (bit_width <= 16) return DecodePairs<kBypass, Least(2, kMost)>(in, blocks, bit_width, x);
    if (bit_width <= 24) return DecodePairs<kBypass, Least(3, kMost)>(in, blocks, bit_width, x);
    DecodePairs<kBypass, kMost>(in, blocks, bit_width, x);
  }

  template <bool kBypass, int kParts, typename T>
  EPMC_HD static void DecodePairs(const uint8_t* in, int64_t blocks, int bit_width, T* x) {
    const int64_t even = blocks & ~int64_t{1};
    for (int64_t i = 0; i < even; i += 2) {
      const uint8_t* from = in + 4 * bit_width * i;
      PrefetchBytes(from, 8 * bit_width);
      Simd::template DecodePair<kBypass, kParts>(from, bit_width, x + i * kBlock);
    }
    AnyBlocks::Decode(in + 4 * bit_width * even, blocks - even, bit_width, x + even * kBlock,
                      false);
  }

  static constexpr int Least(int a, int b) { return a < b ? a : b; }
};

#endif  // defined(__x86_64__)

template <typename T, typename Blocks>
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
      Blocks::Encode(x, span.full_blocks, width, words);
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

template <typename T, typename Blocks>
struct DecodeKernel {
  EPMC_HD static void Run(const DecodeArgs& args, const UnitRange& range) {
    const int width = args.bit_width;
    const int64_t row_nbytes = RowNbytes(args.row_elements, width);
    for (int64_t unit = range.first; unit < range.last;) {
      const RowSpan span = NextSpan(unit, range.last, args.row_elements);
      const uint8_t* words = args.rows + span.row * row_nbytes + 4 * width * span.block;
      T* x = static_cast<T*>(args.x) + span.row * args.row_elements + span.block * kBlock;
      Blocks::Decode(words, span.full_blocks, width, x, args.bypass_cache);
      if (span.tail_elements > 0) {
        UnpackBlock(words + 4 * width * span.full_blocks, span.tail_elements, width,
                    x + span.full_blocks * kBlock);
      }
      unit = span.next;
    }
    if (args.bypass_cache) FinishStreaming();
  }
};

template <template <typename, typename> typename Kernel, typename T, typename Args>
void RunOnIsa(const Args& args, const UnitRange& blocks, Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::kAvx512) {
    return RunAvx512<Kernel<T, PairsOfBlocks<avx512::Simd>>>(args, blocks);
  }
  if (isa == Isa::kAvx2) return RunAvx2<Kernel<T, PairsOfBlocks<avx2::Simd>>>(args, blocks);
#endif
  RunOn<Kernel<T, AnyBlocks>>(isa, args, blocks);
}

template <template <typename, typename> typename Kernel, typename Args>
void RunForSize(const Args& args, const UnitRange& blocks, Isa isa) {
  switch (args.element_nbytes) {
    case 1:
      return RunOnIsa<Kernel, uint8_t>(args, blocks, isa);
    case 2:
      return RunOnIsa<Kernel, uint16_t>(args, blocks, isa);
    default:
      return RunOnIsa<Kernel, uint32_t>(args, blocks, isa);
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
