// One thread block in execution: its lanes, and what they wait for.
#ifndef EPMC_EMULATOR_BLOCK_H_
#define EPMC_EMULATOR_BLOCK_H_

#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "xla_ffi/emulator/fiber.h"

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace epmc::emulator {

constexpr unsigned kWarpSize = 32;
constexpr unsigned char kPoison = 0xcb;  // fills memory that nothing wrote

enum class Order { kForward, kReverse, kRandom };

struct Options {
  Order order = Order::kForward;
  uint64_t seed = 1;
};

enum class Op {
  kSyncWarp,
  kBallot,
  kShuffle,
  kShuffleXor,
  kReduceMin,
  kReduceMax,
  kSyncThreads,
};

const char* NameOf(Op op);

// What a lane asks of its warp or block.
struct Request {
  Op op = Op::kSyncWarp;
  uint32_t mask = 0;
  uint64_t value = 0;
  int argument = 0;  // of a shuffle: source lane, or distance
  int line = 0;      // of the kernel's source
  bool operator==(const Request& other) const {
    return op == other.op && mask == other.mask;
  }
};

struct Lane : Fiber {
  unsigned index = 0;  // in the block
  dim3 thread;
  Request request;
  uint64_t result = 0;
};

// Sets of lanes, one bit each.
struct Warp {
  uint32_t alive = 0;
  uint32_t ready = 0;
  uint32_t at_warp = 0;   // waits for lanes of its warp
  uint32_t at_block = 0;  // waits in __syncthreads
};

// Memory of a __shared__ variable: a heap block of its own, so that AddressSanitizer sees
// an access past its end.
struct FreeAligned {
  void operator()(void* p) const { free(p); }
};
using SharedMemory = std::unique_ptr<void, FreeAligned>;

struct Block {
  dim3 grid, size, index;
  std::vector<Lane> lanes;
  std::vector<Warp> warps;
  std::map<const void*, SharedMemory> shared;
  Lane* running = nullptr;
  Fiber host;
  unsigned current_warp = 0;
  unsigned alive = 0;
  uint64_t random = 1;
  std::string error;  // the first; the block stops
  Identities identities;
};

// The block that runs. There is one at a time: launches take turns.
Block& CurrentBlock();

// Records `what` with the place of every waiting lane.
void Fail(Block& block, const std::string& what);

// Lanes of a barrier: `select(lane)` says which.
template <typename Select>
void OrderMemoryOf(Block& block, const Select& select) {
  std::vector<void*> identities;
  for (const Lane& lane : block.lanes) {
    if (select(lane)) identities.push_back(lane.identity);
  }
  OrderMemory(identities.data(), identities.size());
}

// Answers every request of warp `index` for which all lanes of the mask have arrived.
// Returns true if there was one.
bool AnswerWarp(Block& block, unsigned index);

// The running lane waits until its request is answered.
uint64_t AskWarp(const Request& request);
void AskBlock(const Request& request);

}  // namespace epmc::emulator

#endif  // EPMC_EMULATOR_BLOCK_H_
