// A warp makes, or reads, a tile of 32 words: 1024 elements. docs/design/cuda.md has the
// traffic that this costs.
#include "xla_ffi/bit_mask/bit_mask.h"
#include "xla_ffi/bit_mask/kernels_cuda.h"
#include "xla_ffi/common/cuda_bits.h"
#include "xla_ffi/common/cuda_memory.h"

namespace epmc::bit_mask {
namespace {

constexpr int kTileWords = 32;
constexpr int kTileElements = kTileWords * kBlock;

// Tiles are numbered through all rows, in 32 bits: a division of 64 bits costs as much as
// the rest of the kernel. 2^32 tiles are 4 TiB of booleans.
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
  int64_t word;  // first of the tile, in its row
};

__device__ __forceinline__ uint32_t TileOfWarp() {
  return blockIdx.x * kBlockWarps + threadIdx.x / kWarpThreads;
}

__device__ __forceinline__ TilePlace PlaceOf(uint32_t tile, Tiles tiles) {
  const uint32_t row = tile / tiles.per_row;
  return {row, static_cast<int64_t>(tile - row * tiles.per_row) * kTileWords};
}

template <typename T>
__global__ void __launch_bounds__(kBlockThreads)
    EncodeKernel(const T* __restrict__ x, uint8_t* __restrict__ rows, int64_t row_elements,
                 Tiles tiles, bool is_aligned) {
  constexpr int kElements = Vector<T>::kElements;
  constexpr int kLoads = kBlock / kElements;
  const uint32_t tile = TileOfWarp();
  if (tile >= tiles.count) return;  // the whole warp
  const int lane = threadIdx.x % kWarpThreads;
  const TilePlace at = PlaceOf(tile, tiles);
  const int64_t first = at.word * kBlock;
  const T* from = x + at.row * row_elements + first;
  Vector<T> loaded[kLoads];
#pragma unroll
  for (int j = 0; j < kLoads; ++j) {
    const int element = (j * kWarpThreads + lane) * kElements;
    loaded[j] = LoadVector(from + element, row_elements - first - element, is_aligned);
  }
  uint32_t fields = 0;
#pragma unroll
  for (int i = 0; i < kBlock; ++i) {
    fields |= IsSet(loaded[i / kElements].elements[i % kElements]) << i;
  }
  const uint32_t word = WordOfLane<kElements>(fields, lane);
  // Words up to the end of the row, padding included: there, all elements were zero.
  const int64_t row_nbytes = RowNbytes(row_elements);
  if (at.word + lane >= row_nbytes / 4) return;
  reinterpret_cast<uint32_t*>(rows + at.row * row_nbytes)[at.word + lane] = word;
}

__global__ void __launch_bounds__(kBlockThreads)
    DecodeKernel(const uint8_t* __restrict__ rows, uint8_t* __restrict__ x,
                 int64_t row_elements, Tiles tiles, bool is_aligned) {
  constexpr int kElements = Vector<uint8_t>::kElements;
  constexpr int kStores = kBlock / kElements;
  const uint32_t tile = TileOfWarp();
  if (tile >= tiles.count) return;  // the whole warp
  const int lane = threadIdx.x % kWarpThreads;
  const TilePlace at = PlaceOf(tile, tiles);
  const int64_t row_nbytes = RowNbytes(row_elements);
  const uint32_t* words = reinterpret_cast<const uint32_t*>(rows + at.row * row_nbytes);
  const uint32_t own = at.word + lane < row_nbytes / 4 ? words[at.word + lane] : 0;
  const int64_t first = at.word * kBlock;
  uint8_t* to = x + at.row * row_elements + first;
#pragma unroll
  for (int j = 0; j < kStores; ++j) {
    const int element = (j * kWarpThreads + lane) * kElements;
    const uint32_t word = __shfl_sync(kAllLanes, own, element / kBlock);
    const uint32_t bits = word >> element % kBlock;
    Vector<uint8_t> vector;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint32_t four = BytesOfBits(bits >> 4 * i);
      memcpy(vector.elements + 4 * i, &four, 4);
    }
    StoreVector(vector, to + element, row_elements - first - element, is_aligned);
  }
}

template <typename T>
void LaunchEncodeOf(const EncodeArgs& args, int64_t num_rows, cudaStream_t stream) {
  const Tiles tiles = TilesOf(num_rows, args.row_elements);
  const bool is_aligned = HasAlignedRows<T>(args.x, num_rows, args.row_elements);
  const unsigned blocks = static_cast<unsigned>(CeilDiv(tiles.count, kBlockWarps));
  EPMC_LAUNCH(EncodeKernel<T>, blocks, kBlockThreads, stream, static_cast<const T*>(args.x),
              args.rows, args.row_elements, tiles, is_aligned);
}

}  // namespace

void LaunchEncode(const EncodeArgs& args, int64_t num_rows, cudaStream_t stream) {
  switch (args.type) {
    case ElementType::kBool:
      return LaunchEncodeOf<uint8_t>(args, num_rows, stream);
    case ElementType::kF32:
      return LaunchEncodeOf<F32>(args, num_rows, stream);
    case ElementType::kBf16:
      return LaunchEncodeOf<Bf16>(args, num_rows, stream);
    case ElementType::kF16:
      return LaunchEncodeOf<F16>(args, num_rows, stream);
  }
}

void LaunchDecode(const DecodeArgs& args, int64_t num_rows, cudaStream_t stream) {
  const Tiles tiles = TilesOf(num_rows, args.row_elements);
  const bool is_aligned = HasAlignedRows<uint8_t>(args.x, num_rows, args.row_elements);
  const unsigned blocks = static_cast<unsigned>(CeilDiv(tiles.count, kBlockWarps));
  EPMC_LAUNCH(DecodeKernel, blocks, kBlockThreads, stream, args.rows, args.x,
              args.row_elements, tiles, is_aligned);
}

}  // namespace epmc::bit_mask
