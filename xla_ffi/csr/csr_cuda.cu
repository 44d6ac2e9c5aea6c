// A warp takes a row, 32 elements at a time: a ballot counts the nonzero ones before each.
// For arrays of many rows; a long row is one warp's work.
#include "xla_ffi/common/cuda_kernel.h"
#include "xla_ffi/csr/csr.h"
#include "xla_ffi/csr/kernels_cuda.h"

namespace epmc::csr {
namespace {

__device__ __forceinline__ int64_t RowOfWarp() {
  return static_cast<int64_t>(blockIdx.x) * kBlockWarps + threadIdx.x / kWarpThreads;
}

template <typename Word, typename Index>
__global__ void __launch_bounds__(kBlockThreads)
    EncodeKernel(const Word* __restrict__ x, uint8_t* __restrict__ rows, RowLayout layout,
                 int64_t num_rows) {
  const int64_t number = RowOfWarp();
  if (number >= num_rows) return;  // the whole warp
  const int lane = threadIdx.x % kWarpThreads;
  const Word* from = x + number * layout.elements;
  uint8_t* row = rows + number * layout.nbytes;
  Index* indices = reinterpret_cast<Index*>(row + kIndicesOffset);
  Word* values = reinterpret_cast<Word*>(row + layout.values_offset);
  int64_t count = 0;
  for (int64_t first = 0; first < layout.elements; first += kWarpThreads) {
    const int64_t i = first + lane;
    const Word word = i < layout.elements ? from[i] : Word{0};
    const bool is_nonzero = IsNonzero(word);
    const unsigned mask = __ballot_sync(kAllLanes, is_nonzero);
    const int64_t place = count + __popc(mask & ((1u << lane) - 1));
    if (is_nonzero && place < layout.room) {
      values[place] = word;
      indices[place] = static_cast<Index>(i);
    }
    count += __popc(mask);
  }
  // Unused places and alignment bytes are zero: equal arrays have equal rows.
  const int64_t used = (count < layout.room ? count : layout.room) + lane;
  const int64_t indices_end = (layout.values_offset - kIndicesOffset) / sizeof(Index);
  const int64_t values_end = (layout.nbytes - layout.values_offset) / sizeof(Word);
  for (int64_t k = used; k < indices_end; k += kWarpThreads) indices[k] = 0;
  for (int64_t k = used; k < values_end; k += kWarpThreads) values[k] = 0;
  if (lane < kIndicesOffset / 4) {
    reinterpret_cast<uint32_t*>(row)[lane] = lane == 0 ? static_cast<uint32_t>(count) : 0;
  }
}

template <typename Word, typename Index>
__global__ void __launch_bounds__(kBlockThreads)
    DecodeKernel(const uint8_t* __restrict__ rows, Word* __restrict__ x, RowLayout layout,
                 int64_t num_rows, uint32_t nan) {
  const int64_t number = RowOfWarp();
  if (number >= num_rows) return;  // the whole warp
  const int lane = threadIdx.x % kWarpThreads;
  const uint8_t* row = rows + number * layout.nbytes;
  const Index* indices = reinterpret_cast<const Index*>(row + kIndicesOffset);
  const Word* values = reinterpret_cast<const Word*>(row + layout.values_offset);
  Word* to = x + number * layout.elements;
  const uint32_t count = *reinterpret_cast<const uint32_t*>(row);
  const bool has_room = count <= layout.room;
  const Word filling = has_room ? Word{0} : static_cast<Word>(nan);
  for (int64_t i = lane; i < layout.elements; i += kWarpThreads) to[i] = filling;
  if (!has_room) return;
  __syncwarp();  // zeros first, of all lanes
  for (int64_t k = lane; k < count; k += kWarpThreads) {
    if (indices[k] < layout.elements) to[indices[k]] = values[k];
  }
}

// Calls `body(Word{}, Index{})`.
template <typename Word, typename Body>
void WithIndex(const RowLayout& layout, const Body& body) {
  switch (layout.index_nbytes) {
    case 1:
      return body(Word{}, uint8_t{});
    case 2:
      return body(Word{}, uint16_t{});
    default:
      return body(Word{}, uint32_t{});
  }
}

template <typename Body>
void WithTypes(const RowLayout& layout, const Body& body) {
  if (layout.element_nbytes == 2) return WithIndex<uint16_t>(layout, body);
  WithIndex<uint32_t>(layout, body);
}

}  // namespace

void LaunchEncode(const EncodeArgs& args, int64_t num_rows, cudaStream_t stream) {
  const unsigned blocks = static_cast<unsigned>(CeilDiv(num_rows, kBlockWarps));
  WithTypes(args.layout, [&](auto word, auto index) {
    using Word = decltype(word);
    const auto kernel = EncodeKernel<Word, decltype(index)>;
    EPMC_LAUNCH(kernel, blocks, kBlockThreads, stream, static_cast<const Word*>(args.x),
                args.rows, args.layout, num_rows);
  });
}

void LaunchDecode(const DecodeArgs& args, int64_t num_rows, cudaStream_t stream) {
  const unsigned blocks = static_cast<unsigned>(CeilDiv(num_rows, kBlockWarps));
  WithTypes(args.layout, [&](auto word, auto index) {
    using Word = decltype(word);
    const auto kernel = DecodeKernel<Word, decltype(index)>;
    EPMC_LAUNCH(kernel, blocks, kBlockThreads, stream, args.rows, static_cast<Word*>(args.x),
                args.layout, num_rows, args.nan);
  });
}

}  // namespace epmc::csr
