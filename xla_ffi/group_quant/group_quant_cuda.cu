// A warp encodes, or decodes, one group; a thread block eight groups, whose scales go
// through shared memory so that they too fill sectors. docs/design/cuda.md has the traffic.
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
  uint32_t group;      // through all rows
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
  return {group, row, in_row, first, static_cast<int>(rest < group_size ? rest : group_size)};
}

// What turns an element into a code, the same for all elements of a group.
struct Quantizer {
  GroupScale scale;
  float lo;
  float inv16;
  uint32_t key;
};

__device__ __forceinline__ Quantizer QuantizerOf(GroupScale scale, uint32_t seed,
                                                 uint32_t group) {
  // A group of NaN, or of one value: code 0. (x - 0) * 0 is 0, or NaN, which converts to 0
  // on a GPU but to anything on a CPU; so x is not used then.
  const bool is_constant = scale.step == 0.0f;
  return {scale, is_constant ? 0.0f : scale.lo, InverseStep16(scale.step),
          GroupKey(seed, group, scale)};
}

template <bool kStochastic>
__device__ __forceinline__ int32_t Dither16(uint32_t key, int element) {
  if (!kStochastic) return kHalf16;
  const int place = element % kBlock;
  const uint32_t pair = DitherOfPair(key, element / kBlock * 16 + place % 16);
  return static_cast<int32_t>(place < 16 ? pair & 0xffffu : pair >> 16);
}

// The codes of one load, a byte each; code 0 behind the end of the row.
template <typename T, int kBitWidth, bool kStochastic>
__device__ __forceinline__ void EncodeLoad(const Vector<T>& x, const Quantizer& quantizer,
                                           int element, int count, uint32_t* words) {
  constexpr int kLevels = (1 << kBitWidth) - 1;
#pragma unroll
  for (int i = 0; i < Vector<T>::kElements; ++i) {
    const bool is_coded = element + i < count && quantizer.scale.step != 0.0f;
    const uint32_t bits = is_coded ? FlushedBits(ToFloatBits(x.elements[i])) : 0;
    const int32_t dither = Dither16<kStochastic>(quantizer.key, element + i);
    const uint32_t code = EncodeOne(BitsToFloat(bits), quantizer.lo, quantizer.inv16, dither,
                                    kLevels);
    if (i % 4 == 0) words[i / 4] = 0;
    words[i / 4] |= (is_coded ? code : 0) << i % 4 * 8;
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

template <typename T, int kLoads>
__device__ __forceinline__ GroupScale ScaleOfGroup(const Vector<T>* loaded, int count,
                                                   int lane, int bit_width) {
  constexpr int kElements = Vector<T>::kElements;
  int32_t lo = INT32_MAX;
  int32_t hi = INT32_MIN;
#pragma unroll
  for (int i = 0; i < kLoads * kElements; ++i) {
    const int element = (i / kElements * kWarpThreads + lane) * kElements + i % kElements;
    const uint32_t bits = ToFloatBits(loaded[i / kElements].elements[i % kElements]);
    const int32_t key = OrderedKey(FlushedBits(bits));
    if (element < count) {
      lo = key < lo ? key : lo;
      hi = key > hi ? key : hi;
    }
  }
  return ScaleOf(__reduce_min_sync(kAllLanes, lo), __reduce_max_sync(kAllLanes, hi), bit_width);
}

// Encodes the group of this warp; returns its scale. Load j of lane l covers elements
// (32 * j + l) * kElements ... of the group, so the loads touch each sector once.
template <typename T, int kBitWidth, int kLoads, bool kStochastic>
__device__ __forceinline__ GroupScale EncodeGroup(const T* x, CodePlace<uint8_t> to,
                                                  const GroupPlace& at, uint32_t seed,
                                                  bool is_aligned) {
  constexpr int kElements = Vector<T>::kElements;
  const int lane = threadIdx.x % kWarpThreads;
  Vector<T> loaded[kLoads];
#pragma unroll
  for (int j = 0; j < kLoads; ++j) {
    const int element = (j * kWarpThreads + lane) * kElements;
    loaded[j] = LoadVector(x + element, at.count - element, is_aligned);
  }
  const GroupScale scale = ScaleOfGroup<T, kLoads>(loaded, at.count, lane, kBitWidth);
  const Quantizer quantizer = QuantizerOf(scale, seed, at.group);
  uint32_t top_bits[kLoads];
#pragma unroll
  for (int j = 0; j < kLoads; ++j) {
    const int element = (j * kWarpThreads + lane) * kElements;
    uint32_t codes[kCodeWords<T>];
    EncodeLoad<T, kBitWidth, kStochastic>(loaded[j], quantizer, element, at.count, codes);
    top_bits[j] = BitsOfBytes<T>(codes, kBitWidth - 1);
    StoreFields<T, kBitWidth>(codes, element, at.count, to.fields);
  }
  if constexpr (PlaneBits(kBitWidth)) {
    StorePlane<T, kLoads>(top_bits, lane, at.count, to.plane);
  }
  return scale;
}

template <typename T, int kBitWidth, int kLoads, bool kStochastic>
__global__ void __launch_bounds__(kBlockThreads)
    EncodeKernel(const T* __restrict__ x, uint8_t* __restrict__ rows, int64_t row_elements,
                 RowLayout layout, int group_size, uint32_t seed, Groups groups, bool is_aligned) {
  EPMC_SHARED(float, scales, 2 * kBlockWarps);
  const int warp = threadIdx.x / kWarpThreads;
  const int lane = threadIdx.x % kWarpThreads;
  const uint32_t group = blockIdx.x * kBlockWarps + warp;
  if (group < groups.count) {
    const GroupPlace at = PlaceOf(group, groups, row_elements, group_size);
    uint8_t* row = rows + at.row * layout.nbytes;
    const GroupScale scale = EncodeGroup<T, kBitWidth, kLoads, kStochastic>(
        x + at.row * row_elements + at.first, CodesAt(row, layout, at.first, kBitWidth), at,
        seed, is_aligned);
    if (lane == 0) {
      scales[warp] = scale.lo;
      scales[kBlockWarps + warp] = scale.step;
    }
    if (at.in_row == 0) ZeroPadding(row, PaddingOf(layout, row_elements, kBitWidth), lane);
  }
  __syncthreads();
  uint8_t* to = ScaleOfThread(rows, layout, groups);
  if (to != nullptr) *reinterpret_cast<float*>(to) = scales[threadIdx.x];
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

// Calls `body(T{}, Constant<bit width>, Constant<loads of a lane>)`: the loads of a group
// of 256, or of the largest. Smaller groups leave loads unused, and larger code takes
// minutes to compile.
template <typename T, int kBitWidth, typename Body>
void WithLoads(const Format& format, const Body& body) {
  constexpr int kUsualGroupSize = 256;
  constexpr int kPerLoad = kWarpThreads * Vector<T>::kElements;
  if (format.group_size <= kUsualGroupSize) {
    return body(T{}, Constant<kBitWidth>{}, Constant<kUsualGroupSize / kPerLoad>{});
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
