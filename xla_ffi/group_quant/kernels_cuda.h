// The CUDA kernels of GroupQuant: what they take is what the CPU kernels take.
#ifndef EPMC_GROUP_QUANT_KERNELS_CUDA_H_
#define EPMC_GROUP_QUANT_KERNELS_CUDA_H_

#include "xla_ffi/common/cuda_kernel.h"
#include "xla_ffi/group_quant/kernels.h"

namespace epmc::group_quant {

// Launch on `stream` and return; a failed launch is the thread's last CUDA error.
void LaunchEncode(const EncodeArgs& args, int64_t num_rows, cudaStream_t stream);
void LaunchDecode(const DecodeArgs& args, int64_t num_rows, cudaStream_t stream);

}  // namespace epmc::group_quant

#endif  // EPMC_GROUP_QUANT_KERNELS_CUDA_H_
