// The CUDA kernels of Csr: what they take is what the CPU kernels take.
#ifndef EPMC_CSR_KERNELS_CUDA_H_
#define EPMC_CSR_KERNELS_CUDA_H_

#include "xla_ffi/common/cuda_kernel.h"
#include "xla_ffi/csr/kernels.h"

namespace epmc::csr {

// Launch on `stream` and return; a failed launch is the thread's last CUDA error.
void LaunchEncode(const EncodeArgs& args, int64_t num_rows, cudaStream_t stream);
void LaunchDecode(const DecodeArgs& args, int64_t num_rows, cudaStream_t stream);

}  // namespace epmc::csr

#endif  // EPMC_CSR_KERNELS_CUDA_H_
