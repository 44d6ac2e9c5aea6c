// Kernels with one bug each, and one without: what the emulator must and must not report.
// Usage: planted_bugs NAME ORDER (0 forward, 1 reverse, 2 random). Prints the result's
// checksum, or the error; a sanitizer reports what it sees, and fails the program.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "xla_ffi/common/cuda_kernel.h"

namespace {

constexpr int kThreads = 64;

// Adds what the thread of the other warp wrote: correct.
__global__ void Correct(int* out) {
  EPMC_SHARED(int, values, kThreads);
  values[threadIdx.x] = static_cast<int>(threadIdx.x) * 3;
  __syncthreads();
  out[threadIdx.x] = values[kThreads - 1 - threadIdx.x];
}

__global__ void MissingBarrier(int* out) {
  EPMC_SHARED(int, values, kThreads);
  values[threadIdx.x] = static_cast<int>(threadIdx.x) * 3;
  out[threadIdx.x] = values[kThreads - 1 - threadIdx.x];
}

// Neighbours exchange through shared memory; the barrier of their warp orders it: correct.
__global__ void CorrectInWarp(int* out) {
  EPMC_SHARED(int, values, kThreads);
  values[threadIdx.x] = static_cast<int>(threadIdx.x);
  __syncwarp();
  const int neighbour = values[threadIdx.x ^ 1u];
  __syncwarp();
  values[threadIdx.x] = neighbour + 1;
  out[threadIdx.x] = values[threadIdx.x];
}

// A ballot waits for the lanes of the warp, but orders none of their accesses.
__global__ void MissingSyncwarp(int* out) {
  EPMC_SHARED(int, values, kThreads);
  values[threadIdx.x] = static_cast<int>(threadIdx.x);
  __ballot_sync(epmc::kAllLanes, 1);
  out[threadIdx.x] = values[threadIdx.x ^ 1u];
}

// The second barrier of CorrectInWarp: a fast lane overwrites what a slow one still reads.
__global__ void MissingSecondSyncwarp(int* out) {
  EPMC_SHARED(int, values, kThreads);
  values[threadIdx.x] = static_cast<int>(threadIdx.x);
  __syncwarp();
  const int neighbour = values[threadIdx.x ^ 1u];
  values[threadIdx.x] = neighbour + 1;
  __syncwarp();
  out[threadIdx.x] = values[threadIdx.x];
}

// The last thread of a block writes where the first of the next one does.
__global__ void RaceBetweenBlocks(int* out) {
  const unsigned overlap = blockIdx.x * (kThreads / 2 - 1);
  if (threadIdx.x < kThreads / 2) out[overlap + threadIdx.x] = static_cast<int>(blockIdx.x);
}

__global__ void DivergentBarrier(int* out) {
  if (threadIdx.x < 40) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = 1;
}

__global__ void Deadlock(int* out) {
  if (threadIdx.x < 16) {
    __syncthreads();
  } else {
    out[threadIdx.x] = static_cast<int>(__ballot_sync(epmc::kAllLanes, 1));
  }
}

__global__ void NotInItsMask(int* out) {
  out[threadIdx.x] = static_cast<int>(__ballot_sync(0x0000ffffu, 1));
}

__global__ void DifferentIntrinsics(int* out) {
  out[threadIdx.x] = threadIdx.x % 2 == 0
                         ? static_cast<int>(__ballot_sync(epmc::kAllLanes, 1))
                         : __shfl_sync(epmc::kAllLanes, 1, 0);
}

// The lane that is read has ended: undefined on a device, a pattern here.
__global__ void ShuffleFromAbsentLane(int* out) {
  if (threadIdx.x % 32 < 16) out[threadIdx.x] = __shfl_sync(0x0000ffffu, 1, 20);
}

__global__ void Uninitialised(int* out) {
  EPMC_SHARED(int, values, kThreads);
  if (threadIdx.x > 0) values[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = values[threadIdx.x];
}

__global__ void GlobalOutOfBounds(int* out) { out[threadIdx.x + 1] = 1; }

__global__ void SharedOutOfBounds(int* out) {
  EPMC_SHARED(int, values, kThreads);
  values[threadIdx.x] = 0;
  __syncthreads();
  out[threadIdx.x] = values[threadIdx.x + 1];
}

__global__ void Misaligned(int* out) {
  char* const bytes = reinterpret_cast<char*>(out) + 2;
  if (threadIdx.x + 1 < kThreads) reinterpret_cast<int*>(bytes)[threadIdx.x] = 1;
}

struct Case {
  const char* name;
  void (*kernel)(int*);
  unsigned blocks = 1;
};

constexpr Case kCases[] = {
    {"correct", Correct},
    {"correct_in_warp", CorrectInWarp},
    {"missing_barrier", MissingBarrier},
    {"missing_syncwarp", MissingSyncwarp},
    {"missing_second_syncwarp", MissingSecondSyncwarp},
    {"race_between_blocks", RaceBetweenBlocks, 2},
    {"divergent_barrier", DivergentBarrier},
    {"deadlock", Deadlock},
    {"not_in_its_mask", NotInItsMask},
    {"different_intrinsics", DifferentIntrinsics},
    {"shuffle_from_absent_lane", ShuffleFromAbsentLane},
    {"uninitialised", Uninitialised},
    {"global_out_of_bounds", GlobalOutOfBounds},
    {"shared_out_of_bounds", SharedOutOfBounds},
    {"misaligned", Misaligned},
};

int Run(const Case& one) {
  std::vector<int> out(kThreads, 0);
  EPMC_LAUNCH(one.kernel, one.blocks, kThreads, nullptr, out.data());
  if (cudaGetLastError() != cudaSuccess) {
    std::printf("error: %s\n", cudaGetErrorString(cudaErrorLaunchFailure));
    return 0;
  }
  unsigned checksum = 0;
  for (int value : out) checksum = checksum * 31 + static_cast<unsigned>(value);
  std::printf("result %08x first %08x\n", checksum, static_cast<unsigned>(out[0]));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  epmc::emulator::SetOptions({static_cast<epmc::emulator::Order>(std::atoi(argv[2])), 1});
  for (const Case& one : kCases) {
    if (std::strcmp(one.name, argv[1]) == 0) return Run(one);
  }
  return 2;
}
