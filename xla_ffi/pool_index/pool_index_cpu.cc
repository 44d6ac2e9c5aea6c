#include <cstring>

#include "xla_ffi/common/row_span.h"
#include "xla_ffi/pool_index/kernels.h"
#include "xla_ffi/pool_index/pool_index.h"

namespace epmc::pool_index {
namespace {

// Results that are worked on together: channels of one pooled pixel.
constexpr int kRun = 256;

struct Scratch {
  alignas(64) float best[kRun];
  alignas(64) float y[kRun];
  alignas(64) int32_t index[kRun];
};

template <typename T>
EPMC_HD void ConsiderRun(const T* x, int count, int32_t place, Scratch* scratch) {
  for (int i = 0; i < count; ++i) {
    Consider(BitsToFloat(ToFloatBits(x[i])), place, scratch->best + i, scratch->y + i,
             scratch->index + i);
  }
}

// Results `first` ... `first + count - 1` of a row: channels of one pixel.
template <typename T>
EPMC_HD void SelectRun(const T* x, const PoolShape& shape, int64_t first, int count,
                       Scratch* scratch) {
  const Axis& a = shape.axes[0];
  const Axis& b = shape.axes[1];
  const Axis& c = shape.axes[2];
  const int64_t pixel = first / shape.channels;
  const int64_t channel = first - pixel * shape.channels;
  const int64_t at_c = pixel % c.out;
  const int64_t at_b = pixel / c.out % b.out;
  const int64_t at_a = pixel / c.out / b.out;
  const Interval in_a = InsideWindow(a, at_a);
  const Interval in_b = InsideWindow(b, at_b);
  const Interval in_c = InsideWindow(c, at_c);
  for (int i = 0; i < count; ++i) {
    // NaN is replaced by the first candidate, whatever it is.
    scratch->best[i] = BitsToFloat(kQuietNan);
    scratch->y[i] = kNegativeInfinity;
    scratch->index[i] = 0;
  }
  for (int64_t i = in_a.first; i < in_a.last; ++i) {
    for (int64_t j = in_b.first; j < in_b.last; ++j) {
      const int64_t line = (at_a * a.stride - a.pad + i) * b.in + at_b * b.stride - b.pad + j;
      for (int64_t k = in_c.first; k < in_c.last; ++k) {
        const int64_t place = line * c.in + at_c * c.stride - c.pad + k;
        const int32_t number = static_cast<int32_t>((i * b.window + j) * c.window + k);
        ConsiderRun(x + place * shape.channels + channel, count, number, scratch);
      }
    }
  }
}

// Fills one block: its results in `y`, and the planes of its indices.
template <typename T>
EPMC_HD void PoolBlock(const T* x, const PoolShape& shape, int64_t first, int count,
                       int bit_width, Scratch* scratch, T* y, uint8_t* words) {
  uint32_t index[kBlock] = {};
  for (int done = 0; done < count;) {
    const int64_t rest = shape.channels - (first + done) % shape.channels;
    const int run = static_cast<int>(rest < count - done ? rest : count - done);
    SelectRun(x, shape, first + done, run, scratch);
    for (int i = 0; i < run; ++i) index[done + i] = scratch->index[i];
    for (int i = 0; i < run; ++i) FromFloat(scratch->y[i], y + done + i);
    done += run;
  }
  for (int plane = 0; plane < bit_width; ++plane) {
    const uint32_t word = int_pack::PlaneOf(index, kBlock, plane);
    memcpy(words + 4 * plane, &word, 4);
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
    Scratch scratch;
    for (int64_t unit = range.first; unit < range.last;) {
      const RowSpan span = NextSpan(unit, range.last, elements);
      const T* x = static_cast<const T*>(args.x) + span.row * operand_elements;
      T* y = static_cast<T*>(args.y) + span.row * elements;
      uint8_t* row = args.rows + span.row * row_nbytes;
      const int64_t last = span.block + span.next - unit;
      for (int64_t block = span.block; block < last; ++block) {
        const int64_t first = block * kBlock;
        const int64_t rest = elements - first;
        PoolBlock(x, shape, first, static_cast<int>(rest < kBlock ? rest : kBlock), width,
                  &scratch, y + first, row + 4 * width * block);
      }
      if (span.ends_row) {
        const int64_t used = 4 * width * NumBlocks(elements);
        memset(row + used, 0, row_nbytes - used);
      }
      unit = span.next;
    }
  }
};

// Where the gradient of one run of channels comes from.
struct Target {
  int64_t at[kAxes];
  int64_t channel;
  int count;
};

// A sum as it is after being stored as T.
template <typename T>
EPMC_HD float Stored(float sum) {
  T stored;
  FromFloat(sum, &stored);
  return BitsToFloat(ToFloatBits(stored));
}

// Adds in the order of the pooled elements and in their type: bit for bit what
// XLA:CPU's select-and-scatter gives.
template <typename T>
EPMC_HD void GatherRun(const uint8_t* row, const T* ct, const PoolShape& shape, int bit_width,
                       const Target& target, float* sum) {
  const Axis* axes = shape.axes;
  const Interval over_a = WindowsOver(axes[0], target.at[0]);
  const Interval over_b = WindowsOver(axes[1], target.at[1]);
  const Interval over_c = WindowsOver(axes[2], target.at[2]);
  for (int i = 0; i < kBlock; ++i) sum[i] = 0.0f;
  for (int64_t a = over_a.first; a < over_a.last; ++a) {
    const int64_t in_a = target.at[0] + axes[0].pad - a * axes[0].stride;
    for (int64_t b = over_b.first; b < over_b.last; ++b) {
      const int64_t in_b = target.at[1] + axes[1].pad - b * axes[1].stride;
      for (int64_t c = over_c.first; c < over_c.last; ++c) {
        const int64_t in_c = target.at[2] + axes[2].pad - c * axes[2].stride;
        const int64_t index = (in_a * axes[1].window + in_b) * axes[2].window + in_c;
        const int64_t pixel = (a * axes[1].out + b) * axes[2].out + c;
        const int64_t first = pixel * shape.channels + target.channel;
        const uint32_t selected =
            ElementsWithIndex(row, first, target.count, bit_width, index);
        for (int i = 0; i < target.count; ++i) {
          const float value = BitsToFloat(ToFloatBits(ct[first + i]));
          sum[i] = Stored<T>(sum[i] + ((selected >> i & 1u) != 0 ? value : 0.0f));
        }
      }
    }
  }
}

template <typename T>
struct GradientKernel {
  EPMC_HD static void Run(const GradientArgs& args, const UnitRange& range) {
    const PoolShape& shape = args.shape;
    const Axis* axes = shape.axes;
    const int width = BitWidth(shape);
    const int64_t elements = PooledRowElements(shape);
    const int64_t row_nbytes = int_pack::RowNbytes(elements, width);
    alignas(64) float sum[kBlock];
    for (int64_t line = range.first; line < range.last; ++line) {
      const int64_t batch = line / (axes[0].in * axes[1].in);
      const T* ct = static_cast<const T*>(args.ct) + batch * elements;
      T* out = static_cast<T*>(args.ct_x) + line * axes[2].in * shape.channels;
      Target target;
      target.at[0] = line / axes[1].in % axes[0].in;
      target.at[1] = line % axes[1].in;
      for (target.at[2] = 0; target.at[2] < axes[2].in; ++target.at[2]) {
        for (target.channel = 0; target.channel < shape.channels; target.channel += kBlock) {
          const int64_t rest = shape.channels - target.channel;
          target.count = static_cast<int>(rest < kBlock ? rest : kBlock);
          GatherRun(args.rows + batch * row_nbytes, ct, shape, width, target, sum);
          T* to = out + target.at[2] * shape.channels + target.channel;
          for (int i = 0; i < target.count; ++i) FromFloat(sum[i], to + i);
        }
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

}  // namespace

void MaxPoolOnHost(const MaxPoolArgs& args, UnitRange blocks, Isa isa) {
  RunForType<MaxPoolKernel>(args, blocks, isa);
}

void GradientOnHost(const GradientArgs& args, UnitRange lines, Isa isa) {
  RunForType<GradientKernel>(args, lines, isa);
}

}  // namespace epmc::pool_index
