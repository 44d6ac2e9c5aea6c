#include <cstring>

#include "xla_ffi/common/byte_plane.h"
#include "xla_ffi/common/row_span.h"
#include "xla_ffi/pool_index/kernels.h"
#include "xla_ffi/pool_index/pool_index.h"
#include "xla_ffi/pool_index/pool_index_avx512.h"

namespace epmc::pool_index {
namespace {

// Results that are worked on together. Long runs of channels are read one window place
// after the other: short ones jump too often for the processor to load ahead.
constexpr int kRun = 8 * kBlock;

struct Selection {
  alignas(64) float best[kRun];
  alignas(64) float y[kRun];
  alignas(64) int32_t index[kRun];
};

// A place in a row of results. It moves on without a division: there are five in finding it.
struct Cursor {
  int64_t at[kAxes];
  int64_t channel;
};

EPMC_HD Cursor CursorAt(const PoolShape& shape, int64_t element) {
  const int64_t pixel = element / shape.channels;
  const int64_t out_b = shape.axes[1].out;
  const int64_t out_c = shape.axes[2].out;
  return {{pixel / out_c / out_b, pixel / out_c % out_b, pixel % out_c},
          element - pixel * shape.channels};
}

// `count` does not lead beyond the channels of the pixel.
EPMC_HD void Advance(const PoolShape& shape, int count, Cursor* cursor) {
  cursor->channel += count;
  if (cursor->channel < shape.channels) return;
  cursor->channel = 0;
  if (++cursor->at[2] < shape.axes[2].out) return;
  cursor->at[2] = 0;
  if (++cursor->at[1] < shape.axes[1].out) return;
  cursor->at[1] = 0;
  ++cursor->at[0];
}

template <typename T>
EPMC_HD void ConsiderRun(const T* x, int count, int32_t place, Selection* run) {
  for (int i = 0; i < count; ++i) {
    Consider(BitsToFloat(ToFloatBits(x[i])), place, run->best + i, run->y + i, run->index + i);
  }
}

// `count` results from `cursor` on, channels of one pixel.
template <typename T>
EPMC_HD void SelectRun(const T* x, const PoolShape& shape, const Cursor& cursor, int count,
                       Selection* run) {
  const Axis* axes = shape.axes;
  const Interval in_a = InsideWindow(axes[0], cursor.at[0]);
  const Interval in_b = InsideWindow(axes[1], cursor.at[1]);
  const Interval in_c = InsideWindow(axes[2], cursor.at[2]);
  const int64_t start_a = cursor.at[0] * axes[0].stride - axes[0].pad;
  const int64_t start_b = cursor.at[1] * axes[1].stride - axes[1].pad;
  const int64_t start_c = cursor.at[2] * axes[2].stride - axes[2].pad;
  for (int i = 0; i < count; ++i) {
    // NaN is replaced by the first candidate, whatever it is.
    run->best[i] = BitsToFloat(kQuietNan);
    run->y[i] = kNegativeInfinity;
    run->index[i] = 0;
  }
  for (int64_t i = in_a.first; i < in_a.last; ++i) {
    for (int64_t j = in_b.first; j < in_b.last; ++j) {
      const int64_t line = ((start_a + i) * axes[1].in + start_b + j) * axes[2].in;
      const int64_t number = (i * axes[1].window + j) * axes[2].window;
      for (int64_t k = in_c.first; k < in_c.last; ++k) {
        const T* candidates = x + (line + start_c + k) * shape.channels + cursor.channel;
        ConsiderRun(candidates, count, static_cast<int32_t>(number + k), run);
      }
    }
  }
}

// Fills some blocks: `count` results in `y`, and the planes of their indices.
template <typename T>
EPMC_HD void PoolBlocks(const T* x, const PoolShape& shape, int count, int bit_width,
                        Cursor* cursor, T* y, uint8_t* words) {
  Selection run;
  alignas(64) uint8_t index[kRun] = {};
  for (int done = 0; done < count;) {
    const int64_t rest = shape.channels - cursor->channel;
    const int length = static_cast<int>(rest < count - done ? rest : count - done);
    SelectRun(x, shape, *cursor, length, &run);
    for (int i = 0; i < length; ++i) index[done + i] = static_cast<uint8_t>(run.index[i]);
    for (int i = 0; i < length; ++i) FromFloat(run.y[i], y + done + i);
    Advance(shape, length, cursor);
    done += length;
  }
  for (int block = 0; block * kBlock < count; ++block) {
    for (int plane = 0; plane < bit_width; ++plane) {
      const uint32_t word = BytePlane(index + block * kBlock, plane);
      memcpy(words + 4 * (block * bit_width + plane), &word, 4);
    }
  }
}

template <typename T>
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
        PoolBlocks(x, shape, count, width, &cursor, y + at, row + at / kBlock * 4 * width);
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

template <template <typename> typename Kernel, typename Args>
void RunForType(const Args& args, const UnitRange& units, Isa isa) {
  switch (args.type) {
    case FloatType::kF32:
      return RunOn<Kernel<F32>>(isa, args, units);
    case FloatType::kBf16:
      return RunOn<Kernel<Bf16>>(isa, args, units);
    case FloatType::kF16:
      return RunOn<Kernel<F16>>(isa, args, units);
  }
}

template <typename T>
using PortableGradient = GradientKernel<T, PortableSums<T>>;

#if defined(__x86_64__)

void GradientWithAvx512(const GradientArgs& args, const UnitRange& lines) {
  switch (args.type) {
    case FloatType::kF32:
      return RunAvx512<GradientKernel<F32, avx512::Sums<F32>>>(args, lines);
    case FloatType::kBf16:
      return RunAvx512<GradientKernel<Bf16, avx512::Sums<Bf16>>>(args, lines);
    case FloatType::kF16:
      return RunAvx512<GradientKernel<F16, avx512::Sums<F16>>>(args, lines);
  }
}

#endif

}  // namespace

void MaxPoolOnHost(const MaxPoolArgs& args, UnitRange blocks, Isa isa) {
  RunForType<MaxPoolKernel>(args, blocks, isa);
}

void GradientOnHost(const GradientArgs& args, UnitRange lines, Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::kAvx512) return GradientWithAvx512(args, lines);
#endif
  RunForType<PortableGradient>(args, lines, isa);
}

}  // namespace epmc::pool_index
