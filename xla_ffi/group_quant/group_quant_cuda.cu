// A warp encodes, or decodes, one group; a thread block eight groups, whose scales go
// through shared memory: so they fill sectors, and one warp makes those of all eight.
// docs/design/cuda.md has the traffic.
#include <cstdint>
#include <type_traits>

#include "xla_ffi/common/cuda_memory.h"
#include "xla_ffi/group_quant/group_quant.h"
#include "xla_ffi/group_quant/group_quant_lanes.h"
#include "xla_ffi/group_quant/kernels_cuda.h"

namespace epmc::group_quant {
namespace {

// Groups are numbered through all rows, in 32 bits, as the dither numbers them.
struct Groups {
  uint32_t per_row;
  uint32_t count;
};

struct GroupPlace {
  int64_t row;
  int64_t in_row;      // group
  int64_t first;       // element of the row
  int count;           // elements of the group
};

__device__ __forceinline__ GroupPlace PlaceOf(uint32_t group, Groups groups,
                                              int64_t row_elements, int group_size) {
  const uint32_t row = group / groups.per_row;
  const int64_t in_row = group - row * groups.per_row;
  const int64_t first = in_row * group_size;
  const int64_t rest = row_elements - first;
  return {row, in_row, first, static_cast<int>(rest < group_size ? rest : group_size)};
}

// What turns the elements of each group of a thread block into codes, in shared memory.
struct Quantizers {
  int32_t* lo_keys;
  int32_t* hi_keys;
  float* scales;  // lo of each group, then step of each
  float* inv16;
  uint32_t* dither_keys;
};

// By threads 0 ... 7: a group each. The rest of the block waits instead of doing the same.
__device__ __forceinline__ void SetQuantizer(const Quantizers& to, int bit_width,
                                             uint32_t seed) {
  const int i = threadIdx.x;
  const GroupScale scale = ScaleOf(to.lo_keys[i], to.hi_keys[i], bit_width);
  to.scales[i] = scale.lo;
  to.scales[kBlockWarps + i] = scale.step;
  to.inv16[i] = InverseStep16(scale.step);
  to.dither_keys[i] = GroupKey(seed, blockIdx.x * kBlockWarps + i, scale);
}

// The dither of a load from `element` on. A pair of elements 16 apart in a block has one
// hash; of the pairs that two lanes have in common, each makes the hashes of half.
template <typename T>
__device__ __forceinline__ void DithersOfLoad(uint32_t key, int element, int32_t* dithers) {
  constexpr int kHalf = Vector<T>::kElements / 2;
  constexpr int kLanesApart = kBlock / 2 / Vector<T>::kElements;
  const int place = element % kBlock;
  const bool is_second = place >= kBlock / 2;
  const uint32_t pair = element / kBlock * 16 + place % 16 + (is_second ? kHalf : 0);
#pragma unroll
  for (int i = 0; i < kHalf; i += 2) {
    const uint32_t one = DitherOfPair(key, pair + i);
    const uint32_t next = DitherOfPair(key, pair + i + 1);
    const uint32_t firsts = (one & 0xffffu) | next << 16;
    const uint32_t seconds = one >> 16 | (next & 0xffff0000u);
    const uint32_t kept = is_second ? seconds : firsts;
    const uint32_t received =
        __shfl_xor_sync(kAllLanes, is_second ? firsts : seconds, kLanesApart);
    const uint32_t lower = is_second ? received : kept;
    const uint32_t upper = is_second ? kept : received;
    dithers[i] = static_cast<int32_t>(lower & 0xffffu);
    dithers[i + 1] = static_cast<int32_t>(lower >> 16);
    dithers[kHalf + i] = static_cast<int32_t>(upper & 0xffffu);
    dithers[kHalf + i + 1] = static_cast<int32_t>(upper >> 16);
  }
}

// The codes of one load, a byte each; code 0 behind the end of the row, `count` elements on.
template <typename T, int kBitWidth>
__device__ __forceinline__ void EncodeLoad(const uint32_t* flushed, float lo, float inv16,
                                           const int32_t* dithers, int count,
                                           uint32_t* words) {
  constexpr int kLevels = (1 << kBitWidth) - 1;
#pragma unroll
  for (int k = 0; k < kCodeWords<T>; ++k) {
    words[k] = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float x = BitsToFloat(flushed[4 * k + i]);
      words[k] |= EncodeOne(x, lo, inv16, dithers[4 * k + i], kLevels) << i * 8;
    }
    const int rest = count - 4 * k;
    if (rest < 4) words[k] &= rest > 0 ? (1u << rest * 8) - 1 : 0;
  }
}

__device__ __forceinline__ void ZeroPadding(uint8_t* row, const RowPadding& padding, int lane) {
#pragma unroll
  for (int i = 0; i < RowPadding::kParts; ++i) {
    const int64_t at = padding.begin[i] + 4 * lane;  // each part ends at a word
    if (at < padding.end[i]) *reinterpret_cast<uint32_t*>(row + at) = 0;
  }
}

// Threads 0 ... 7 own a lo of the thread block's groups, threads 8 ... 15 a step: their
// addresses in the rows; nullptr for the other threads.
template <typename Byte>
__device__ __forceinline__ Byte* ScaleOfThread(Byte* rows, const RowLayout& layout,
                                               Groups groups) {
  const uint32_t group = blockIdx.x * kBlockWarps + threadIdx.x % kBlockWarps;
  if (threadIdx.x >= 2 * kBlockWarps || group >= groups.count) return nullptr;
  const uint32_t row = group / groups.per_row;
  const int64_t part = threadIdx.x < kBlockWarps ? layout.lo_offset : layout.step_offset;
  return rows + row * layout.nbytes + part + 4 * int64_t{group - row * groups.per_row};
}

// The elements of a group that a lane has, as bits of floats. Load j of lane l covers
// elements (32 * j + l) * kElements ... of the group, so the loads touch each sector once.
// Behind the end of the row stands the group's first element, which changes no minimum.
template <typename T, int kLoads>
struct LaneElements {
  static constexpr int kElements = Vector<T>::kElements;
  uint32_t flushed[kLoads][kElements];

  static __device__ __forceinline__ int First(int load, int lane) {
    return (load * kWarpThreads + lane) * kElements;
  }

  __device__ __forceinline__ LaneElements(const T* group, int count, int lane,
                                          bool is_aligned) {
    Vector<T> loaded[kLoads];
#pragma unroll
    for (int j = 0; j < kLoads; ++j) {
      const int first = First(j, lane);
      loaded[j] = LoadVector(group + first, count - first, is_aligned);
    }
#pragma unroll
    for (int i = 0; i < kLoads * kElements; ++i) {
      const T x = loaded[i / kElements].elements[i % kElements];
      flushed[i / kElements][i % kElements] = FlushedBits(ToFloatBits(x));
    }
    if (count < kLoads * kWarpThreads * kElements) {
      Fill(FlushedBits(ToFloatBits(*group)), count, lane);
    }
  }

  __device__ __forceinline__ void Fill(uint32_t bits, int count, int lane) {
#pragma unroll
    for (int i = 0; i < kLoads * kElements; ++i) {
      const bool is_behind = First(i / kElements, lane) + i % kElements >= count;
      if (is_behind) flushed[i / kElements][i % kElements] = bits;
    }
  }

  // Of the whole group, by one lane.
  __device__ __forceinline__ void StoreRange(int32_t* lo_key, int32_t* hi_key,
                                             int lane) const {
    int32_t lo = INT32_MAX;
    int32_t hi = INT32_MIN;
#pragma unroll
    for (int i = 0; i < kLoads * kElements; ++i) {
      const int32_t key = OrderedKey(flushed[i / kElements][i % kElements]);
      lo = key < lo ? key : lo;
      hi = key > hi ? key : hi;
    }
    lo = __reduce_min_sync(kAllLanes, lo);
    hi = __reduce_max_sync(kAllLanes, hi);
    if (lane == 0) {
      *lo_key = lo;
      *hi_key = hi;
    }
  }
};

// Stores the codes of this warp's group of `count` elements.
template <typename T, int kBitWidth, int kLoads, bool kStochastic>
__device__ __forceinline__ void StoreCodes(const LaneElements<T, kLoads>& x,
                                           const Quantizers& quantizers, int warp, int lane,
                                           int count, CodePlace<uint8_t> to) {
  const float inv16 = quantizers.inv16[warp];
  // A group of NaN, or of one value: code 0. (x - lo) * 0 may be NaN, which converts to 0 on
  // a GPU but to anything on a CPU; so x is not used then.
  const bool is_constant = inv16 == 0.0f;
  const float lo = quantizers.scales[warp];
  const uint32_t key = quantizers.dither_keys[warp];
  uint32_t top_bits[kLoads];
#pragma unroll
  for (int j = 0; j < kLoads; ++j) {
    const int first = x.First(j, lane);
    uint32_t codes[kCodeWords<T>] = {};
    if (!is_constant) {
      int32_t dithers[Vector<T>::kElements];
      if constexpr (kStochastic) {
        DithersOfLoad<T>(key, first, dithers);
      } else {
        for (int32_t& dither : dithers) dither = kHalf16;
      }
      EncodeLoad<T, kBitWidth>(x.flushed[j], lo, inv16, dithers, count - first, codes);
    }
    top_bits[j] = BitsOfBytes<T>(codes, kBitWidth - 1);
    StoreFields<T, kBitWidth>(codes, first, count, to.fields);
  }
  if constexpr (PlaneBits(kBitWidth)) {
    StorePlane<T, kLoads>(top_bits, lane, count, to.plane);
  }
}

template <typename T, int kBitWidth, int kLoads, bool kStochastic>
__global__ void __launch_bounds__(kBlockThreads)
    EncodeKernel(const T* __restrict__ x, uint8_t* __restrict__ rows, int64_t row_elements,
                 RowLayout layout, int group_size, uint32_t seed, Groups groups, bool is_aligned) {
  EPMC_SHARED(int32_t, keys, 2 * kBlockWarps);
  EPMC_SHARED(float, scales, 3 * kBlockWarps);
  EPMC_SHARED(uint32_t, dither_keys, kBlockWarps);
  const Quantizers quantizers = {keys, keys + kBlockWarps, scales, scales + 2 * kBlockWarps,
                                 dither_keys};
  const int warp = threadIdx.x / kWarpThreads;
  const int lane = threadIdx.x % kWarpThreads;
  const uint32_t group = blockIdx.x * kBlockWarps + warp;
  // Behind the last group warps read it once more, and store nothing.
  const bool has_group = group < groups.count;
  const GroupPlace at =
      PlaceOf(has_group ? group : groups.count - 1, groups, row_elements, group_size);
  const LaneElements<T, kLoads> elements(x + at.row * row_elements + at.first, at.count, lane,
                                         is_aligned);
  elements.StoreRange(quantizers.lo_keys + warp, quantizers.hi_keys + warp, lane);
  __syncthreads();
  if (threadIdx.x < kBlockWarps) SetQuantizer(quantizers, kBitWidth, seed);
  __syncthreads();
  uint8_t* to = ScaleOfThread(rows, layout, groups);
  if (to != nullptr) *reinterpret_cast<float*>(to) = scales[threadIdx.x];
  if (!has_group) return;
  uint8_t* row = rows + at.row * layout.nbytes;
  StoreCodes<T, kBitWidth, kLoads, kStochastic>(
      elements, quantizers, warp, lane, at.count, CodesAt(row, layout, at.first, kBitWidth));
  if (at.in_row == 0) ZeroPadding(row, PaddingOf(layout, row_elements, kBitWidth), lane);
}

// Decodes the group of this warp from the fields of its loads and its word of the plane.
template <typename T, int kBitWidth, int kLoads>
__device__ __forceinline__ void DecodeGroup(const uint32_t (*fields)[kCodeWords<T>],
                                            uint32_t plane_word, GroupScale scale, T* x,
                                            int count, bool is_aligned) {
  constexpr int kElements = Vector<T>::kElements;
  constexpr int kFieldBits = FieldBits(kBitWidth);
  const int lane = threadIdx.x % kWarpThreads;
#pragma unroll
  for (int j = 0; j < kLoads; ++j) {
    const int element = (j * kWarpThreads + lane) * kElements;
    const uint32_t top_bits = TopBits<T, kBitWidth>(plane_word, j, lane);
    Vector<T> vector;
#pragma unroll
    for (int i = 0; i < kElements; ++i) {
      const uint32_t code = FieldOf<T, kFieldBits>(fields[j], element, i) |
                            (top_bits >> i & PlaneBits(kBitWidth)) << kFieldBits;
      FromFloat(DecodeOne(code, scale), &vector.elements[i]);
    }
    StoreVector(vector, x + element, count - element, is_aligned);
  }
}

template <typename T, int kBitWidth, int kLoads>
__global__ void __launch_bounds__(kBlockThreads)
    DecodeKernel(const uint8_t* __restrict__ rows, T* __restrict__ x, int64_t row_elements,
                 RowLayout layout, int group_size, Groups groups, bool is_aligned) {
  EPMC_SHARED(float, scales, 2 * kBlockWarps);
  const int warp = threadIdx.x / kWarpThreads;
  const int lane = threadIdx.x % kWarpThreads;
  const uint32_t group = blockIdx.x * kBlockWarps + warp;
  const bool has_group = group < groups.count;
  const GroupPlace at = PlaceOf(has_group ? group : 0, groups, row_elements, group_size);
  const auto codes = CodesAt(rows + at.row * layout.nbytes, layout, at.first, kBitWidth);
  // All loads before the barrier: codes and scales arrive together.
  const int count = has_group ? at.count : 0;
  uint32_t fields[kLoads][kCodeWords<T>] = {};
#pragma unroll
  for (int j = 0; j < kLoads; ++j) {
    const int element = (j * kWarpThreads + lane) * Vector<T>::kElements;
    LoadFields<T, kBitWidth>(codes.fields, element, count, fields[j]);
  }
  uint32_t plane_word = 0;
  if (PlaneBits(kBitWidth)) plane_word = LoadPlane<T, kLoads>(codes.plane, lane, count);
  const uint8_t* from = ScaleOfThread(rows, layout, groups);
  if (from != nullptr) scales[threadIdx.x] = *reinterpret_cast<const float*>(from);
  __syncthreads();
  if (!has_group) return;
  const GroupScale scale = {scales[warp], scales[kBlockWarps + warp]};
  DecodeGroup<T, kBitWidth, kLoads>(fields, plane_word, scale,
                                    x + at.row * row_elements + at.first, count, is_aligned);
}

// --- From run-time values to template arguments -----------------------------------------

template <int kValue>
using Constant = std::integral_constant<int, kValue>;

// Calls `body(element, Constant<bit width>, Constant<loads of a lane>)`: for groups of up to
// 128, of up to 256, or of any size. Smaller groups leave loads unused, and larger code takes
// minutes to compile.
template <typename T, int kBitWidth, typename Body>
void WithLoads(const Format& format, const Body& body) {
  using Few = std::conditional_t<sizeof(T) == 2, Short<T>, T>;
  constexpr int kPerLoad = kWarpThreads * Vector<T>::kElements;
  if (format.group_size <= kWarpThreads * Vector<Few>::kElements) {
    return body(Few{}, Constant<kBitWidth>{}, Constant<1>{});
  }
  if (format.group_size <= 256) {
    return body(T{}, Constant<kBitWidth>{}, Constant<256 / kPerLoad>{});
  }
  body(T{}, Constant<kBitWidth>{}, Constant<kMaxGroupSize / kPerLoad>{});
}

template <typename T, typename Body>
void WithWidth(const Format& format, const Body& body) {
  switch (format.bit_width) {
    case 1:
      return WithLoads<T, 1>(format, body);
    case 2:
      return WithLoads<T, 2>(format, body);
    case 3:
      return WithLoads<T, 3>(format, body);
    case 4:
      return WithLoads<T, 4>(format, body);
    default:
      return WithLoads<T, 8>(format, body);
  }
}

template <typename Body>
void WithType(FloatType type, const Format& format, const Body& body) {
  switch (type) {
    case FloatType::kF32:
      return WithWidth<F32>(format, body);
    case FloatType::kBf16:
      return WithWidth<Bf16>(format, body);
    case FloatType::kF16:
      return WithWidth<F16>(format, body);
  }
}

Groups GroupsOf(int64_t num_rows, const RowLayout& layout) {
  return {static_cast<uint32_t>(layout.groups),
          static_cast<uint32_t>(num_rows * layout.groups)};
}

}  // namespace

void LaunchEncode(const EncodeArgs& args, int64_t num_rows, cudaStream_t stream) {
  const Format& format = args.format;
  // Here and not in the kernel: it has a division of 64 bits.
  const RowLayout layout = LayoutOf(args.row_elements, format.bit_width, format.group_size);
  const Groups groups = GroupsOf(num_rows, layout);
  const unsigned blocks = static_cast<unsigned>(CeilDiv(groups.count, kBlockWarps));
  WithType(args.type, format, [&](auto element, auto width, auto loads) {
    using T = decltype(element);
    const bool is_aligned = HasAlignedRows<T>(args.x, num_rows, args.row_elements);
    const auto kernel = format.is_stochastic ? EncodeKernel<T, width(), loads(), true>
                                             : EncodeKernel<T, width(), loads(), false>;
    EPMC_LAUNCH(kernel, blocks, kBlockThreads, stream, static_cast<const T*>(args.x),
                args.rows, args.row_elements, layout, format.group_size, format.seed, groups,
                is_aligned);
  });
}

void LaunchDecode(const DecodeArgs& args, int64_t num_rows, cudaStream_t stream) {
  const Format& format = args.format;
  // Here and not in the kernel: it has a division of 64 bits.
  const RowLayout layout = LayoutOf(args.row_elements, format.bit_width, format.group_size);
  const Groups groups = GroupsOf(num_rows, layout);
  const unsigned blocks = static_cast<unsigned>(CeilDiv(groups.count, kBlockWarps));
  WithType(args.type, format, [&](auto element, auto width, auto loads) {
    using T = decltype(element);
    const bool is_aligned = HasAlignedRows<T>(args.x, num_rows, args.row_elements);
    const auto kernel = DecodeKernel<T, width(), loads()>;
    EPMC_LAUNCH(kernel, blocks, kBlockThreads, stream, args.rows, static_cast<T*>(args.x),
                args.row_elements, layout, format.group_size, groups, is_aligned);
  });
}

}  // namespace epmc::group_quant
