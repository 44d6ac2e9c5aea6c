// Runs a grid: block after block, each lane a fiber.
#ifndef EPMC_EMULATOR_LAUNCH_H_
#define EPMC_EMULATOR_LAUNCH_H_

#include <functional>
#include <string>

#include "xla_ffi/emulator/block.h"

namespace epmc::emulator {

void SetOptions(const Options& options);

// What the last launch did wrong; empty if nothing. Reading it clears it.
std::string TakeError();
void SetError(const std::string& error);

void Launch(dim3 grid, dim3 block, const std::function<void()>& lane_body);

// The memory of one __shared__ variable of the running block, poisoned at first use.
void* SharedMemoryOf(const void* site, size_t nbytes);

}  // namespace epmc::emulator

#endif  // EPMC_EMULATOR_LAUNCH_H_
