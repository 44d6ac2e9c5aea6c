#include "xla_ffi/emulator/launch.h"

#include <sys/mman.h>

#include <cstdlib>
#include <mutex>
#include <numeric>

namespace epmc::emulator {
namespace {

constexpr size_t kStackNbytes = 64 << 10;
constexpr size_t kMaxThreads = 1024;
constexpr size_t kMaxSharedNbytes = 48 << 10;

std::mutex launch_mutex;
Options launch_options;
std::string last_error;
Block current;
const std::function<void()>* current_body = nullptr;

uint32_t Random(Block& block) {  // xorshift64
  block.random ^= block.random << 13;
  block.random ^= block.random >> 7;
  block.random ^= block.random << 17;
  return static_cast<uint32_t>(block.random >> 16);
}

int ChooseLane(Block& block, uint32_t ready) {
  switch (launch_options.order) {
    case Order::kForward:
      return __builtin_ctz(ready);
    case Order::kReverse:
      return 31 - __builtin_clz(ready);
    default:
      for (uint32_t skip = Random(block) % __builtin_popcount(ready); skip > 0; --skip) {
        ready &= ready - 1;
      }
      return __builtin_ctz(ready);
  }
}

// Releases __syncthreads if all live lanes wait in the same one.
void ReleaseBlockBarrier(Block& block) {
  unsigned waiting = 0;
  for (const Warp& warp : block.warps) waiting += __builtin_popcount(warp.at_block);
  if (waiting != block.alive) {
    return Fail(block, "deadlock: not every live thread of the mask or block arrives");
  }
  const Lane* first = nullptr;
  for (const Lane& lane : block.lanes) {
    if (!(block.warps[lane.index / kWarpSize].at_block >> lane.index % kWarpSize & 1u)) continue;
    if (first == nullptr) first = &lane;
    if (lane.request.line != first->request.line) {
      return Fail(block, "__syncthreads reached from different places of the source");
    }
  }
  OrderMemoryOf(block, [&](const Lane& lane) {
    return block.warps[lane.index / kWarpSize].at_block >> lane.index % kWarpSize & 1u;
  });
  for (Warp& warp : block.warps) {
    warp.ready |= warp.at_block;
    warp.at_block = 0;
  }
}

// A warp with a lane to run, starting at the current one; -1: all wait for the block.
int ChooseWarp(Block& block) {
  const unsigned count = block.warps.size();
  unsigned start = block.current_warp;
  // Often enough to mix the warps, seldom enough that a warp gets ahead of the others.
  const bool jumps = launch_options.order == Order::kRandom && Random(block) % 8 == 0;
  if (jumps) start = Random(block) % count;
  for (unsigned k = 0; k < count; ++k) {
    const unsigned step = launch_options.order == Order::kReverse ? count - k : k;
    const unsigned index = (start + step) % count;
    Warp& warp = block.warps[index];
    if (warp.ready == 0 && warp.at_warp != 0) AnswerWarp(block, index);
    if (warp.ready != 0) return static_cast<int>(index);
  }
  return -1;
}

Fiber& NextFiber(Block& block) {
  while (block.error.empty() && block.alive > 0) {
    const int index = ChooseWarp(block);
    if (index < 0) {
      ReleaseBlockBarrier(block);
      continue;
    }
    if (!block.error.empty()) break;
    Warp& warp = block.warps[index];
    const int lane = ChooseLane(block, warp.ready);
    warp.ready &= ~(1u << lane);
    block.current_warp = index;
    block.running = &block.lanes[index * kWarpSize + lane];
    return *block.running;
  }
  return block.host;
}

void Suspend(Block& block) {
  Lane& self = *block.running;
  Fiber& next = NextFiber(block);
  if (&next != &self) Switch(self, next, block.host, /*is_last=*/false);
}

Fiber& EndLane(Block& block, const Lane& self) {
  const Unseen unseen;
  block.warps[self.index / kWarpSize].alive &= ~(1u << self.index % kWarpSize);
  --block.alive;
  block.identities.LaneEnds();
  return NextFiber(block);
}

EPMC_UNINSTRUMENTED void RunLane() {
  Block& block = current;
  Lane& self = *block.running;
  Arrived(self, block.host);
  block.identities.LaneBegins();
  (*current_body)();
  Switch(self, EndLane(block, self), block.host, /*is_last=*/true);
  std::abort();  // a lane that has ended does not run
}

char* MapStacks(void* at, size_t count, int flags) {
  void* const stacks = mmap(at, kStackNbytes * count, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
  if (stacks == MAP_FAILED) std::abort();
  return static_cast<char*>(stacks);
}

// Stacks outlive launches: mapping 64 MiB costs more than a small kernel.
char* Stacks() {
  static char* const stacks = MapStacks(nullptr, kMaxThreads, 0);
  return stacks;
}

// ThreadSanitizer forgets what the previous block's lanes did on the same stacks.
void RenewStacks([[maybe_unused]] size_t count) {
#ifdef EPMC_EMULATOR_TSAN
  MapStacks(Stacks(), count, MAP_FIXED);
#endif
}


void RunBlock(Block& block) {
  const unsigned threads = block.size.x;
  block.warps.assign((threads + kWarpSize - 1) / kWarpSize, Warp{});
  block.alive = threads;
  block.shared.clear();
  block.host = Fiber{};
  block.host.identity = OwnIdentity();
  RenewStacks(threads);
  const bool is_reverse = launch_options.order == Order::kReverse;
  block.current_warp = is_reverse ? block.warps.size() - 1 : 0;
  for (unsigned i = 0; i < threads; ++i) {
    Lane& lane = block.lanes[i];
    lane.index = i;
    lane.thread = dim3(i, 0, 0);
    lane.stack = Stacks() + i * kStackNbytes;
    lane.stack_nbytes = kStackNbytes;
    lane.fake_stack = nullptr;
    lane.identity = block.identities.Next();
#ifdef EPMC_EMULATOR_ASAN
    __asan_unpoison_memory_region(lane.stack, lane.stack_nbytes);
#endif
    StartAt(lane, RunLane);
    block.warps[i / kWarpSize].alive |= 1u << i % kWarpSize;
    block.warps[i / kWarpSize].ready |= 1u << i % kWarpSize;
  }
  Fiber& first = NextFiber(block);
  Switch(block.host, first, block.host, /*is_last=*/false);
}

// The k-th block to run. Random order: a stride without common divisor visits each once.
uint64_t BlockAt(uint64_t k, uint64_t blocks) {
  if (launch_options.order == Order::kForward) return k;
  if (launch_options.order == Order::kReverse) return blocks - 1 - k;
  uint64_t stride = (blocks * 5 / 8) | 1;
  while (std::gcd(stride, blocks) != 1) stride += 2;
  return (k * stride + launch_options.seed) % blocks;
}

}  // namespace

Block& CurrentBlock() { return current; }

void SetOptions(const Options& options) {
  std::lock_guard<std::mutex> lock(launch_mutex);
  launch_options = options;
}

void SetError(const std::string& error) { last_error = error; }

std::string TakeError() {
  std::lock_guard<std::mutex> lock(launch_mutex);
  std::string error;
  std::swap(error, last_error);
  return error;
}

void Launch(dim3 grid, dim3 block, const std::function<void()>& lane_body) {
  const Unseen unseen;
  std::lock_guard<std::mutex> lock(launch_mutex);
  if (grid.x == 0 || grid.y != 1 || block.x == 0 || block.x > kMaxThreads || block.y != 1) {
    return SetError("invalid launch: " + std::to_string(grid.x) + " blocks of " +
                    std::to_string(block.x) + " threads");
  }
  current.grid = grid;
  current.size = block;
  current.lanes.assign((block.x + kWarpSize - 1) / kWarpSize * kWarpSize, Lane{});
  current.random = launch_options.seed * 0x9e3779b97f4a7c15ull | 1u;
  current.error.clear();
  current.identities.BeginLaunch();
  current_body = &lane_body;
  for (uint64_t k = 0; k < grid.x && current.error.empty(); ++k) {
    current.index = dim3(static_cast<unsigned>(BlockAt(k, grid.x)), 0, 0);
    RunBlock(current);
  }
  current.identities.EndLaunch(current.error.empty());
  if (!current.error.empty()) SetError(current.error);
}

void* SharedMemoryOf(const void* site, size_t nbytes) {
  const Unseen unseen;
  Block& block = current;
  SharedMemory& memory = block.shared[site];
  if (memory == nullptr) {
    memory.reset(malloc(nbytes));
    memset(memory.get(), kPoison, nbytes);
    if (nbytes > kMaxSharedNbytes) Fail(block, "more than 48 KiB of shared memory");
  }
  return memory.get();
}

uint64_t AskWarp(const Request& request) {
  const Unseen unseen;
  Block& block = current;
  Lane& self = *block.running;
  const uint32_t bit = 1u << self.index % kWarpSize;
  self.request = request;
  block.warps[self.index / kWarpSize].at_warp |= bit;
  if (!(request.mask & bit)) Fail(block, "a lane is not in its own mask");
  Suspend(block);
  return self.result;
}

void AskBlock(const Request& request) {
  const Unseen unseen;
  Block& block = current;
  Lane& self = *block.running;
  self.request = request;
  block.warps[self.index / kWarpSize].at_block |= 1u << self.index % kWarpSize;
  Suspend(block);
}

}  // namespace epmc::emulator

// The tests choose the order: 0 forward, 1 reverse, 2 random.
extern "C" __attribute__((visibility("default"))) void epmc_emulator_set_order(
    int order, uint64_t seed) {
  epmc::emulator::SetOptions({static_cast<epmc::emulator::Order>(order), seed});
}
