// The CUDA kernels of Narrow: what they take is what the CPU kernels take.
#ifndef EPMC_NARROW_KERNELS_CUDA_H_
#define EPMC_NARROW_KERNELS_CUDA_H_

#include "xla_ffi/common/cuda_kernel.h"
#include "xla_ffi/narrow/kernels.h"

namespace epmc::narrow {

// Launch on `stream` and return; a failed launch is the thread's last CUDA error.
void LaunchEncode(const EncodeArgs& args, int64_t num_rows, cudaStream_t stream);
void LaunchDecode(const DecodeArgs& args, int64_t num_rows, cudaStream_t stream);

}  // namespace epmc::narrow

#endif  // EPMC_NARROW_KERNELS_CUDA_H_
