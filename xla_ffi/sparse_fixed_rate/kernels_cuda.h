// The CUDA kernels of SparseFixedRate: what they take is what the CPU kernels take.
#ifndef EPMC_SPARSE_FIXED_RATE_KERNELS_CUDA_H_
#define EPMC_SPARSE_FIXED_RATE_KERNELS_CUDA_H_

#include "xla_ffi/common/cuda_kernel.h"
#include "xla_ffi/sparse_fixed_rate/kernels.h"

namespace epmc::sparse_fixed_rate {

// Launch on `stream` and return; a failed launch is the thread's last CUDA error.
void LaunchEncode(const EncodeArgs& args, int64_t num_rows, cudaStream_t stream);
void LaunchDecode(const DecodeArgs& args, int64_t num_rows, cudaStream_t stream);
void LaunchMask(const MaskArgs& args, int64_t num_rows, cudaStream_t stream);

}  // namespace epmc::sparse_fixed_rate

#endif  // EPMC_SPARSE_FIXED_RATE_KERNELS_CUDA_H_
