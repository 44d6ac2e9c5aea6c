// The CUDA kernels of BitMask: what they take is what the CPU kernels take.
#ifndef EPMC_BIT_MASK_KERNELS_CUDA_H_
#define EPMC_BIT_MASK_KERNELS_CUDA_H_

#include "xla_ffi/bit_mask/kernels.h"
#include "xla_ffi/common/cuda_kernel.h"

namespace epmc::bit_mask {

// Launch on `stream` and return; a failed launch is the thread's last CUDA error.
void LaunchEncode(const EncodeArgs& args, int64_t num_rows, cudaStream_t stream);
void LaunchDecode(const DecodeArgs& args, int64_t num_rows, cudaStream_t stream);

}  // namespace epmc::bit_mask

#endif  // EPMC_BIT_MASK_KERNELS_CUDA_H_
