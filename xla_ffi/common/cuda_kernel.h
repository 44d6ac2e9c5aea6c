// What every .cu file starts from: nvcc's CUDA, or the emulator's (tests only).
//
// The two macros are all the difference that the source of a kernel shows.
#ifndef EPMC_COMMON_CUDA_KERNEL_H_
#define EPMC_COMMON_CUDA_KERNEL_H_

#include <cstdint>

#if defined(EPMC_EMULATED)

#include "xla_ffi/emulator/cuda.h"

#define EPMC_LAUNCH(kernel, grid, block, stream, ...) \
  (static_cast<void>(stream), ::epmc::emulator::LaunchKernel(kernel, grid, block, __VA_ARGS__))
#define EPMC_SHARED(type, name, count)                                 \
  static char name##_site;                                             \
  type* const name = static_cast<type*>(                               \
      ::epmc::emulator::SharedMemoryOf(&name##_site, sizeof(type) * (count)))

#else

#include <cuda_runtime.h>

#define EPMC_LAUNCH(kernel, grid, block, stream, ...) \
  kernel<<<grid, block, 0, stream>>>(__VA_ARGS__)
#define EPMC_SHARED(type, name, count) __shared__ type name[count]

#endif

namespace epmc {

constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kWarpThreads = 32;
// 8 warps: 8 blocks fill an SM of 2048 threads if a thread needs 32 registers or less.
constexpr int kBlockThreads = 256;
constexpr int kBlockWarps = kBlockThreads / kWarpThreads;

}  // namespace epmc

#endif  // EPMC_COMMON_CUDA_KERNEL_H_
