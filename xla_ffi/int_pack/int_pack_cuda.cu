// A warp makes, or reads, the planes of a tile of 32 blocks: 1024 elements. The words of a
// tile go through shared memory, since a lane has one plane of one block at a time, and
// memory has all planes of a block together. docs/design/cuda.md has the traffic.
#include <cstdint>
#include <type_traits>

#include "xla_ffi/common/cuda_bits.h"
#include "xla_ffi/common/cuda_memory.h"
#include "xla_ffi/int_pack/int_pack.h"
#include "xla_ffi/int_pack/kernels_cuda.h"

namespace epmc::int_pack {
namespace {

constexpr int kTileBlocks = 32;
constexpr int kTileElements = kTileBlocks * kBlock;
constexpr int kUsualPlanes = 8;  // 8 KiB of shared memory in a thread block; 32 take 32 KiB

// Tiles are numbered through all rows, in 32 bits: a division of 64 bits costs as much as
// the rest of the kernel. 2^32 tiles are 4 TiB of bytes.
struct Tiles {
  uint32_t per_row;
  uint32_t count;
};

Tiles TilesOf(int64_t num_rows, int64_t row_elements) {
  const int64_t per_row = CeilDiv(row_elements, kTileElements);
  return {static_cast<uint32_t>(per_row), static_cast<uint32_t>(num_rows * per_row)};
}

struct TilePlace {
  int64_t row;
  int64_t in_row;  // tile
};

__device__ __forceinline__ uint32_t TileOfWarp() {
  return blockIdx.x * kBlockWarps + threadIdx.x / kWarpThreads;
}

__device__ __forceinline__ TilePlace PlaceOf(uint32_t tile, Tiles tiles) {
  const uint32_t row = tile / tiles.per_row;
  return {row, static_cast<int64_t>(tile - row * tiles.per_row)};
}

// Bit 0 of each element in a word of memory, side by side. The multiplications move each
// bit to its place, and what else they make does not carry.
template <typename T>
__device__ __forceinline__ uint32_t GatherBits(uint32_t word) {
  if (sizeof(T) == 1) return (word & 0x01010101u) * 0x01020408u >> 24;
  if (sizeof(T) == 2) return (word & 1u) | (word >> 15 & 2u);
  return word & 1u;
}

// Its inverse: neighbouring bits to bit 0 of each element of a word.
template <typename T>
__device__ __forceinline__ uint32_t SpreadBits(uint32_t bits) {
  if (sizeof(T) == 1) return (bits & 15u) * 0x00204081u & 0x01010101u;
  if (sizeof(T) == 2) return (bits & 1u) | (bits & 2u) << 15;
  return bits & 1u;
}

// 16 bytes as words of memory.
struct Words {
  uint32_t words[4];
};

template <typename T>
__device__ __forceinline__ Words AsWords(const Vector<T>& vector) {
  Words words;
  memcpy(&words, &vector, sizeof(words));
  return words;
}

// One bit of each of the 32 elements that this lane has loaded.
template <typename T, int kLoads>
__device__ __forceinline__ uint32_t FieldsOf(const Words* loaded, int plane) {
  constexpr int kPerWord = 4 / sizeof(T);
  uint32_t fields = 0;
#pragma unroll
  for (int i = 0; i < 4 * kLoads; ++i) {
    const uint32_t word = loaded[i / 4].words[i % 4];
    fields |= GatherBits<T>(word >> plane) << (i * kPerWord);
  }
  return fields;
}

template <typename T, int kPlanes>
__global__ void __launch_bounds__(kBlockThreads)
    EncodeKernel(const T* __restrict__ x, uint8_t* __restrict__ rows, int64_t row_elements,
                 int64_t row_nbytes, int bit_width, Tiles tiles, bool is_aligned) {
  constexpr int kElements = Vector<T>::kElements;
  constexpr int kLoads = kBlock / kElements;
  EPMC_SHARED(uint4, shared, kBlockWarps * kTileBlocks * kPlanes / 4);
  const uint32_t tile = TileOfWarp();
  if (tile >= tiles.count) return;  // the whole warp
  const int lane = threadIdx.x % kWarpThreads;
  const TilePlace at = PlaceOf(tile, tiles);
  const int64_t first = at.in_row * kTileElements;
  const T* from = x + at.row * row_elements + first;
  Words loaded[kLoads];
#pragma unroll
  for (int j = 0; j < kLoads; ++j) {
    const int element = (j * kWarpThreads + lane) * kElements;
    const int64_t count = row_elements - first - element;
    loaded[j] = AsWords(LoadVector(from + element, count, is_aligned));
  }
  uint4* vectors = shared + threadIdx.x / kWarpThreads * (kTileBlocks * kPlanes / 4);
  uint32_t* words = reinterpret_cast<uint32_t*>(vectors);
  for (int plane = 0; plane < bit_width; ++plane) {
    // An element has no bits above its own: there, a word of memory has its neighbour's.
    const bool has_plane = plane < 8 * static_cast<int>(sizeof(T));
    const uint32_t fields = has_plane ? FieldsOf<T, kLoads>(loaded, plane) : 0;
    words[lane * bit_width + plane] = WordOfLane<kElements>(fields, lane);
  }
  __syncwarp();
  // Up to the end of the row, padding included: there, all elements were zero.
  const int64_t offset = at.in_row * kTileBlocks * 4 * bit_width;
  uint4* to = reinterpret_cast<uint4*>(rows + at.row * row_nbytes + offset);
  for (int i = lane; i < kTileBlocks * bit_width / 4; i += kWarpThreads) {
    if (offset + 16 * i < row_nbytes) __stwb(to + i, vectors[i]);
  }
}

template <typename T, int kPlanes>
__global__ void __launch_bounds__(kBlockThreads)
    DecodeKernel(const uint8_t* __restrict__ rows, T* __restrict__ x, int64_t row_elements,
                 int64_t row_nbytes, int bit_width, Tiles tiles, bool is_aligned) {
  constexpr int kElements = Vector<T>::kElements;
  constexpr int kStores = kBlock / kElements;
  constexpr int kPerWord = 4 / sizeof(T);
  EPMC_SHARED(uint4, shared, kBlockWarps * kTileBlocks * kPlanes / 4);
  const uint32_t tile = TileOfWarp();
  if (tile >= tiles.count) return;  // the whole warp
  const int lane = threadIdx.x % kWarpThreads;
  const TilePlace at = PlaceOf(tile, tiles);
  uint4* vectors = shared + threadIdx.x / kWarpThreads * (kTileBlocks * kPlanes / 4);
  const int64_t offset = at.in_row * kTileBlocks * 4 * bit_width;
  const uint4* from = reinterpret_cast<const uint4*>(rows + at.row * row_nbytes + offset);
  for (int i = lane; i < kTileBlocks * bit_width / 4; i += kWarpThreads) {
    if (offset + 16 * i < row_nbytes) vectors[i] = __ldg(from + i);
  }
  __syncwarp();
  const uint32_t* words = reinterpret_cast<const uint32_t*>(vectors);
  const int64_t first = at.in_row * kTileElements;
  T* to = x + at.row * row_elements + first;
  const int planes = bit_width < 8 * static_cast<int>(sizeof(T)) ? bit_width
                                                                 : 8 * static_cast<int>(sizeof(T));
#pragma unroll
  for (int j = 0; j < kStores; ++j) {
    const int element = (j * kWarpThreads + lane) * kElements;
    if (first + element >= row_elements) continue;
    const uint32_t* block = words + element / kBlock * bit_width;
    Words values = {};
    for (int plane = 0; plane < planes; ++plane) {
      const uint32_t bits = block[plane] >> element % kBlock;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        values.words[i] |= SpreadBits<T>(bits >> (i * kPerWord)) << plane;
      }
    }
    Vector<T> vector;
    memcpy(&vector, &values, sizeof(vector));
    StoreVector(vector, to + element, row_elements - first - element, is_aligned);
  }
}

// Calls `body(T{}, std::integral_constant<int, planes>)`.
template <typename T, typename Body>
void WithPlanes(int bit_width, const Body& body) {
  if (bit_width <= kUsualPlanes) return body(T{}, std::integral_constant<int, kUsualPlanes>{});
  body(T{}, std::integral_constant<int, kMaxBitWidth>{});
}

template <typename Body>
void WithTypes(int element_nbytes, int bit_width, const Body& body) {
  switch (element_nbytes) {
    case 1:
      return WithPlanes<uint8_t>(bit_width, body);
    case 2:
      return WithPlanes<uint16_t>(bit_width, body);
    default:
      return WithPlanes<uint32_t>(bit_width, body);
  }
}

}  // namespace

void LaunchEncode(const EncodeArgs& args, int64_t num_rows, cudaStream_t stream) {
  const Tiles tiles = TilesOf(num_rows, args.row_elements);
  const int64_t row_nbytes = RowNbytes(args.row_elements, args.bit_width);
  const unsigned blocks = static_cast<unsigned>(CeilDiv(tiles.count, kBlockWarps));
  WithTypes(args.element_nbytes, args.bit_width, [&](auto element, auto planes) {
    using T = decltype(element);
    const bool is_aligned = HasAlignedRows<T>(args.x, num_rows, args.row_elements);
    const auto kernel = EncodeKernel<T, planes()>;
    EPMC_LAUNCH(kernel, blocks, kBlockThreads, stream, static_cast<const T*>(args.x),
                args.rows, args.row_elements, row_nbytes, args.bit_width, tiles, is_aligned);
  });
}

void LaunchDecode(const DecodeArgs& args, int64_t num_rows, cudaStream_t stream) {
  const Tiles tiles = TilesOf(num_rows, args.row_elements);
  const int64_t row_nbytes = RowNbytes(args.row_elements, args.bit_width);
  const unsigned blocks = static_cast<unsigned>(CeilDiv(tiles.count, kBlockWarps));
  WithTypes(args.element_nbytes, args.bit_width, [&](auto element, auto planes) {
    using T = decltype(element);
    const bool is_aligned = HasAlignedRows<T>(args.x, num_rows, args.row_elements);
    const auto kernel = DecodeKernel<T, planes()>;
    EPMC_LAUNCH(kernel, blocks, kBlockThreads, stream, args.rows, static_cast<T*>(args.x),
                args.row_elements, row_nbytes, args.bit_width, tiles, is_aligned);
  });
}

}  // namespace epmc::int_pack
