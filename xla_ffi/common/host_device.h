// Qualifiers of the functions that host and device compile from the same source.
#ifndef EPMC_COMMON_HOST_DEVICE_H_
#define EPMC_COMMON_HOST_DEVICE_H_

#if defined(__CUDACC__)
#define EPMC_HD __host__ __device__ __forceinline__
#else
// Inlined into the caller, so that it is compiled for the caller's instruction set.
#define EPMC_HD inline __attribute__((always_inline))
#endif

#endif  // EPMC_COMMON_HOST_DEVICE_H_
