// A warp makes a tile of 256 results, and their planes: 8 words of each, so that they fill
// sectors. The gradient gathers: a lane has 16 bytes of the operand, and visits the windows
// that hold them. Where the channels of a pixel are no multiple of 16 bytes, elements go
// one by one. docs/design/cuda.md has the traffic.
#include <cstdint>
#include <type_traits>

#include "xla_ffi/common/cuda_memory.h"
#include "xla_ffi/pool_index/kernels_cuda.h"
#include "xla_ffi/pool_index/pool_index.h"

namespace epmc::pool_index {
namespace {

constexpr int kTileBlocks = 8;
constexpr int kTileElements = kTileBlocks * kBlock;
constexpr int kMaxBitWidth = 8;
// Thread blocks that share a multiprocessor: 4 leave 64 registers to a thread. Without it
// ptxas wants more of them, and spills what does not fit into 40 or 48.
constexpr int kMinBlocks = 4;

using Axis32 = AxisOf<int32_t>;
using Interval32 = IntervalOf<int32_t>;

// The sizes of one row in 32 bits: the handler has checked that they fit.
struct RowShape {
  int32_t channels;
  int32_t operand_elements;
  int32_t elements;  // of the result
  int32_t row_nbytes;
  int32_t bit_width;
  Axis32 axes[kAxes];
};

RowShape RowShapeOf(const PoolShape& shape) {
  RowShape row;
  int64_t operand = shape.channels;
  for (int i = 0; i < kAxes; ++i) {
    const Axis& axis = shape.axes[i];
    operand *= axis.in;
    row.axes[i] = {static_cast<int32_t>(axis.in), static_cast<int32_t>(axis.out),
                   static_cast<int32_t>(axis.window), static_cast<int32_t>(axis.stride),
                   static_cast<int32_t>(axis.pad)};
  }
  const int64_t elements = PooledRowElements(shape);
  row.channels = static_cast<int32_t>(shape.channels);
  row.operand_elements = static_cast<int32_t>(operand);
  row.elements = static_cast<int32_t>(elements);
  row.bit_width = BitWidth(shape);
  row.row_nbytes = static_cast<int32_t>(int_pack::RowNbytes(elements, row.bit_width));
  return row;
}

// Tiles are numbered through all rows.
struct Tiles {
  uint32_t per_row;
  uint32_t count;
};

Tiles TilesOf(int64_t batch, int64_t row_elements, int64_t tile_elements) {
  const int64_t per_row = CeilDiv(row_elements, tile_elements);
  return {static_cast<uint32_t>(per_row), static_cast<uint32_t>(batch * per_row)};
}

struct TilePlace {
  int64_t row;
  int32_t in_row;  // tile
};

__device__ __forceinline__ uint32_t TileOfWarp() {
  return blockIdx.x * kBlockWarps + threadIdx.x / kWarpThreads;
}

__device__ __forceinline__ TilePlace PlaceOf(uint32_t tile, Tiles tiles) {
  const uint32_t row = tile / tiles.per_row;
  return {row, static_cast<int32_t>(tile - row * tiles.per_row)};
}

// Where an element is: its pixel on the three axes, and its channel.
struct Place {
  int32_t at[kAxes];
  int32_t channel;
};

__device__ __forceinline__ Place PlaceIn(int32_t element, int32_t channels, int32_t size_b,
                                         int32_t size_c) {
  const int32_t pixel = element / channels;
  const int32_t line = pixel / size_c;
  return {{line / size_b, line % size_b, pixel % size_c}, element - pixel * channels};
}

// kWidth elements at an address that is a multiple of their size: 16 bytes, or one.
template <typename T, int kWidth>
__device__ __forceinline__ void LoadRun(const T* from, T* run) {
  if (kWidth == 1) {
    run[0] = from[0];
  } else {
    const Vector<T> vector = LoadVector(from, kWidth, true);
    memcpy(run, &vector, sizeof(vector));
  }
}

template <typename T, int kWidth>
__device__ __forceinline__ void StoreRun(const T* run, T* to) {
  if (kWidth == 1) {
    to[0] = run[0];
  } else {
    Vector<T> vector;
    memcpy(&vector, run, sizeof(vector));
    StoreVector(vector, to, kWidth, true);
  }
}

// The results `element` ... of a row, channels of one pixel: their maxima, and indices.
template <typename T, int kWidth>
__device__ __forceinline__ void SelectRun(const T* x, const RowShape& shape, int32_t element,
                                          T* y, int32_t* index) {
  const Axis32* axes = shape.axes;
  const Place place = PlaceIn(element, shape.channels, axes[1].out, axes[2].out);
  const Interval32 in_a = InsideWindow(axes[0], place.at[0]);
  const Interval32 in_b = InsideWindow(axes[1], place.at[1]);
  const Interval32 in_c = InsideWindow(axes[2], place.at[2]);
  const int32_t start_a = place.at[0] * axes[0].stride - axes[0].pad;
  const int32_t start_b = place.at[1] * axes[1].stride - axes[1].pad;
  const int32_t start_c = place.at[2] * axes[2].stride - axes[2].pad;
  float best[kWidth], largest[kWidth];
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    // NaN is replaced by the first candidate, whatever it is.
    best[i] = BitsToFloat(kQuietNan);
    largest[i] = kNegativeInfinity;
  }
  for (int32_t a = in_a.first; a < in_a.last; ++a) {
    for (int32_t b = in_b.first; b < in_b.last; ++b) {
      const int32_t line = ((start_a + a) * axes[1].in + start_b + b) * axes[2].in + start_c;
      const int32_t number = (a * axes[1].window + b) * axes[2].window;
      for (int32_t c = in_c.first; c < in_c.last; ++c) {
        T run[kWidth];
        LoadRun<T, kWidth>(x + (line + c) * shape.channels + place.channel, run);
#pragma unroll
        for (int i = 0; i < kWidth; ++i) {
          Consider(BitsToFloat(ToFloatBits(run[i])), number + c, best + i, largest + i,
                   index + i);
        }
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kWidth; ++i) FromFloat(largest[i], y + i);
}

// The word of one plane of the block that this lane's elements are in.
template <int kWidth>
__device__ __forceinline__ uint32_t PlaneOfBlock(const int32_t* index, int plane, int lane) {
  if (kWidth == 1) return __ballot_sync(kAllLanes, index[0] >> plane & 1);
  uint32_t word = 0;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    word |= (static_cast<uint32_t>(index[i]) >> plane & 1u) << i;
  }
  word <<= lane * kWidth % kBlock;
#pragma unroll
  for (int d = 1; d < kBlock / kWidth; d *= 2) word |= __shfl_xor_sync(kAllLanes, word, d);
  return word;
}

template <typename T, int kWidth>
__global__ void __launch_bounds__(kBlockThreads, kMinBlocks)
    MaxPoolKernel(const T* __restrict__ x, T* __restrict__ y, uint8_t* __restrict__ rows,
                  RowShape shape, Tiles tiles) {
  constexpr int kRuns = kTileElements / (kWarpThreads * kWidth);
  constexpr int kTileWords = kTileBlocks * kMaxBitWidth;
  EPMC_SHARED(uint32_t, shared, kBlockWarps * kTileWords);
  const uint32_t tile = TileOfWarp();
  if (tile >= tiles.count) return;  // the whole warp
  const int lane = threadIdx.x % kWarpThreads;
  const TilePlace at = PlaceOf(tile, tiles);
  const T* from = x + at.row * shape.operand_elements;
  T* to = y + at.row * shape.elements;
  uint32_t* words = shared + threadIdx.x / kWarpThreads * kTileWords;
#pragma unroll 1  // nothing is kept from one run to the next but what is in shared memory
  for (int j = 0; j < kRuns; ++j) {
    const int in_tile = (j * kWarpThreads + lane) * kWidth;
    const int32_t element = at.in_row * kTileElements + in_tile;
    int32_t index[kWidth] = {};
    if (element < shape.elements) {
      T run[kWidth];
      SelectRun<T, kWidth>(from, shape, element, run, index);
      StoreRun<T, kWidth>(run, to + element);
    }
    for (int plane = 0; plane < shape.bit_width; ++plane) {
      const uint32_t word = PlaneOfBlock<kWidth>(index, plane, lane);
      if (in_tile % kBlock == 0) words[in_tile / kBlock * shape.bit_width + plane] = word;
    }
  }
  __syncwarp();
  // Up to the end of the row, padding included: there, all indices were 0.
  const int32_t first = at.in_row * kTileBlocks * shape.bit_width;
  uint32_t* row = reinterpret_cast<uint32_t*>(rows + at.row * shape.row_nbytes);
  for (int i = lane; i < kTileBlocks * shape.bit_width; i += kWarpThreads) {
    if (4 * (first + i) < shape.row_nbytes) row[first + i] = words[i];
  }
}

// A sum as it is after being stored as T.
template <typename T>
__device__ __forceinline__ float AsStored(float sum) {
  T stored;
  FromFloat(sum, &stored);
  return BitsToFloat(ToFloatBits(stored));
}

// Adds in the order of the pooled elements and in their type, as the CPU kernel does.
template <typename T, int kWidth>
__device__ __forceinline__ void GatherRun(const uint32_t* words, const T* ct,
                                          const RowShape& shape, int32_t element, T* ct_x) {
  const Axis32* axes = shape.axes;
  const Place place = PlaceIn(element, shape.channels, axes[1].in, axes[2].in);
  const Interval32 over_a = WindowsOver(axes[0], place.at[0]);
  const Interval32 over_b = WindowsOver(axes[1], place.at[1]);
  const Interval32 over_c = WindowsOver(axes[2], place.at[2]);
  float sum[kWidth] = {};
  for (int32_t a = over_a.first; a < over_a.last; ++a) {
    const int32_t in_a = place.at[0] + axes[0].pad - a * axes[0].stride;
    for (int32_t b = over_b.first; b < over_b.last; ++b) {
      const int32_t in_b = place.at[1] + axes[1].pad - b * axes[1].stride;
      for (int32_t c = over_c.first; c < over_c.last; ++c) {
        const int32_t in_c = place.at[2] + axes[2].pad - c * axes[2].stride;
        const int32_t index = (in_a * axes[1].window + in_b) * axes[2].window + in_c;
        const int32_t pixel = (a * axes[1].out + b) * axes[2].out + c;
        const int32_t first = pixel * shape.channels + place.channel;
        const uint32_t equal =
            int_pack::EqualTo(words + first / kBlock * shape.bit_width, shape.bit_width,
                              static_cast<uint32_t>(index));
        const uint32_t selected = equal >> first % kBlock;
        T run[kWidth];
        LoadRun<T, kWidth>(ct + first, run);
#pragma unroll
        for (int i = 0; i < kWidth; ++i) {
          const float value = BitsToFloat(ToFloatBits(run[i]));
          sum[i] = AsStored<T>(sum[i] + ((selected >> i & 1u) != 0 ? value : 0.0f));
        }
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kWidth; ++i) FromFloat(sum[i], ct_x + i);
}

template <typename T, int kWidth>
__global__ void __launch_bounds__(kBlockThreads, kMinBlocks)
    GradientKernel(const uint8_t* __restrict__ rows, const T* __restrict__ ct,
                   T* __restrict__ ct_x, RowShape shape, Tiles tiles) {
  const uint32_t tile = TileOfWarp();
  if (tile >= tiles.count) return;  // the whole warp
  const TilePlace at = PlaceOf(tile, tiles);
  const int lane = threadIdx.x % kWarpThreads;
  const int32_t element = (at.in_row * kWarpThreads + lane) * kWidth;
  if (element >= shape.operand_elements) return;
  const auto* words = reinterpret_cast<const uint32_t*>(rows + at.row * shape.row_nbytes);
  T run[kWidth];
  GatherRun<T, kWidth>(words, ct + at.row * shape.elements, shape, element, run);
  StoreRun<T, kWidth>(run, ct_x + at.row * shape.operand_elements + element);
}

// Calls `body(T{}, std::integral_constant<int, width>)`: a vector, if all pixels start at 16
// bytes, or one element.
template <typename T, typename Body>
void WithWidth(const void* operand, const void* result, int64_t channels, const Body& body) {
  const bool is_aligned = reinterpret_cast<uintptr_t>(operand) % 16 == 0 &&
                          reinterpret_cast<uintptr_t>(result) % 16 == 0 &&
                          channels * sizeof(T) % 16 == 0;
  if (is_aligned) return body(T{}, std::integral_constant<int, Vector<T>::kElements>{});
  body(T{}, std::integral_constant<int, 1>{});
}

template <typename Body>
void WithTypes(FloatType type, const void* operand, const void* result, int64_t channels,
               const Body& body) {
  switch (type) {
    case FloatType::kF32:
      return WithWidth<F32>(operand, result, channels, body);
    case FloatType::kBf16:
      return WithWidth<Bf16>(operand, result, channels, body);
    case FloatType::kF16:
      return WithWidth<F16>(operand, result, channels, body);
  }
}

}  // namespace

void LaunchMaxPool(const MaxPoolArgs& args, cudaStream_t stream) {
  const RowShape shape = RowShapeOf(args.shape);
  const Tiles tiles = TilesOf(args.shape.batch, shape.elements, kTileElements);
  const unsigned blocks = static_cast<unsigned>(CeilDiv(tiles.count, kBlockWarps));
  WithTypes(args.type, args.x, args.y, shape.channels, [&](auto element, auto width) {
    using T = decltype(element);
    const auto kernel = MaxPoolKernel<T, width()>;
    EPMC_LAUNCH(kernel, blocks, kBlockThreads, stream, static_cast<const T*>(args.x),
                static_cast<T*>(args.y), args.rows, shape, tiles);
  });
}

void LaunchGradient(const GradientArgs& args, cudaStream_t stream) {
  const RowShape shape = RowShapeOf(args.shape);
  WithTypes(args.type, args.ct_x, args.ct, shape.channels, [&](auto element, auto width) {
    using T = decltype(element);
    const Tiles tiles =
        TilesOf(args.shape.batch, shape.operand_elements, kWarpThreads * width());
    const unsigned blocks = static_cast<unsigned>(CeilDiv(tiles.count, kBlockWarps));
    const auto kernel = GradientKernel<T, width()>;
    EPMC_LAUNCH(kernel, blocks, kBlockThreads, stream, args.rows,
                static_cast<const T*>(args.ct), static_cast<T*>(args.ct_x), shape, tiles);
  });
}

}  // namespace epmc::pool_index
