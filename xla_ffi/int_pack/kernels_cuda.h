// The CUDA kernels of IntPack: what they take is what the CPU kernels take.
#ifndef EPMC_INT_PACK_KERNELS_CUDA_H_
#define EPMC_INT_PACK_KERNELS_CUDA_H_

#include "xla_ffi/common/cuda_kernel.h"
#include "xla_ffi/int_pack/kernels.h"

namespace epmc::int_pack {

// Launch on `stream` and return; a failed launch is the thread's last CUDA error.
void LaunchEncode(const EncodeArgs& args, int64_t num_rows, cudaStream_t stream);
void LaunchDecode(const DecodeArgs& args, int64_t num_rows, cudaStream_t stream);

}  // namespace epmc::int_pack

#endif  // EPMC_INT_PACK_KERNELS_CUDA_H_
