// Some lanes of a warp, or all, encode a group; a warp decodes one. The scales of the groups of
// a thread block go through shared memory: so they fill sectors, and one warp makes them all.
// docs/design/cuda.md has the traffic.
#include <cstdint>
#include <type_traits>

#include "xla_ffi/common/cuda_floats.h"
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
template <int kGroups>
struct Quantizers {
  int32_t* lo_keys;
  int32_t* hi_keys;
  float* scales;  // lo of each group, then step of each
  float* inv16;
  uint32_t* dither_keys;

  // Of the thread block's group `i`, by one thread: the others wait instead of doing the same.
  __device__ __forceinline__ void Set(int i, uint32_t group, int bit_width,
                                      uint32_t seed) const {
    const GroupScale scale =
        ScaleOf(FlushedKey(lo_keys[i]), FlushedKey(hi_keys[i]), bit_width);
    scales[i] = scale.lo;
    scales[kGroups + i] = scale.step;
    inv16[i] = InverseStep16(scale.step);
    dither_keys[i] = GroupKey(seed, group, scale);
  }
};

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
    const uint32_t firsts = __byte_perm(one, next, 0x5410);
    const uint32_t seconds = __byte_perm(one, next, 0x7632);
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

// The codes of one load, a byte each.
template <typename T, int kBitWidth>
__device__ __forceinline__ void EncodeLoad(const float* x, float lo, float inv16,
                                           const int32_t* dithers, uint32_t* words) {
  constexpr int kLevels = (1 << kBitWidth) - 1;
#pragma unroll
  for (int k = 0; k < kCodeWords<T>; ++k) {
    uint32_t codes[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      // Of a group of NaN, or of one value, inv16 is 0 and the product 0 or NaN: code 0.
      const float steps16 = SubtractFlushed(x[4 * k + i], lo) * inv16;
      codes[i] = CodeOf(TruncatedOr0(steps16), dithers[4 * k + i], kLevels);
    }
    words[k] = __byte_perm(__byte_perm(codes[0], codes[1], 0x1140),
                           __byte_perm(codes[2], codes[3], 0x1140), 0x5410);
  }
}

__device__ __forceinline__ void ZeroPadding(uint8_t* row, const RowPadding& padding, int lane) {
#pragma unroll
  for (int i = 0; i < RowPadding::kParts; ++i) {
    const int64_t at = padding.begin[i] + 4 * lane;  // each part ends at a word
    if (at < padding.end[i]) *reinterpret_cast<uint32_t*>(row + at) = 0;
  }
}

// The first kGroups threads own a lo of the thread block's groups, as many behind them a step:
// their addresses in the rows; nullptr for the other threads.
template <int kGroups, typename Byte>
__device__ __forceinline__ Byte* ScaleOfThread(Byte* rows, const RowLayout& layout,
                                               Groups groups) {
  const uint32_t group = blockIdx.x * kGroups + threadIdx.x % kGroups;
  if (threadIdx.x >= 2 * kGroups || group >= groups.count) return nullptr;
  const uint32_t row = group / groups.per_row;
  const int64_t part = threadIdx.x < kGroups ? layout.lo_offset : layout.step_offset;
  return rows + row * layout.nbytes + part + 4 * int64_t{group - row * groups.per_row};
}

// What one of the kLanes lanes of a group has of it: loads of 16 bytes, one for each place. So
// each load of a warp touches whole sectors, and what a lane does once is for many elements.
template <typename T, int kLoads, int kLanes>
struct LaneElements {
  static constexpr int kElements = Vector<T>::kElements;
  static constexpr int kMost = kLoads * kLanes * kElements;  // of a group
  using Places = LanePlaces<T, kLanes>;

  float x[kLoads][kElements];

  // Behind the end of the row stands the group's first element, which changes no minimum.
  __device__ __forceinline__ LaneElements(const T* group, int count, int lane,
                                          bool is_aligned) {
    Vector<T> loaded[kLoads];
    const bool is_full = count == kMost;
#pragma unroll
    for (int j = 0; j < kLoads; ++j) {
      const int first = Places::First(j, lane);
      const int rest = is_full ? kElements : count - first;
      loaded[j] = LoadVector(group + first, rest, is_aligned);
    }
#pragma unroll
    for (int i = 0; i < kLoads * kElements; ++i) {
      x[i / kElements][i % kElements] =
          BitsToFloat(ToFloatBits(loaded[i / kElements].elements[i % kElements]));
    }
    if (!is_full) Fill(BitsToFloat(ToFloatBits(*group)), count, lane);
  }

  __device__ __forceinline__ void Fill(float value, int count, int lane) {
#pragma unroll
    for (int i = 0; i < kLoads * kElements; ++i) {
      const int place = Places::First(i / kElements, lane) + i % kElements;
      if (place >= count) x[i / kElements][i % kElements] = value;
    }
  }

  // Of the whole group, by one of its lanes. A NaN is the largest key: not finite.
  __device__ __forceinline__ void StoreRange(int32_t* lo_key, int32_t* hi_key,
                                             int lane) const {
    float lo = x[0][0];
    float hi = x[0][0];
#pragma unroll
    for (int i = 1; i < kLoads * kElements; ++i) {
      lo = NanMin(lo, x[i / kElements][i % kElements]);
      hi = NanMax(hi, x[i / kElements][i % kElements]);
    }
    const int32_t least = MinOfLanes<kLanes>(OrderedKey(FloatBits(lo)));
    const int32_t most = ~MinOfLanes<kLanes>(~OrderedKey(FloatBits(hi)));
    if (lane == 0) {
      *lo_key = least;
      *hi_key = most;
    }
  }

  // The codes of all loads, a byte each; code 0 behind the end of the row.
  template <int kBitWidth, bool kStochastic>
  __device__ __forceinline__ void Encode(float lo, float inv16, uint32_t key, int count,
                                         int lane, uint32_t (*codes)[kCodeWords<T>]) const {
#pragma unroll
    for (int j = 0; j < kLoads; ++j) {
      int32_t dithers[kElements];
      if constexpr (kStochastic) {
        DithersOfLoad<T>(key, Places::First(j, lane), dithers);
      } else {
        for (int32_t& dither : dithers) dither = kHalf16;
      }
      EncodeLoad<T, kBitWidth>(x[j], lo, inv16, dithers, codes[j]);
    }
    if (count == kMost) return;
#pragma unroll
    for (int k = 0; k < kLoads * kCodeWords<T>; ++k) {
      const int rest = count - Places::First(k / kCodeWords<T>, lane) - k % kCodeWords<T> * 4;
      uint32_t& word = codes[k / kCodeWords<T>][k % kCodeWords<T>];
      if (rest < 4) word &= rest > 0 ? (1u << rest * 8) - 1 : 0;
    }
  }
};

template <typename T, int kBitWidth, int kLoads, int kLanes, bool kStochastic>
__global__ void __launch_bounds__(kBlockThreads)
    EncodeKernel(const T* __restrict__ x, uint8_t* __restrict__ rows, int64_t row_elements,
                 RowLayout layout, int group_size, uint32_t seed, Groups groups, bool is_aligned) {
  constexpr int kGroups = kBlockThreads / kLanes;
  EPMC_SHARED(int32_t, keys, 2 * kGroups);
  EPMC_SHARED(float, scales, 3 * kGroups);
  EPMC_SHARED(uint32_t, dither_keys, kGroups);
  const Quantizers<kGroups> quantizers = {keys, keys + kGroups, scales, scales + 2 * kGroups,
                                          dither_keys};
  const int in_block = threadIdx.x / kLanes;
  const int lane = threadIdx.x % kLanes;
  const uint32_t group = blockIdx.x * kGroups + in_block;
  // Behind the last group lanes read it once more, and store nothing.
  const bool has_group = group < groups.count;
  const GroupPlace at =
      PlaceOf(has_group ? group : groups.count - 1, groups, row_elements, group_size);
  const LaneElements<T, kLoads, kLanes> elements(x + at.row * row_elements + at.first, at.count,
                                                 lane, is_aligned);
  elements.StoreRange(keys + in_block, keys + kGroups + in_block, lane);
  __syncthreads();
  if (threadIdx.x < kGroups) {
    quantizers.Set(threadIdx.x, blockIdx.x * kGroups + threadIdx.x, kBitWidth, seed);
  }
  __syncthreads();
  uint8_t* to = ScaleOfThread<kGroups>(rows, layout, groups);
  if (to != nullptr) *reinterpret_cast<float*>(to) = scales[threadIdx.x];
  uint32_t codes[kLoads][kCodeWords<T>];
  elements.template Encode<kBitWidth, kStochastic>(
      quantizers.scales[in_block], quantizers.inv16[in_block],
      quantizers.dither_keys[in_block], at.count, lane, codes);
  uint8_t* row = rows + at.row * layout.nbytes;
  const int count = has_group ? at.count : 0;
  StoreCodes<T, kBitWidth, kLoads, kLanes>(codes, lane, count,
                                           CodesAt(row, layout, at.first, kBitWidth));
  if (has_group && at.in_row == 0) {
    ZeroPadding(row, PaddingOf(layout, row_elements, kBitWidth), lane);
  }
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
  const uint8_t* from = ScaleOfThread<kBlockWarps>(rows, layout, groups);
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

// Calls `body(Constant<loads of a lane>, Constant<lanes of a group>)`: for groups of up to 128,
// of up to 256, or of any size. Smaller groups leave loads unused, and larger code takes
// minutes to compile.
template <typename T, typename Body>
void WithLanes(int group_size, const Body& body) {
  constexpr int kElements = Vector<T>::kElements;
  if (group_size <= 128) return body(Constant<16 / kElements>{}, Constant<8>{});
  if (group_size <= 256) return body(Constant<16 / kElements>{}, Constant<16>{});
  body(Constant<kMaxGroupSize / (kWarpThreads * kElements)>{}, Constant<kWarpThreads>{});
}

// Calls `body(element, Constant<loads of a lane>)`, all lanes of a warp for one group.
template <typename T, typename Body>
void WithLoads(int group_size, const Body& body) {
  using Few = std::conditional_t<sizeof(T) == 2, Short<T>, T>;
  constexpr int kPerLoad = kWarpThreads * Vector<T>::kElements;
  if (group_size <= 128) return body(Few{}, Constant<1>{});
  if (group_size <= 256) return body(T{}, Constant<256 / kPerLoad>{});
  body(T{}, Constant<kMaxGroupSize / kPerLoad>{});
}

template <typename T, typename Body>
void WithWidth(int bit_width, const Body& body) {
  switch (bit_width) {
    case 1:
      return body(T{}, Constant<1>{});
    case 2:
      return body(T{}, Constant<2>{});
    case 3:
      return body(T{}, Constant<3>{});
    case 4:
      return body(T{}, Constant<4>{});
    default:
      return body(T{}, Constant<8>{});
  }
}

// Calls `body(element, Constant<bit width>)`.
template <typename Body>
void WithType(FloatType type, int bit_width, const Body& body) {
  switch (type) {
    case FloatType::kF32:
      return WithWidth<F32>(bit_width, body);
    case FloatType::kBf16:
      return WithWidth<Bf16>(bit_width, body);
    case FloatType::kF16:
      return WithWidth<F16>(bit_width, body);
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
  WithType(args.type, format.bit_width, [&](auto element, auto width) {
    using T = decltype(element);
    const bool is_aligned = HasAlignedRows<T>(args.x, num_rows, args.row_elements);
    WithLanes<T>(format.group_size, [&](auto loads, auto lanes) {
      const int64_t threads = int64_t{groups.count} * lanes();
      const auto kernel = format.is_stochastic
                              ? EncodeKernel<T, width(), loads(), lanes(), true>
                              : EncodeKernel<T, width(), loads(), lanes(), false>;
      EPMC_LAUNCH(kernel, static_cast<unsigned>(CeilDiv(threads, kBlockThreads)),
                  kBlockThreads, stream, static_cast<const T*>(args.x), args.rows,
                  args.row_elements, layout, format.group_size, format.seed, groups,
                  is_aligned);
    });
  });
}

void LaunchDecode(const DecodeArgs& args, int64_t num_rows, cudaStream_t stream) {
  const Format& format = args.format;
  // Here and not in the kernel: it has a division of 64 bits.
  const RowLayout layout = LayoutOf(args.row_elements, format.bit_width, format.group_size);
  const Groups groups = GroupsOf(num_rows, layout);
  const unsigned blocks = static_cast<unsigned>(CeilDiv(groups.count, kBlockWarps));
  WithType(args.type, format.bit_width, [&](auto type, auto width) {
    WithLoads<decltype(type)>(format.group_size, [&](auto element, auto loads) {
      using T = decltype(element);
      const bool is_aligned = HasAlignedRows<T>(args.x, num_rows, args.row_elements);
      const auto kernel = DecodeKernel<T, width(), loads()>;
      EPMC_LAUNCH(kernel, blocks, kBlockThreads, stream, args.rows, static_cast<T*>(args.x),
                  args.row_elements, layout, format.group_size, groups, is_aligned);
    });
  });
}

}  // namespace epmc::group_quant
