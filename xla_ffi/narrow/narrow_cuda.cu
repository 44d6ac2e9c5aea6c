// A warp encodes, or decodes, one group; a thread block eight groups, whose exponents go
// through shared memory so that they are written together. docs/design/cuda.md has the
// traffic.
#include <cstdint>
#include <type_traits>

#include "xla_ffi/common/cuda_memory.h"
#include "xla_ffi/narrow/kernels_cuda.h"
#include "xla_ffi/narrow/narrow.h"

namespace epmc::narrow {
namespace {

// Groups are numbered through all rows, in 32 bits: a division of 64 bits costs as much as
// the rest of the kernel.
struct Groups {
  uint32_t per_row;
  uint32_t count;
};

struct GroupPlace {
  int64_t row;
  int64_t in_row;  // group
  int64_t first;   // element of the row
  int count;       // elements of the group
};

__device__ __forceinline__ GroupPlace PlaceOf(uint32_t group, Groups groups,
                                              int64_t row_elements, int group_size) {
  const uint32_t row = group / groups.per_row;
  const int64_t in_row = group - row * groups.per_row;
  const int64_t first = in_row * group_size;
  const int64_t rest = row_elements - first;
  return {row, in_row, first, static_cast<int>(rest < group_size ? rest : group_size)};
}

// The values of one load of the array, 4, 8 or 16 bytes.
template <typename T, typename As>
struct alignas(Vector<T>::kElements* As::kNbytes) Values {
  static constexpr int kNbytes = Vector<T>::kElements * As::kNbytes;
  uint8_t bytes[kNbytes];
};

template <int kNbytes>
using Word = std::conditional_t<kNbytes == 4, uint32_t,
                                std::conditional_t<kNbytes == 8, uint2, uint4>>;

template <typename T, typename As>
__device__ __forceinline__ void StoreValues(const Values<T, As>& values, uint8_t* to) {
  Word<Values<T, As>::kNbytes> word;
  memcpy(&word, &values, sizeof(word));
  __stwb(reinterpret_cast<decltype(word)*>(to), word);
}

template <typename T, typename As>
__device__ __forceinline__ Values<T, As> LoadValues(const uint8_t* from) {
  Values<T, As> values;
  const auto word = __ldg(reinterpret_cast<const Word<Values<T, As>::kNbytes>*>(from));
  memcpy(&values, &word, sizeof(word));
  return values;
}

// --- One load of elements -----------------------------------------------------------------

template <typename As, typename T>
__device__ __forceinline__ void EncodeElement(As, T x, float inverse, uint8_t* to) {
  *to = EncodeOne<As>(ToFloatBits(x), inverse);
}

template <typename T>
__device__ __forceinline__ void EncodeElement(AsBf16, T x, float, uint8_t* to) {
  const Bf16 value = EncodeBf16(ToFloatBits(x));
  memcpy(to, &value, sizeof(value));
}

__device__ __forceinline__ void EncodeElement(AsBf16, Bf16 x, float, uint8_t* to) {
  memcpy(to, &x, sizeof(x));
}

template <typename As, typename T>
__device__ __forceinline__ void DecodeElement(As, const uint8_t* from, float scale, T* x) {
  FromFloat(BitsToFloat(DecodeOne<As>(*from, scale, LargestFinite(T{}))), x);
}

template <typename T>
__device__ __forceinline__ void DecodeElement(AsBf16, const uint8_t* from, float, T* x) {
  Bf16 value;
  memcpy(&value, from, sizeof(value));
  FromFloat(BitsToFloat(DecodeBf16(value, LargestFinite(T{}))), x);
}

__device__ __forceinline__ void DecodeElement(AsBf16, const uint8_t* from, float, Bf16* x) {
  memcpy(x, from, sizeof(*x));
}

// --- One group ----------------------------------------------------------------------------

template <typename As, typename T, int kLoads>
__device__ __forceinline__ int ExponentOfGroup(const Vector<T>* loaded) {
  int32_t largest = 0;  // zeros are loaded behind the end of the group
#pragma unroll
  for (int i = 0; i < kLoads * Vector<T>::kElements; ++i) {
    const T x = loaded[i / Vector<T>::kElements].elements[i % Vector<T>::kElements];
    const int32_t magnitude = static_cast<int32_t>(FiniteMagnitude(ToFloatBits(x)));
    largest = magnitude > largest ? magnitude : largest;
  }
  return ExponentOf<As>(static_cast<uint32_t>(__reduce_max_sync(kAllLanes, largest)));
}

// Encodes the group of this warp; returns its exponent. Load j of lane l covers elements
// (32 * j + l) * kElements ... of the group, so the loads touch each sector once.
template <typename T, typename As, int kLoads>
__device__ __forceinline__ int EncodeGroup(const T* x, uint8_t* values, const GroupPlace& at,
                                           bool is_last, bool is_aligned) {
  constexpr int kElements = Vector<T>::kElements;
  const int lane = threadIdx.x % kWarpThreads;
  Vector<T> loaded[kLoads];
#pragma unroll
  for (int j = 0; j < kLoads; ++j) {
    const int element = (j * kWarpThreads + lane) * kElements;
    loaded[j] = LoadVector(x + element, at.count - element, is_aligned);
  }
  int exponent = kFloatBias;
  if constexpr (As::kHasScale) exponent = ExponentOfGroup<As, T, kLoads>(loaded);
  const float inverse = InverseScale(exponent);
  // The last group of a row writes the zeros up to the end of the part too.
  const int used = at.count * As::kNbytes;
  const int end = is_last ? static_cast<int>(Round16(used)) : used;
#pragma unroll
  for (int j = 0; j < kLoads; ++j) {
    const int element = (j * kWarpThreads + lane) * kElements;
    Values<T, As> kept = {};
#pragma unroll
    for (int i = 0; i < kElements; ++i) {
      if (element + i >= at.count) continue;
      EncodeElement(As{}, loaded[j].elements[i], inverse, kept.bytes + i * As::kNbytes);
    }
    if (element * As::kNbytes < end) StoreValues(kept, values + element * As::kNbytes);
  }
  return exponent;
}

// Threads 0 ... 7 own the exponents of the thread block's groups: their addresses in the
// rows; nullptr for the other threads.
template <typename Byte>
__device__ __forceinline__ Byte* ExponentOfThread(Byte* rows, const RowLayout& layout,
                                                  Groups groups) {
  const uint32_t group = blockIdx.x * kBlockWarps + threadIdx.x;
  if (threadIdx.x >= kBlockWarps || group >= groups.count) return nullptr;
  const uint32_t row = group / groups.per_row;
  return rows + row * layout.nbytes + layout.exponents_offset +
         (group - row * groups.per_row);
}

template <typename T, typename As, int kLoads>
__global__ void __launch_bounds__(kBlockThreads)
    EncodeKernel(const T* __restrict__ x, uint8_t* __restrict__ rows, int64_t row_elements,
                 RowLayout layout, int group_size, Groups groups, bool is_aligned) {
  EPMC_SHARED(uint8_t, exponents, kBlockWarps);
  const int warp = threadIdx.x / kWarpThreads;
  const int lane = threadIdx.x % kWarpThreads;
  const uint32_t group = blockIdx.x * kBlockWarps + warp;
  if (group < groups.count) {
    const GroupPlace at = PlaceOf(group, groups, row_elements, group_size);
    uint8_t* row = rows + at.row * layout.nbytes;
    const bool is_last = at.in_row + 1 == layout.groups;
    const int exponent = EncodeGroup<T, As, kLoads>(
        x + at.row * row_elements + at.first, row + at.first * As::kNbytes, at, is_last,
        is_aligned);
    if (lane == 0) exponents[warp] = static_cast<uint8_t>(exponent);
    const int64_t unused = layout.exponents_offset + layout.groups + lane;
    if (is_last && unused < layout.nbytes) row[unused] = 0;
  }
  if constexpr (As::kHasScale) {
    __syncthreads();
    uint8_t* to = ExponentOfThread(rows, layout, groups);
    if (to != nullptr) *to = exponents[threadIdx.x];
  }
}

template <typename T, typename As, int kLoads>
__global__ void __launch_bounds__(kBlockThreads)
    DecodeKernel(const uint8_t* __restrict__ rows, T* __restrict__ x, int64_t row_elements,
                 RowLayout layout, int group_size, Groups groups, bool is_aligned) {
  constexpr int kElements = Vector<T>::kElements;
  EPMC_SHARED(uint8_t, exponents, kBlockWarps);
  const int warp = threadIdx.x / kWarpThreads;
  const int lane = threadIdx.x % kWarpThreads;
  const uint32_t group = blockIdx.x * kBlockWarps + warp;
  const bool has_group = group < groups.count;
  const GroupPlace at = PlaceOf(has_group ? group : 0, groups, row_elements, group_size);
  const uint8_t* from = rows + at.row * layout.nbytes + at.first * As::kNbytes;
  // All loads before the barrier: values and exponents arrive together.
  Values<T, As> kept[kLoads] = {};
#pragma unroll
  for (int j = 0; j < kLoads; ++j) {
    const int element = (j * kWarpThreads + lane) * kElements;
    if (has_group && element < at.count) {
      kept[j] = LoadValues<T, As>(from + element * As::kNbytes);
    }
  }
  float scale = 1.0f;
  if constexpr (As::kHasScale) {
    const uint8_t* exponent = ExponentOfThread(rows, layout, groups);
    if (exponent != nullptr) exponents[threadIdx.x] = *exponent;
    __syncthreads();
    if (has_group) scale = ScaleOf<As>(exponents[warp]);
  }
  if (!has_group) return;
  T* to = x + at.row * row_elements + at.first;
#pragma unroll
  for (int j = 0; j < kLoads; ++j) {
    const int element = (j * kWarpThreads + lane) * kElements;
    Vector<T> vector;
#pragma unroll
    for (int i = 0; i < kElements; ++i) {
      DecodeElement(As{}, kept[j].bytes + i * As::kNbytes, scale, &vector.elements[i]);
    }
    StoreVector(vector, to + element, at.count - element, is_aligned);
  }
}

// --- From run-time values to template arguments -------------------------------------------

template <int kValue>
using Constant = std::integral_constant<int, kValue>;

// Calls `body(T{}, As{}, Constant<loads of a lane>)`: the loads of a group of 256, or of
// the largest. Smaller groups leave loads unused.
template <typename T, typename As, typename Body>
void WithLoads(const Format& format, const Body& body) {
  constexpr int kUsualGroupSize = 256;
  constexpr int kPerLoad = kWarpThreads * Vector<T>::kElements;
  if (format.group_size <= kUsualGroupSize) {
    return body(T{}, As{}, Constant<kUsualGroupSize / kPerLoad>{});
  }
  body(T{}, As{}, Constant<kMaxGroupSize / kPerLoad>{});
}

template <typename T, typename Body>
void WithValue(const Format& format, const Body& body) {
  switch (format.value) {
    case ValueType::kBf16:
      return WithLoads<T, AsBf16>(format, body);
    case ValueType::kE4m3fn:
      return WithLoads<T, AsE4m3fn>(format, body);
    case ValueType::kE5m2:
      return WithLoads<T, AsE5m2>(format, body);
  }
}

template <typename Body>
void WithType(FloatType type, const Format& format, const Body& body) {
  switch (type) {
    case FloatType::kF32:
      return WithValue<F32>(format, body);
    case FloatType::kBf16:
      return WithValue<Bf16>(format, body);
    case FloatType::kF16:
      return WithValue<F16>(format, body);
  }
}

Groups GroupsOf(int64_t num_rows, const RowLayout& layout) {
  return {static_cast<uint32_t>(layout.groups),
          static_cast<uint32_t>(num_rows * layout.groups)};
}

}  // namespace

void LaunchEncode(const EncodeArgs& args, int64_t num_rows, cudaStream_t stream) {
  const int group_size = args.format.group_size;
  WithType(args.type, args.format, [&](auto element, auto value, auto loads) {
    using T = decltype(element);
    using As = decltype(value);
    const RowLayout layout = LayoutOf(args.row_elements, As::kNbytes, group_size);
    const Groups groups = GroupsOf(num_rows, layout);
    const unsigned blocks = static_cast<unsigned>(CeilDiv(groups.count, kBlockWarps));
    const bool is_aligned = HasAlignedRows<T>(args.x, num_rows, args.row_elements);
    const auto kernel = EncodeKernel<T, As, loads()>;
    EPMC_LAUNCH(kernel, blocks, kBlockThreads, stream, static_cast<const T*>(args.x),
                args.rows, args.row_elements, layout, group_size, groups, is_aligned);
  });
}

void LaunchDecode(const DecodeArgs& args, int64_t num_rows, cudaStream_t stream) {
  const int group_size = args.format.group_size;
  WithType(args.type, args.format, [&](auto element, auto value, auto loads) {
    using T = decltype(element);
    using As = decltype(value);
    const RowLayout layout = LayoutOf(args.row_elements, As::kNbytes, group_size);
    const Groups groups = GroupsOf(num_rows, layout);
    const unsigned blocks = static_cast<unsigned>(CeilDiv(groups.count, kBlockWarps));
    const bool is_aligned = HasAlignedRows<T>(args.x, num_rows, args.row_elements);
    const auto kernel = DecodeKernel<T, As, loads()>;
    EPMC_LAUNCH(kernel, blocks, kBlockThreads, stream, args.rows, static_cast<T*>(args.x),
                args.row_elements, layout, group_size, groups, is_aligned);
  });
}

}  // namespace epmc::narrow
