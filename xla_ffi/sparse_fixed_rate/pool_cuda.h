// What encoder and decoder share on a GPU. A thread block has a pool, each of its 16 warps a
// tile of 1024 elements, and no group is in two tiles. What all need to know of the pool is
// found by one warp; codes and planes change places in shared memory.
#ifndef EPMC_SPARSE_FIXED_RATE_POOL_CUDA_H_
#define EPMC_SPARSE_FIXED_RATE_POOL_CUDA_H_

#include <cstdint>
#include <type_traits>

#include "xla_ffi/common/cuda_bits.h"
#include "xla_ffi/common/cuda_memory.h"
#include "xla_ffi/sparse_fixed_rate/pool.h"

namespace epmc::sparse_fixed_rate {

constexpr int kPoolThreads = 512;
constexpr int kPoolWarps = kPoolThreads / kWarpThreads;
constexpr int kTileElements = kPool / kPoolWarps;
static_assert(kTileElements == kMaxGroupSize && kTileElements == kBlock * kWarpThreads);

// Two thread blocks, 1024 threads, on a multiprocessor of 65536 registers.
constexpr int kBlocksAtOnce = 2;

template <typename T>
constexpr int kLoads = kBlock / Vector<T>::kElements;

// The bits of an element, in its own width.
template <typename T>
using Word = std::conditional_t<sizeof(T) == 4, uint32_t, uint16_t>;

// A block has 16 words of shared memory: 32 codes, or up to 16 planes. Each of two streams
// ends with a whole block, and up to four blocks are taken at a time.
constexpr int kBlockWords = kBlock / 2;
constexpr int kMaxBlocks = kPool / kBlock + 4;

// All pools of a launch are cut alike.
struct Pools {
  int64_t row_elements;
  RowLayout layout;
  Format format;
  int group_shift;  // of the group size, a power of 2
};

// What the values of a pool get, and where.
struct Spending {
  Widths widths;
  int wide_end;  // first place of the second stream
  int end;       // of the values
  int blocks;
  uint32_t inverse_wide, inverse_narrow;  // see QuotientOf
  bool is_exact;
  bool has_dense;
};

struct alignas(16) PoolMemory {
  uint32_t words[kMaxBlocks * kBlockWords];
  int32_t values[kMaxPoolGroups];  // of a group; first its nonzeros, or bits of its bitmap
  int32_t places[kMaxPoolGroups];  // of its first value
  bool is_dense[kMaxPoolGroups];
  Spending spending;
};

__device__ __forceinline__ int LaneOfThread() { return threadIdx.x % kWarpThreads; }
__device__ __forceinline__ int WarpOfThread() { return threadIdx.x / kWarpThreads; }

__device__ __forceinline__ Place PlaceOfBlock(const Pools& pools) {
  const uint32_t row = blockIdx.x / static_cast<uint32_t>(pools.layout.pools);
  const uint32_t pool = blockIdx.x - row * static_cast<uint32_t>(pools.layout.pools);
  return PlaceOf(row, pool, pools.row_elements, pools.format, pools.layout);
}

// The group of an element of this warp's tile.
__device__ __forceinline__ int GroupOf(int element, int group_shift) {
  return (WarpOfThread() * kTileElements + element) >> group_shift;
}

// The lane's bits that stand for elements of the pool.
__device__ __forceinline__ uint32_t ValidBits(int pool_elements) {
  const int rest = pool_elements - static_cast<int>(threadIdx.x) * kBlock;
  if (rest <= 0) return 0;
  return rest < kBlock ? (1u << rest) - 1 : ~0u;
}

// Of this lane and those below it.
__device__ __forceinline__ int SumUpTo(int value, int lane) {
#pragma unroll
  for (int distance = 1; distance < kWarpThreads; distance *= 2) {
    const int below = __shfl_sync(kAllLanes, value, (lane - distance) & (kWarpThreads - 1));
    value += lane >= distance ? below : 0;
  }
  return value;
}

// Stores how many bits each of the warp's groups has; lane b has word b of the tile. Returns
// how many there are in the group before the lane's.
__device__ __forceinline__ int CountBits(uint32_t word, int group_shift, int32_t* counts) {
  const int lane = LaneOfThread();
  const int group_words = 1 << group_shift >> 5;
  const int in_group = lane & (group_words - 1);
  const int own = __popc(word);
  const int end = SumUpTo(own, lane);
  const int first = __shfl_sync(kAllLanes, end - own, lane - in_group);
  if (in_group == group_words - 1) counts[GroupOf(lane * kBlock, group_shift)] = end - first;
  return end - own - first;
}

// Calls `body(group)` for the groups of this lane, where a warp has all of the pool: those
// of a lane are neighbours.
template <typename Body>
__device__ __forceinline__ void ForGroupsOfLane(int groups, int group_shift, const Body& body) {
  const int pool_groups = kPool >> group_shift;
  const int each = pool_groups > kWarpThreads ? pool_groups / kWarpThreads : 1;
  const int first = LaneOfThread() * each;
  for (int group = first; group < first + each && group < groups; ++group) body(group);
}

// WidthsOf, by a warp: `total` values, of which `before` are below the lane's groups.
__device__ __forceinline__ Widths FindWidths(const PoolMemory& memory, const Place& at,
                                             int group_shift, int before, int total,
                                             int value_bits) {
  const int blocks = BlocksOf(total);
  const int most = MostPlanes(value_bits);
  const int planes = at.words / (blocks > 0 ? blocks : 1);
  if (planes >= most) return {most, 0, 0};
  int32_t wide_groups = 0;
  int32_t wide_values = 0;
  ForGroupsOfLane(at.groups, group_shift, [&](int group) {
    if (FitsWide(before, total, planes, at.words)) {
      wide_groups = group;
      wide_values = before;
    }
    before += memory.values[group];
  });
  // Of the last group that fits, as later ones have no fewer values before them.
  return {planes, __reduce_max_sync(kAllLanes, wide_groups),
          __reduce_max_sync(kAllLanes, wide_values)};
}

// ceil(2^18 / planes): QuotientOf is exact for all words of a pool.
__device__ __forceinline__ uint32_t InverseOf(int planes) {
  return planes == 0 ? 0 : ((1u << 18) + planes - 1) / planes;
}

__device__ __forceinline__ int QuotientOf(int word, uint32_t inverse) {
  static_assert(2 * kPool / 4 * kMaxCodeBits < 1 << 18, "word * (inverse's excess) < 2^18");
  return static_cast<int>(static_cast<uint32_t>(word) * inverse >> 18);
}

// Done by one warp, when `values` and `is_dense` of all groups are there.
__device__ __forceinline__ void Spend(const Place& at, int group_shift, int value_bits,
                                      bool is_exact, bool has_dense, PoolMemory* memory) {
  const int lane = LaneOfThread();
  int own = 0;
  ForGroupsOfLane(at.groups, group_shift, [&](int group) { own += memory->values[group]; });
  const int end = SumUpTo(own, lane);
  const int total = __shfl_sync(kAllLanes, end, kWarpThreads - 1);
  Widths widths = {0, 0, 0};
  if (!is_exact) {
    widths = FindWidths(*memory, at, group_shift, end - own, total, value_bits);
  }
  const int wide_end = widths.WideBlocks() * kBlock;
  const int shift = wide_end - widths.wide_values;
  int place = end - own;
  ForGroupsOfLane(at.groups, group_shift, [&](int group) {
    memory->places[group] = place + (group < widths.wide_groups ? 0 : shift);
    place += memory->values[group];
  });
  if (lane == 0) {
    const int blocks = widths.WideBlocks() + BlocksOf(total - widths.wide_values);
    memory->spending = {widths,
                        wide_end,
                        total + shift,
                        blocks,
                        InverseOf(widths.planes + 1),
                        InverseOf(widths.planes),
                        is_exact,
                        has_dense};
  }
}

__device__ __forceinline__ bool AnyLane(bool is_true) {
  return __ballot_sync(kAllLanes, is_true) != 0;
}

// Where a word of the payload is from.
struct Plane {
  int block;
  int number;
  bool exists;

  __device__ __forceinline__ int word() const { return block * kBlockWords + number; }
};

__device__ __forceinline__ Plane PlaneOf(int word, const Spending& spending) {
  const Widths& widths = spending.widths;
  const int wide_blocks = spending.wide_end / kBlock;
  const int wide_words = wide_blocks * (widths.planes + 1);
  const bool is_wide = word < wide_words;
  const int planes = widths.planes + is_wide;
  const int in_stream = is_wide ? word : word - wide_words;
  const int block =
      QuotientOf(in_stream, is_wide ? spending.inverse_wide : spending.inverse_narrow);
  const int number = in_stream - block * planes;
  const int of_both = block + (is_wide ? 0 : wide_blocks);
  return {of_both, number, number < planes && of_both < spending.blocks};
}

// Bit k of lane i to bit i of lane k: halves change places, then quarters, ... What a
// rotation carries around the word's end is not taken.
__device__ __forceinline__ uint32_t Transposed(uint32_t word) {
  const int lane = LaneOfThread();
  uint32_t low = 0x0000ffffu;
#pragma unroll
  for (int distance = kBlock / 2; distance > 0; distance /= 2) {
    const bool is_upper = (lane & distance) != 0;
    const uint32_t own = is_upper ? ~low : low;
    const int turn = is_upper ? kBlock - distance : distance;
    const uint32_t other = __shfl_xor_sync(kAllLanes, word, distance);
    word = (word & own) | ((other << turn | other >> (kBlock - turn)) & ~own);
    low ^= low << distance / 2;
  }
  return word;
}

// Codes of up to `kPlanes` bits to planes, in place. A warp takes as many blocks as its lanes
// have room for planes: four of 8 cost what two of 16 do.
template <int kPlanes>
__device__ __forceinline__ void CodesToPlanesOf(PoolMemory* memory) {
  constexpr int kBlocks = kBlock / kPlanes;
  const int lane = LaneOfThread();
  const int blocks = memory->spending.blocks;
  for (int block = kBlocks * WarpOfThread(); block < blocks; block += kBlocks * kPoolWarps) {
    uint32_t* words = memory->words + block * kBlockWords;
    const uint16_t* codes = reinterpret_cast<const uint16_t*>(words);
    uint32_t word = 0;
#pragma unroll
    for (int k = 0; k < kBlocks; ++k) {
      if (block + k < blocks) word |= uint32_t{codes[k * kBlock + lane]} << k * kPlanes;
    }
    __syncwarp();  // read by all, then written
    words[lane / kPlanes * kBlockWords + lane % kPlanes] = Transposed(word);
  }
}

template <int kPlanes>
__device__ __forceinline__ void PlanesToCodesOf(PoolMemory* memory) {
  constexpr int kBlocks = kBlock / kPlanes;
  const int lane = LaneOfThread();
  const Spending& spending = memory->spending;
  for (int first = kBlocks * WarpOfThread(); first < spending.blocks;
       first += kBlocks * kPoolWarps) {
    uint32_t* words = memory->words + first * kBlockWords;
    const int block = first + lane / kPlanes;
    const bool is_wide = block < spending.wide_end / kBlock;
    const bool is_plane =
        lane % kPlanes < spending.widths.planes + is_wide && block < spending.blocks;
    const uint32_t plane = is_plane ? words[lane / kPlanes * kBlockWords + lane % kPlanes] : 0;
    const uint32_t word = Transposed(plane);
    __syncwarp();  // read by all, then written
    uint16_t* codes = reinterpret_cast<uint16_t*>(words);
#pragma unroll
    for (int k = 0; k < kBlocks; ++k) {
      codes[k * kBlock + lane] =
          static_cast<uint16_t>(word >> k * kPlanes & ((1u << kPlanes) - 1));
    }
  }
}

__device__ __forceinline__ bool HasFewPlanes(const PoolMemory& memory) {
  return memory.spending.widths.planes < 8;
}

__device__ __forceinline__ void CodesToPlanes(PoolMemory* memory) {
  if (HasFewPlanes(*memory)) return CodesToPlanesOf<8>(memory);
  CodesToPlanesOf<kMaxCodeBits>(memory);
}

__device__ __forceinline__ void PlanesToCodes(PoolMemory* memory) {
  if (HasFewPlanes(*memory)) return PlanesToCodesOf<8>(memory);
  PlanesToCodesOf<kMaxCodeBits>(memory);
}

// Calls `body(load, first element in the tile, bits of its values, place of the first)` for
// each of the lane's loads of `kElements`. `word` has the bits of block `lane` of the tile,
// and `place` is that of its first value.
template <int kElements, typename Body>
__device__ __forceinline__ void ForLoads(uint32_t word, int place, const Body& body) {
#pragma unroll
  for (int j = 0; j < kBlock / kElements; ++j) {
    const int element = (j * kWarpThreads + LaneOfThread()) * kElements;
    const uint32_t bits = __shfl_sync(kAllLanes, word, element / kBlock);
    const int first = __shfl_sync(kAllLanes, place, element / kBlock);
    const int start = element % kBlock;
    body(j, element, bits >> start, first + __popc(bits & ((1u << start) - 1)));
  }
}

// Of what the lane has in word `lane` of its tile: bits of values, and the first one's place.
struct ValuesOfLane {
  uint32_t bits;
  int place;
  bool is_dense;
};

// `in_group`: set bits of the bitmap before the lane's word, in its group.
__device__ __forceinline__ ValuesOfLane FindValues(uint32_t bitmap, int in_group,
                                                   const Place& at, int group_shift,
                                                   const PoolMemory& memory) {
  const int element = LaneOfThread() * kBlock;
  const int group = GroupOf(element, group_shift);
  // Behind the pool's last group nothing was written, and there are no values.
  if (group >= at.groups) return {0, 0, false};
  const int place = memory.places[group];
  if (!memory.is_dense[group]) return {bitmap, place + in_group, false};
  return {ValidBits(at.elements), place + (element & ((1 << group_shift) - 1)), true};
}

}  // namespace epmc::sparse_fixed_rate

#endif  // EPMC_SPARSE_FIXED_RATE_POOL_CUDA_H_
