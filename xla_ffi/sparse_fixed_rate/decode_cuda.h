// The kernel that decodes a pool, to its elements or to a mask of them: what bitmap and flags
// say of each value, codes of the planes in shared memory, values.
#ifndef EPMC_SPARSE_FIXED_RATE_DECODE_CUDA_H_
#define EPMC_SPARSE_FIXED_RATE_DECODE_CUDA_H_

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "xla_ffi/sparse_fixed_rate/pool_cuda.h"

namespace epmc::sparse_fixed_rate {

struct DecodeMemory {
  PoolMemory pool;
  uint32_t lo[kMaxPoolGroups];  // bits of floats
  uint32_t step[kMaxPoolGroups];
};

__device__ __forceinline__ void LoadScales(const uint8_t* rows, const Place& at,
                                           DecodeMemory* memory) {
  const int group = static_cast<int>(threadIdx.x);
  if (group >= at.groups) return;
  const uint32_t step = reinterpret_cast<const uint32_t*>(rows + at.step)[group];
  memory->lo[group] = reinterpret_cast<const uint32_t*>(rows + at.lo)[group];
  memory->step[group] = step & ~kDenseFlag;
  memory->pool.is_dense[group] = (step & kDenseFlag) != 0;
}

// Done by one warp: from the bits that the groups have in the bitmap.
__device__ __forceinline__ void SpendBits(const Place& at, const Pools& pools, int value_bits,
                                          PoolMemory* memory) {
  const int shift = pools.group_shift;
  int own = 0;
  bool has_dense = false;
  ForGroupsOfLane(at.groups, shift, [&](int group) {
    own += memory->values[group];
    const bool is_dense = memory->is_dense[group];
    has_dense |= is_dense;
    if (is_dense) memory->values[group] = ElementsOf(at, group, pools.format.group_size);
  });
  const int end = SumUpTo(own, LaneOfThread());
  const int total = __shfl_sync(kAllLanes, end, kWarpThreads - 1);
  has_dense = AnyLane(has_dense);
  const bool is_exact = !has_dense && IsExact(total, value_bits, at.words);
  Spend(at, shift, value_bits, is_exact, has_dense, memory);
}

// 16 bytes per thread: as they are if the pool is exact, else each plane to its block.
__device__ __forceinline__ void LoadPayload(const uint8_t* rows, const Place& at,
                                            PoolMemory* memory) {
  const Spending& spending = memory->spending;
  const uint4* from = reinterpret_cast<const uint4*>(rows + at.values);
  for (int i = threadIdx.x; i < at.words / 4; i += kPoolThreads) {
    const uint4 four = __ldg(from + i);
    const uint32_t words[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const Plane plane = PlaneOf(4 * i + k, spending);
      if (spending.is_exact || plane.exists) {
        memory->words[spending.is_exact ? 4 * i + k : plane.word()] = words[k];
      }
    }
  }
}

// The elements of one load, from the bits of their values and the place of the first one.
struct Reader {
  const DecodeMemory* memory;
  uint32_t bits;
  uint32_t bitmap;
  int place;
  int group;

  __device__ __forceinline__ bool HasValue(int i) const { return (bits >> i & 1u) != 0; }

  template <typename T>
  __device__ __forceinline__ Vector<T> Exact() {
    const Word<T>* values = reinterpret_cast<const Word<T>*>(memory->pool.words);
    Vector<T> vector = {};
#pragma unroll
    for (int i = 0; i < Vector<T>::kElements; ++i) {
      if (HasValue(i)) memcpy(&vector.elements[i], values + place++, sizeof(T));
    }
    return vector;
  }

  template <typename T>
  __device__ __forceinline__ Vector<T> Coded() {
    const uint16_t* codes = reinterpret_cast<const uint16_t*>(memory->pool.words);
    const bool is_dense = memory->pool.is_dense[group];
    const int top = CodeBits(memory->pool.spending.widths.PlanesOf(group), is_dense) - 1;
    const GroupScale scale = {BitsToFloat(memory->lo[group]),
                              BitsToFloat(memory->step[group])};
    Vector<T> vector = {};
#pragma unroll
    for (int i = 0; i < Vector<T>::kElements; ++i) {
      if (!HasValue(i)) continue;
      uint32_t code = codes[place++];
      if (is_dense) code |= (bitmap >> i & 1u) << top;
      if (is_dense && code == 0) continue;
      FromFloat(group_quant::DecodeOne(code - is_dense, scale), &vector.elements[i]);
    }
    return vector;
  }

  // Only which elements are nonzero.
  __device__ __forceinline__ Vector<uint8_t> Mask() {
    const uint16_t* codes = reinterpret_cast<const uint16_t*>(memory->pool.words);
    uint32_t nonzeros = bitmap;
    if (memory->pool.is_dense[group]) {
#pragma unroll
      for (int i = 0; i < Vector<uint8_t>::kElements; ++i) {
        if (HasValue(i) && codes[place + i] != 0) nonzeros |= 1u << i;
      }
    }
    Vector<uint8_t> vector;
#pragma unroll
    for (int i = 0; i < Vector<uint8_t>::kElements / 4; ++i) {
      const uint32_t four = BytesOfBits(nonzeros >> 4 * i);
      memcpy(vector.elements + 4 * i, &four, 4);
    }
    return vector;
  }
};

// To a mask if T is uint8_t. `value_bits`: of an element of the array that was encoded.
template <typename T>
__global__ void __launch_bounds__(kPoolThreads, kBlocksAtOnce)
    DecodeKernel(const uint8_t* __restrict__ rows, T* __restrict__ x, Pools pools,
                 int value_bits, bool is_aligned) {
  constexpr bool kIsMask = std::is_same_v<T, uint8_t>;
  EPMC_SHARED(DecodeMemory, memory, 1);
  const Place at = PlaceOfBlock(pools);
  uint32_t bitmap = ValidBits(at.elements);
  if (bitmap != 0) {
    bitmap &= __ldg(reinterpret_cast<const uint32_t*>(rows + at.bitmap) + threadIdx.x);
  }
  const int in_group = CountBits(bitmap, pools.group_shift, memory->pool.values);
  LoadScales(rows, at, memory);
  __syncthreads();
  if (WarpOfThread() == 0) SpendBits(at, pools, value_bits, &memory->pool);
  __syncthreads();
  const bool is_exact = memory->pool.spending.is_exact;
  if (!kIsMask || memory->pool.spending.has_dense) {
    LoadPayload(rows, at, &memory->pool);
    __syncthreads();
    if (!is_exact) PlanesToCodes(&memory->pool);
    __syncthreads();
  }
  const ValuesOfLane values = FindValues(bitmap, in_group, at, pools.group_shift, memory->pool);
  const int tile = WarpOfThread() * kTileElements;
  ForLoads<Vector<T>::kElements>(values.bits, values.place,
                                 [&](int, int element, uint32_t bits, int place) {
    const uint32_t own = __shfl_sync(kAllLanes, bitmap, element / kBlock);
    const int rest = at.elements - tile - element;
    if (rest <= 0) return;
    Reader reader{memory, bits, own >> element % kBlock, place,
                  GroupOf(element, pools.group_shift)};
    T* to = x + at.first + tile + element;
    if constexpr (kIsMask) {
      StoreVector(reader.Mask(), to, rest, is_aligned);
    } else {
      StoreVector(is_exact ? reader.template Exact<T>() : reader.template Coded<T>(), to, rest,
                  is_aligned);
    }
  });
}

}  // namespace epmc::sparse_fixed_rate

#endif  // EPMC_SPARSE_FIXED_RATE_DECODE_CUDA_H_
