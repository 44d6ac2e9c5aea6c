// A thread block encodes, or decodes, one pool: one pass over memory, and no block waits for
// another. docs/design/cuda.md has the traffic.
#include "xla_ffi/sparse_fixed_rate/decode_cuda.h"
#include "xla_ffi/sparse_fixed_rate/encode_cuda.h"
#include "xla_ffi/sparse_fixed_rate/kernels_cuda.h"

namespace epmc::sparse_fixed_rate {
namespace {

// Here and not in the kernel: it has divisions of 64 bits.
Pools PoolsOf(int64_t row_elements, const Format& format) {
  int shift = 0;
  while (1 << shift < format.group_size) ++shift;
  return {row_elements, LayoutOf(row_elements, format), format, shift};
}

template <typename T>
void LaunchEncodeOf(const EncodeArgs& args, int64_t num_rows, cudaStream_t stream) {
  const Pools pools = PoolsOf(args.row_elements, args.format);
  const unsigned blocks = static_cast<unsigned>(num_rows * pools.layout.pools);
  const bool is_aligned = HasAlignedRows<T>(args.x, num_rows, args.row_elements);
  EPMC_LAUNCH(EncodeKernel<T>, blocks, kPoolThreads, stream, static_cast<const T*>(args.x),
              args.rows, pools, args.is_stochastic, args.seed, is_aligned);
}

template <typename T>
void LaunchDecodeOf(const uint8_t* rows, void* x, const Pools& pools, int value_bits,
                    int64_t num_rows, cudaStream_t stream) {
  const unsigned blocks = static_cast<unsigned>(num_rows * pools.layout.pools);
  const bool is_aligned = HasAlignedRows<T>(x, num_rows, pools.row_elements);
  EPMC_LAUNCH(DecodeKernel<T>, blocks, kPoolThreads, stream, rows, static_cast<T*>(x), pools,
              value_bits, is_aligned);
}

}  // namespace

void LaunchEncode(const EncodeArgs& args, int64_t num_rows, cudaStream_t stream) {
  switch (args.type) {
    case FloatType::kF32:
      return LaunchEncodeOf<F32>(args, num_rows, stream);
    case FloatType::kBf16:
      return LaunchEncodeOf<Bf16>(args, num_rows, stream);
    case FloatType::kF16:
      return LaunchEncodeOf<F16>(args, num_rows, stream);
  }
}

void LaunchDecode(const DecodeArgs& args, int64_t num_rows, cudaStream_t stream) {
  const Pools pools = PoolsOf(args.row_elements, args.format);
  switch (args.type) {
    case FloatType::kF32:
      return LaunchDecodeOf<F32>(args.rows, args.x, pools, 32, num_rows, stream);
    case FloatType::kBf16:
      return LaunchDecodeOf<Bf16>(args.rows, args.x, pools, 16, num_rows, stream);
    case FloatType::kF16:
      return LaunchDecodeOf<F16>(args.rows, args.x, pools, 16, num_rows, stream);
  }
}

void LaunchMask(const MaskArgs& args, int64_t num_rows, cudaStream_t stream) {
  const Pools pools = PoolsOf(args.row_elements, args.format);
  LaunchDecodeOf<uint8_t>(args.rows, args.mask, pools, args.value_bits, num_rows, stream);
}

}  // namespace epmc::sparse_fixed_rate
