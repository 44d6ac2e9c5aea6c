// The kernel that encodes a pool: ranges and numbers of nonzeros, what that leaves for each
// value, codes at their places in shared memory, planes.
#ifndef EPMC_SPARSE_FIXED_RATE_ENCODE_CUDA_H_
#define EPMC_SPARSE_FIXED_RATE_ENCODE_CUDA_H_

#include <cstdint>

#include "xla_ffi/common/dither.h"
#include "xla_ffi/sparse_fixed_rate/pool_cuda.h"

namespace epmc::sparse_fixed_rate {

// What makes codes of a group's values.
struct alignas(16) GroupCode {
  Quantizer quantizer;
  uint32_t key;
  int32_t place;  // of the first value
  int32_t top;    // bit of the code that is in the bitmap, in dense groups; 16 in others

  __device__ __forceinline__ bool IsDenseGroup() const { return top < kMaxCodeBits; }
};

struct EncodeMemory {
  PoolMemory pool;
  int32_t lo[kMaxPoolGroups];  // keys
  int32_t hi[kMaxPoolGroups];
  GroupCode groups[kMaxPoolGroups];
};

template <typename T>
__device__ __forceinline__ uint32_t NonzerosOf(const Vector<T>* loaded) {
  constexpr int kElements = Vector<T>::kElements;
  uint32_t fields = 0;
#pragma unroll
  for (int i = 0; i < kBlock; ++i) {
    fields |= uint32_t{IsNonzero(loaded[i / kElements].elements[i % kElements])} << i;
  }
  return fields;
}

// Of nonzeros. A subnormal counts as it is: NormalBits keeps the order, so that the two at
// the ends can go through it later.
struct KeyRange {
  int32_t lo = INT32_MAX;
  int32_t hi = INT32_MIN;

  template <typename T>
  __device__ __forceinline__ void Add(T x) {
    if (!IsNonzero(x)) return;
    const int32_t key = group_quant::OrderedKey(ToFloatBits(x));
    lo = key < lo ? key : lo;
    hi = key > hi ? key : hi;
  }

  // Of `lanes` neighbours, a power of 2 and the same for all lanes.
  __device__ __forceinline__ void Join(int lanes) {
    if (lanes == kWarpThreads) {
      lo = __reduce_min_sync(kAllLanes, lo);
      hi = __reduce_max_sync(kAllLanes, hi);
      return;
    }
    for (int distance = lanes / 2; distance > 0; distance /= 2) {
      const int32_t other_lo = __shfl_xor_sync(kAllLanes, lo, distance);
      const int32_t other_hi = __shfl_xor_sync(kAllLanes, hi, distance);
      lo = other_lo < lo ? other_lo : lo;
      hi = other_hi > hi ? other_hi : hi;
    }
  }
};

// A group has several loads of the warp, or some lanes of one.
template <typename T>
__device__ __forceinline__ void StoreRanges(const Vector<T>* loaded, int group_shift,
                                            EncodeMemory* memory) {
  constexpr int kElements = Vector<T>::kElements;
  constexpr int kPerLoad = kWarpThreads * kElements;
  const int size = 1 << group_shift;
  const int loads = size > kPerLoad ? size / kPerLoad : 1;
  const int lanes = size < kPerLoad ? size / kElements : kWarpThreads;
  const int lane = LaneOfThread();
  KeyRange range;
#pragma unroll
  for (int j = 0; j < kLoads<T>; ++j) {
#pragma unroll
    for (int i = 0; i < kElements; ++i) range.Add(loaded[j].elements[i]);
    if ((j & (loads - 1)) != loads - 1) continue;
    range.Join(lanes);
    if ((lane & (lanes - 1)) == 0) {
      const int group = GroupOf((j * kWarpThreads + lane) * kElements, group_shift);
      memory->lo[group] = range.lo;
      memory->hi[group] = range.hi;
    }
    range = KeyRange();
  }
}

// Places between the end of a stream and that of its last block. A pool that is exact has one
// stream, of elements.
template <typename T>
__device__ __forceinline__ void EndStreams(PoolMemory* memory) {
  const Spending& spending = memory->spending;
  const int lane = LaneOfThread();
  const int place = spending.end + lane;
  uint16_t* codes = reinterpret_cast<uint16_t*>(memory->words);
  if (place < spending.blocks * kBlock) {
    if (spending.is_exact) {
      reinterpret_cast<Word<T>*>(memory->words)[place] = 0;
    } else {
      codes[place] = 0;
    }
  }
  const int wide_place = spending.widths.wide_values + lane;
  if (wide_place < spending.wide_end) codes[wide_place] = 0;
}

// Done by one warp: from the nonzeros of the groups to all that the pool needs.
template <typename T>
__device__ __forceinline__ void SpendNonzeros(const Place& at, const Pools& pools,
                                              PoolMemory* memory) {
  constexpr int kValueBits = 8 * sizeof(T);
  const int shift = pools.group_shift;
  int own = 0;
  ForGroupsOfLane(at.groups, shift, [&](int group) { own += memory->values[group]; });
  const int end = SumUpTo(own, LaneOfThread());
  const int total = __shfl_sync(kAllLanes, end, kWarpThreads - 1);
  const bool is_exact = IsExact(total, kValueBits, at.words);
  bool has_dense = false;
  ForGroupsOfLane(at.groups, shift, [&](int group) {
    const int elements = ElementsOf(at, group, pools.format.group_size);
    const int nonzeros = memory->values[group];
    const bool is_dense = !is_exact && IsDense(nonzeros, elements, at.elements, at.words);
    memory->is_dense[group] = is_dense;
    if (is_dense) memory->values[group] = elements;
    has_dense |= is_dense;
  });
  Spend(at, shift, kValueBits, is_exact, AnyLane(has_dense), memory);
  __syncwarp();
  EndStreams<T>(memory);
}

__device__ __forceinline__ int32_t NormalKey(int32_t key) {
  const int32_t bits = group_quant::OrderedKey(static_cast<uint32_t>(key));  // its own inverse
  return group_quant::OrderedKey(NormalBits(static_cast<uint32_t>(bits)));
}

// A lane has one of the warp's groups.
__device__ __forceinline__ void PrepareGroups(const Place& at, int group_shift, uint32_t seed,
                                              EncodeMemory* memory) {
  const int group = GroupOf(LaneOfThread() << group_shift, group_shift);
  if (LaneOfThread() >= kTileElements >> group_shift || group >= at.groups) return;
  const bool is_dense = memory->pool.is_dense[group];
  const int code_bits = CodeBits(memory->pool.spending.widths.PlanesOf(group), is_dense);
  const int32_t lo = memory->lo[group];
  const int32_t hi = memory->hi[group];
  GroupScale scale = {0.0f, 0.0f};
  if (lo <= hi) scale = ScaleOf(NormalKey(lo), NormalKey(hi), code_bits, is_dense);
  const uint32_t number = static_cast<uint32_t>(at.group_number) + group;
  memory->groups[group] = {QuantizerOf(scale, code_bits, is_dense),
                           group_quant::GroupKey(seed, number, scale),
                           memory->pool.places[group],
                           is_dense ? code_bits - 1 : kMaxCodeBits};
}

__device__ __forceinline__ int32_t Dither16(uint32_t key, int value) {
  const int place = value % kBlock;
  const uint32_t pair = DitherOfPair(key, value / kBlock * 16 + place % 16);
  return static_cast<int32_t>(place < 16 ? pair & 0xffffu : pair >> 16);
}

template <typename T>
__device__ __forceinline__ void StoreExact(const Vector<T>* loaded, const ValuesOfLane& values,
                                           PoolMemory* memory) {
  constexpr int kElements = Vector<T>::kElements;
  Word<T>* out = reinterpret_cast<Word<T>*>(memory->words);
  ForLoads<kElements>(values.bits, values.place,
                      [&](int j, int, uint32_t bits, int place) {
#pragma unroll
    for (int i = 0; i < kElements; ++i) {
      if ((bits >> i & 1u) != 0) {
        out[place++] = static_cast<Word<T>>(RawBits(loaded[j].elements[i]));
      }
    }
  });
}

// Returns the top bits of the codes of dense groups, a word of the tile per lane.
template <typename T>
__device__ __forceinline__ uint32_t StoreCodes(const Vector<T>* loaded,
                                               const ValuesOfLane& values, int group_shift,
                                               bool is_stochastic, EncodeMemory* memory) {
  constexpr int kElements = Vector<T>::kElements;
  uint16_t* codes = reinterpret_cast<uint16_t*>(memory->pool.words);
  uint32_t tops = 0;
  ForLoads<kElements>(values.bits, values.place,
                      [&](int j, int element, uint32_t bits, int place) {
    const GroupCode group = memory->groups[GroupOf(element, group_shift)];
    const bool is_dense = group.IsDenseGroup();
#pragma unroll
    for (int i = 0; i < kElements; ++i) {
      if ((bits >> i & 1u) == 0) continue;
      const T x = loaded[j].elements[i];
      uint32_t code = 0;
      if (!is_dense || IsNonzero(x)) {
        const int32_t dither = is_stochastic ? Dither16(group.key, place - group.place)
                                             : group_quant::kHalf16;
        code = EncodeOne(NormalBits(ToFloatBits(x)), group.quantizer, dither) + is_dense;
      }
      if (is_dense) {
        tops |= (code >> group.top) << (j * kElements + i);
        code &= (1u << group.top) - 1;
      }
      codes[place++] = static_cast<uint16_t>(code);
    }
  });
  return WordOfLane<kElements>(tops, LaneOfThread());
}

__device__ __forceinline__ void StoreScales(const Place& at, const EncodeMemory& memory,
                                            uint8_t* rows) {
  const int group = static_cast<int>(threadIdx.x);
  if (group >= at.groups) return;
  GroupScale scale = {0.0f, 0.0f};
  if (!memory.pool.spending.is_exact) scale = memory.groups[group].quantizer.scale;
  const uint32_t flag = memory.pool.is_dense[group] ? kDenseFlag : 0;
  reinterpret_cast<uint32_t*>(rows + at.lo)[group] = FloatBits(scale.lo);
  reinterpret_cast<uint32_t*>(rows + at.step)[group] = FloatBits(scale.step) | flag;
}

// Alignment bytes are zero: equal arrays have equal rows. Three parts, of up to 3 words.
__device__ __forceinline__ void ZeroPadding(uint8_t* row, const Pools& pools) {
  const RowLayout& layout = pools.layout;
  const int64_t begin[] = {4 * NumBlocks(pools.row_elements),
                           layout.lo_offset + 4 * layout.groups,
                           layout.step_offset + 4 * layout.groups};
  const int64_t end[] = {layout.lo_offset, layout.step_offset, layout.values_offset};
#pragma unroll
  for (int part = 0; part < 3; ++part) {
    const int64_t at = begin[part] + 4 * static_cast<int64_t>(threadIdx.x);
    if (at < end[part]) *reinterpret_cast<uint32_t*>(row + at) = 0;
  }
}

// 16 bytes per thread; what no value needs is 0.
__device__ __forceinline__ void StorePayload(const Place& at, int value_bits,
                                             const PoolMemory& memory, uint8_t* rows) {
  const Spending& spending = memory.spending;
  uint4* to = reinterpret_cast<uint4*>(rows + at.values);
  for (int i = threadIdx.x; i < at.words / 4; i += kPoolThreads) {
    uint32_t words[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int word = 4 * i + k;
      const Plane plane = PlaneOf(word, spending);
      const bool exists =
          spending.is_exact ? word < spending.blocks * value_bits : plane.exists;
      words[k] = exists ? memory.words[spending.is_exact ? word : plane.word()] : 0;
    }
    __stwb(to + i, uint4{words[0], words[1], words[2], words[3]});
  }
}

template <typename T>
__global__ void __launch_bounds__(kPoolThreads, kBlocksAtOnce)
    EncodeKernel(const T* __restrict__ x, uint8_t* __restrict__ rows, Pools pools,
                 bool is_stochastic, uint32_t seed, bool is_aligned) {
  constexpr int kElements = Vector<T>::kElements;
  EPMC_SHARED(EncodeMemory, memory, 1);
  const Place at = PlaceOfBlock(pools);
  const int lane = LaneOfThread();
  const int tile = WarpOfThread() * kTileElements;
  Vector<T> loaded[kLoads<T>];
#pragma unroll
  for (int j = 0; j < kLoads<T>; ++j) {
    const int element = tile + (j * kWarpThreads + lane) * kElements;
    loaded[j] = LoadVector(x + at.first + element, at.elements - element, is_aligned);
  }
  uint32_t bitmap = WordOfLane<kElements>(NonzerosOf(loaded), lane);
  const int in_group = CountBits(bitmap, pools.group_shift, memory->pool.values);
  StoreRanges(loaded, pools.group_shift, memory);
  __syncthreads();
  if (WarpOfThread() == 0) SpendNonzeros<T>(at, pools, &memory->pool);
  __syncthreads();
  const bool is_exact = memory->pool.spending.is_exact;
  const ValuesOfLane values =
      FindValues(bitmap, in_group, at, pools.group_shift, memory->pool);
  if (is_exact) {
    StoreExact(loaded, values, &memory->pool);
  } else {
    PrepareGroups(at, pools.group_shift, seed, memory);
    __syncwarp();
    const uint32_t tops =
        StoreCodes(loaded, values, pools.group_shift, is_stochastic, memory);
    if (values.is_dense) bitmap = tops;
  }
  if (static_cast<int>(threadIdx.x) < NumBlocks(at.elements)) {
    reinterpret_cast<uint32_t*>(rows + at.bitmap)[threadIdx.x] = bitmap;
  }
  __syncthreads();
  if (!is_exact) CodesToPlanes(&memory->pool);
  StoreScales(at, *memory, rows);
  const bool ends_row = at.first_group + at.groups == pools.layout.groups;
  if (ends_row) {
    const int64_t row = blockIdx.x / static_cast<uint32_t>(pools.layout.pools);
    ZeroPadding(rows + row * pools.layout.nbytes, pools);
  }
  __syncthreads();
  StorePayload(at, 8 * sizeof(T), memory->pool, rows);
}

}  // namespace epmc::sparse_fixed_rate

#endif  // EPMC_SPARSE_FIXED_RATE_ENCODE_CUDA_H_
