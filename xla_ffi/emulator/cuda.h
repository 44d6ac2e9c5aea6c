// What CUDA C++ gives to a kernel, for a C++17 compiler: only what the kernels here use.
//
// Not modelled: weak memory ordering, blocks that run at the same time, time itself.
#ifndef EPMC_EMULATOR_CUDA_H_
#define EPMC_EMULATOR_CUDA_H_

#include <cstdint>
#include <cstring>
#include <string>
#include <tuple>
#include <type_traits>

#include "xla_ffi/emulator/launch.h"

#define __global__
#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

#define threadIdx (::epmc::emulator::CurrentBlock().running->thread)
#define blockIdx (::epmc::emulator::CurrentBlock().index)
#define blockDim (::epmc::emulator::CurrentBlock().size)
#define gridDim (::epmc::emulator::CurrentBlock().grid)

struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

template <typename T>
T __ldg(const T* from) {
  return *from;
}

template <typename T>
void __stwb(T* to, T value) {
  *to = value;
}

// Streams and errors: every launch is over when it returns.
using cudaStream_t = struct EmulatedStream*;
using cudaError_t = int;
constexpr cudaError_t cudaSuccess = 0;
constexpr cudaError_t cudaErrorLaunchFailure = 719;
constexpr int cudaMemcpyDeviceToDevice = 3;

namespace epmc::emulator {

inline std::string& ShownError() {
  static thread_local std::string error;
  return error;
}

template <typename... Parameters, typename... Args>
void LaunchKernel(void (*kernel)(Parameters...), dim3 grid, dim3 block, const Args&... args) {
  const std::tuple<std::decay_t<Parameters>...> converted{args...};
  Launch(grid, block, [&] { std::apply(kernel, converted); });
}

template <typename T>
uint64_t AsWord(T value) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t word = 0;
  memcpy(&word, &value, sizeof(value));
  return word;
}

template <typename T>
T Shuffle(Op op, unsigned mask, T value, int argument, int line) {
  const uint64_t word = AskWarp({op, mask, AsWord(value), argument, line});
  memcpy(&value, &word, sizeof(value));
  return value;
}

}  // namespace epmc::emulator

inline cudaError_t cudaGetLastError() {
  epmc::emulator::ShownError() = epmc::emulator::TakeError();
  return epmc::emulator::ShownError().empty() ? cudaSuccess : cudaErrorLaunchFailure;
}

inline const char* cudaGetErrorString(cudaError_t) {
  return epmc::emulator::ShownError().c_str();
}

inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t nbytes, int,
                                   cudaStream_t) {
  memcpy(to, from, nbytes);
  return cudaSuccess;
}

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
  const uint64_t both = uint64_t{high} << 32 | low;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned byte = selector >> 4 * i & 7;
    result |= static_cast<unsigned>(both >> 8 * byte & 0xff) << 8 * i;
  }
  return result;
}

// Each call site reports its line.
#define EPMC_LINE int line = __builtin_LINE()

inline void __syncthreads(EPMC_LINE) {
  epmc::emulator::AskBlock({epmc::emulator::Op::kSyncThreads, 0, 0, 0, line});
}

inline void __syncwarp(unsigned mask = 0xffffffffu, EPMC_LINE) {
  epmc::emulator::AskWarp({epmc::emulator::Op::kSyncWarp, mask, 0, 0, line});
}

inline unsigned __ballot_sync(unsigned mask, int predicate, EPMC_LINE) {
  const uint64_t vote = predicate != 0;
  return static_cast<unsigned>(
      epmc::emulator::AskWarp({epmc::emulator::Op::kBallot, mask, vote, 0, line}));
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, EPMC_LINE) {
  return epmc::emulator::Shuffle(epmc::emulator::Op::kShuffle, mask, value, source, line);
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, EPMC_LINE) {
  return epmc::emulator::Shuffle(epmc::emulator::Op::kShuffleXor, mask, value, lanes, line);
}

inline int __reduce_min_sync(unsigned mask, int value, EPMC_LINE) {
  return epmc::emulator::Shuffle(epmc::emulator::Op::kReduceMin, mask, value, 0, line);
}

inline int __reduce_max_sync(unsigned mask, int value, EPMC_LINE) {
  return epmc::emulator::Shuffle(epmc::emulator::Op::kReduceMax, mask, value, 0, line);
}

#undef EPMC_LINE

#endif  // EPMC_EMULATOR_CUDA_H_
