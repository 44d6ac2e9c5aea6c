// Shuffles, ballots, reductions: answered once all lanes of the mask ask the same.
#include <cstdio>

#include "xla_ffi/emulator/block.h"

namespace epmc::emulator {
namespace {

// What a shuffle gives for a lane that does not take part: undefined on a device.
constexpr uint64_t kUndefined = 0xdbdbdbdbdbdbdbdbull;

template <typename Body>
void ForLanes(uint32_t lanes, const Body& body) {
  for (; lanes != 0; lanes &= lanes - 1) body(__builtin_ctz(lanes));
}

int32_t AsInt(uint64_t value) { return static_cast<int32_t>(static_cast<uint32_t>(value)); }

uint32_t VotesOf(const Lane* lanes, uint32_t group) {
  uint32_t votes = 0;
  ForLanes(group, [&](int i) { votes |= (lanes[i].request.value != 0 ? 1u : 0u) << i; });
  return votes;
}

uint64_t Reduce(const Lane* lanes, uint32_t group) {
  uint64_t result = lanes[__builtin_ctz(group)].request.value;
  ForLanes(group, [&](int i) {
    const Request& request = lanes[i].request;
    const bool is_less = AsInt(request.value) < AsInt(result);
    if (is_less == (request.op == Op::kReduceMin)) result = request.value;
  });
  return result;
}

void Answer(Lane* lanes, uint32_t group) {
  const uint32_t votes = VotesOf(lanes, group);
  const uint64_t reduced = Reduce(lanes, group);
  ForLanes(group, [&](int i) {
    Lane& lane = lanes[i];
    const int argument = lane.request.argument;
    const int source = (lane.request.op == Op::kShuffle ? argument : i ^ argument) & 31;
    switch (lane.request.op) {
      case Op::kSyncWarp:
      case Op::kSyncThreads:
        break;
      case Op::kBallot:
        lane.result = votes;
        break;
      case Op::kShuffle:
      case Op::kShuffleXor:
        lane.result = group >> source & 1u ? lanes[source].request.value : kUndefined;
        break;
      case Op::kReduceMin:
      case Op::kReduceMax:
        lane.result = reduced;
        break;
    }
  });
}

}  // namespace

const char* NameOf(Op op) {
  constexpr const char* kNames[] = {
      "__syncwarp",        "__ballot_sync",     "__shfl_sync",  "__shfl_xor_sync",
      "__reduce_min_sync", "__reduce_max_sync", "__syncthreads"};
  return kNames[static_cast<int>(op)];
}

bool AnswerWarp(Block& block, unsigned index) {
  Warp& warp = block.warps[index];
  Lane* lanes = &block.lanes[index * kWarpSize];
  bool answered = false;
  for (uint32_t left = warp.at_warp; left != 0;) {
    const Request& first = lanes[__builtin_ctz(left)].request;
    uint32_t same_mask = 0;
    uint32_t same_request = 0;
    ForLanes(left, [&](int i) {
      const Request& other = lanes[i].request;
      same_mask |= (other.mask == first.mask ? 1u : 0u) << i;
      same_request |= (other == first ? 1u : 0u) << i;
    });
    left &= ~same_mask;
    if (same_mask != (first.mask & warp.alive)) continue;
    if (same_request != same_mask) {
      Fail(block, "lanes of one mask execute different warp intrinsics");
      return false;
    }
    if (first.op == Op::kSyncWarp) {
      OrderMemoryOf(block, [&](const Lane& lane) {
        return lane.index / kWarpSize == index && (same_mask >> lane.index % kWarpSize & 1u);
      });
    }
    Answer(lanes, same_mask);
    warp.at_warp &= ~same_mask;
    warp.ready |= same_mask;
    answered = true;
  }
  return answered;
}

void Fail(Block& block, const std::string& what) {
  if (!block.error.empty()) return;
  block.error = "block (" + std::to_string(block.index.x) + ", " +
                std::to_string(block.index.y) + "): " + what;
  constexpr int kMaxShown = 6;
  int shown = 0;
  for (const Lane& lane : block.lanes) {
    const Warp& warp = block.warps[lane.index / kWarpSize];
    const bool waits = (warp.at_warp | warp.at_block) >> lane.index % kWarpSize & 1u;
    if (!waits || ++shown > kMaxShown) continue;
    char text[96];
    std::snprintf(text, sizeof(text), "; thread %u waits in %s, mask %08x, line %d", lane.index,
                  NameOf(lane.request.op), lane.request.mask, lane.request.line);
    block.error += text;
  }
}

}  // namespace epmc::emulator
