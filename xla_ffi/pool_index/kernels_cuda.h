// The CUDA kernels of PoolIndex: what they take is what the CPU kernels take.
#ifndef EPMC_POOL_INDEX_KERNELS_CUDA_H_
#define EPMC_POOL_INDEX_KERNELS_CUDA_H_

#include "xla_ffi/common/cuda_kernel.h"
#include "xla_ffi/pool_index/kernels.h"

namespace epmc::pool_index {

// A row of the operand, and one of results, has less than 2^31 elements.
constexpr int64_t kMaxRowElements = INT32_MAX;

// Launch on `stream` and return; a failed launch is the thread's last CUDA error.
void LaunchMaxPool(const MaxPoolArgs& args, cudaStream_t stream);
void LaunchGradient(const GradientArgs& args, cudaStream_t stream);

}  // namespace epmc::pool_index

#endif  // EPMC_POOL_INDEX_KERNELS_CUDA_H_
