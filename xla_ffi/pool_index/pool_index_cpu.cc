#include <cstring>

#include "xla_ffi/common/row_span.h"
#include "xla_ffi/pool_index/kernels.h"
#include "xla_ffi/pool_index/max_pool.h"
#include "xla_ffi/pool_index/pool_index.h"
#include "xla_ffi/pool_index/pool_index_avx2.h"
#include "xla_ffi/pool_index/pool_index_avx512.h"

namespace epmc::pool_index {
namespace {

template <typename T, typename Blocks>
struct MaxPoolKernel {
  EPMC_HD static void Run(const MaxPoolArgs& args, const UnitRange& range) {
    const PoolShape& shape = args.shape;
    const int width = BitWidth(shape);
    const int64_t elements = PooledRowElements(shape);
    const int64_t row_nbytes = int_pack::RowNbytes(elements, width);
    const int64_t operand_elements =
        shape.axes[0].in * shape.axes[1].in * shape.axes[2].in * shape.channels;
    for (int64_t unit = range.first; unit < range.last;) {
      const RowSpan span = NextSpan(unit, range.last, elements);
      const T* x = static_cast<const T*>(args.x) + span.row * operand_elements;
      T* y = static_cast<T*>(args.y) + span.row * elements;
      uint8_t* row = args.rows + span.row * row_nbytes;
      Cursor cursor = CursorAt(shape, span.block * kBlock);
      const int64_t first = span.block * kBlock;
      const int64_t last = first + span.full_blocks * kBlock + span.tail_elements;
      for (int64_t at = first; at < last; at += kRun) {
        const int count = static_cast<int>(last - at < kRun ? last - at : kRun);
        Blocks::Pool(x, shape, count, width, &cursor, y + at, row + at / kBlock * 4 * width);
      }
      if (span.ends_row) {
        const int64_t used = 4 * width * NumBlocks(elements);
        memset(row + used, 0, row_nbytes - used);
      }
      unit = span.next;
    }
  }
};

// One pixel of the operand, and the results whose windows hold it.
struct Target {
  int64_t at[kAxes];
  Interval over[kAxes];
};

// A sum as it is after being stored as T.
template <typename T>
EPMC_HD float Stored(float sum) {
  T stored;
  FromFloat(sum, &stored);
  return BitsToFloat(ToFloatBits(stored));
}

// The sums of a block's channels, as they are after being stored as T.
template <typename T>
struct PortableSums {
  alignas(64) float sum[kBlock];

  EPMC_HD void Clear() {
    for (float& s : sum) s = 0.0f;
  }

  EPMC_HD void Add(const T* ct, uint32_t selected, int count) {
    for (int i = 0; i < count; ++i) {
      const float value = BitsToFloat(ToFloatBits(ct[i]));
      sum[i] = Stored<T>(sum[i] + ((selected >> i & 1u) != 0 ? value : 0.0f));
    }
  }

  EPMC_HD void StoreTo(T* out, int count) const {
    for (int i = 0; i < count; ++i) FromFloat(sum[i], out + i);
  }
};

// The gradient of `count` channels of a pixel. Adds in the order of the pooled elements and
// in their type: bit for bit what XLA:CPU's select-and-scatter gives.
template <typename T, typename Sums>
EPMC_HD void GatherRun(const uint8_t* row, const T* ct, const PoolShape& shape, int bit_width,
                       const Target& target, int64_t channel, int count, T* out) {
  const Axis* axes = shape.axes;
  Sums sums;
  sums.Clear();
  for (int64_t a = target.over[0].first; a < target.over[0].last; ++a) {
    const int64_t in_a = target.at[0] + axes[0].pad - a * axes[0].stride;
    for (int64_t b = target.over[1].first; b < target.over[1].last; ++b) {
      const int64_t in_b = target.at[1] + axes[1].pad - b * axes[1].stride;
      for (int64_t c = target.over[2].first; c < target.over[2].last; ++c) {
        const int64_t in_c = target.at[2] + axes[2].pad - c * axes[2].stride;
        const int64_t index = (in_a * axes[1].window + in_b) * axes[2].window + in_c;
        const int64_t pixel = (a * axes[1].out + b) * axes[2].out + c;
        const int64_t first = pixel * shape.channels + channel;
        PrefetchBlock(ct + first);
        PrefetchBytes(row + first / kBlock * 4 * bit_width, 1);
        const uint32_t selected = ElementsWithIndex(row, first, count, bit_width,
                                                    static_cast<uint32_t>(index));
        sums.Add(ct + first, selected, count);
      }
    }
  }
  sums.StoreTo(out, count);
}

template <typename T, typename Sums>
struct GradientKernel {
  EPMC_HD static void Run(const GradientArgs& args, const UnitRange& range) {
    const PoolShape& shape = args.shape;
    const Axis* axes = shape.axes;
    const int width = BitWidth(shape);
    const int64_t elements = PooledRowElements(shape);
    const int64_t row_nbytes = int_pack::RowNbytes(elements, width);
    for (int64_t line = range.first; line < range.last; ++line) {
      const int64_t batch = line / (axes[0].in * axes[1].in);
      const uint8_t* row = args.rows + batch * row_nbytes;
      const T* ct = static_cast<const T*>(args.ct) + batch * elements;
      T* out = static_cast<T*>(args.ct_x) + line * axes[2].in * shape.channels;
      Target target;
      target.at[0] = line / axes[1].in % axes[0].in;
      target.at[1] = line % axes[1].in;
      for (int i = 0; i < 2; ++i) target.over[i] = WindowsOver(axes[i], target.at[i]);
      for (target.at[2] = 0; target.at[2] < axes[2].in; ++target.at[2]) {
        target.over[2] = WindowsOver(axes[2], target.at[2]);
        int64_t channel = 0;
        for (; channel + kBlock <= shape.channels; channel += kBlock, out += kBlock) {
          GatherRun<T, Sums>(row, ct, shape, width, target, channel, kBlock, out);
        }
        const int rest = static_cast<int>(shape.channels - channel);
        if (rest > 0) GatherRun<T, Sums>(row, ct, shape, width, target, channel, rest, out);
        out += rest;
      }
    }
  }
};

template <typename T>
void MaxPoolOnIsa(const MaxPoolArgs& args, const UnitRange& blocks, Isa isa) {
#if defined(__x86_64__)
  const int64_t channels = args.shape.channels;
  if constexpr (sizeof(T) == 2) {
    if (isa >= Isa::kAvx512 && channels % avx512::HalfMaxPool::kLanes == 0) {
      return RunAvx512<MaxPoolKernel<T, VectorBlocks<avx512::HalfMaxPool>>>(args, blocks);
    }
    if (isa >= Isa::kAvx2 && channels % avx2::HalfMaxPool::kLanes == 0) {
      return RunAvx2<MaxPoolKernel<T, VectorBlocks<avx2::HalfMaxPool>>>(args, blocks);
    }
  }
  if (isa >= Isa::kAvx512 && channels % avx512::MaxPool::kLanes == 0) {
    return RunAvx512<MaxPoolKernel<T, VectorBlocks<avx512::MaxPool>>>(args, blocks);
  }
  if (isa >= Isa::kAvx2 && channels % avx2::MaxPool::kLanes == 0) {
    return RunAvx2<MaxPoolKernel<T, VectorBlocks<avx2::MaxPool>>>(args, blocks);
  }
#endif
  RunOn<MaxPoolKernel<T, AnyBlocks>>(isa, args, blocks);
}

template <typename T>
void GradientOnIsa(const GradientArgs& args, const UnitRange& lines, Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::kAvx512) {
    return RunAvx512<GradientKernel<T, avx512::Sums<T>>>(args, lines);
  }
  if (isa == Isa::kAvx2) return RunAvx2<GradientKernel<T, avx2::Sums<T>>>(args, lines);
#endif
  RunOn<GradientKernel<T, PortableSums<T>>>(isa, args, lines);
}

// Calls `body(T{})` for the array's type.
template <typename Body>
void WithType(FloatType type, const Body& body) {
  switch (type) {
    case FloatType::kF32:
      return body(F32{});
    case FloatType::kBf16:
      return body(Bf16{});
    case FloatType::kF16:
      return body(F16{});
  }
}

}  // namespace

void MaxPoolOnHost(const MaxPoolArgs& args, UnitRange blocks, Isa isa) {
  WithType(args.type, [&](auto type) { MaxPoolOnIsa<decltype(type)>(args, blocks, isa); });
}

void GradientOnHost(const GradientArgs& args, UnitRange lines, Isa isa) {
  WithType(args.type, [&](auto type) { GradientOnIsa<decltype(type)>(args, lines, isa); });
}

}  // namespace epmc::pool_index
