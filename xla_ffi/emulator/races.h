// What ThreadSanitizer is told, where a test is built with it: each lane is a thread, and
// only barriers order what lanes do. Without it, all of this is nothing.
//
// Shuffles, votes and reductions exchange values but order no memory: CUDA promises that of
// __syncthreads and __syncwarp alone.
#ifndef EPMC_EMULATOR_RACES_H_
#define EPMC_EMULATOR_RACES_H_

#include <cstddef>
#include <vector>

#if defined(__SANITIZE_THREAD__)
#define EPMC_EMULATOR_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define EPMC_EMULATOR_TSAN 1
#endif
#endif

#ifdef EPMC_EMULATOR_TSAN

#include <cstdlib>

extern "C" {
void* __tsan_create_fiber(unsigned flags);
void* __tsan_get_current_fiber();
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}

// A function that changes the thread must not tell ThreadSanitizer where it starts and ends:
// it would start in one thread, and end in another.
#define EPMC_UNINSTRUMENTED __attribute__((no_sanitize("thread"), noinline))

namespace epmc::emulator {

// While it lives, the accesses of the running lane are the emulator's, not the kernel's.
class Unseen {
 public:
  Unseen() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~Unseen() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
  Unseen(const Unseen&) = delete;
  Unseen& operator=(const Unseen&) = delete;
};

inline void* OwnIdentity() { return __tsan_get_current_fiber(); }

// The switch itself orders nothing.
EPMC_UNINSTRUMENTED inline void Become(void* identity) {
  constexpr unsigned kNoSync = 1;
  __tsan_switch_to_fiber(identity, kNoSync);
}

// The threads that ThreadSanitizer takes the lanes of a launch for: one for every lane of
// every block, so that blocks race with one another. The next launch has them again, as
// all before it is over: making them anew took 20 times as long as all else. libtsan dies of
// the 8129th, so a large launch shares them among blocks that are far from one another.
class Identities {
 public:
  void BeginLaunch() {
    used_ = 0;
    __tsan_release(&begin_);
  }
  void* Next() {
    if (used_ == kMax) used_ = 0;
    if (used_ == all_.size()) all_.push_back(__tsan_create_fiber(0));
    return all_[used_++];
  }
  void LaneBegins() { __tsan_acquire(&begin_); }
  void LaneEnds() { __tsan_release(&end_); }
  void EndLaunch(bool all_lanes_ended) {
    __tsan_acquire(&end_);
    if (!all_lanes_ended) all_.clear();  // some are in the middle of a kernel for ever
  }

 private:
  static constexpr size_t kMax = 8000;
  std::vector<void*> all_;
  size_t used_ = 0;
  char begin_ = 0;
  char end_ = 0;
};

// What any of the lanes did before it comes before what any of them does after. All have
// arrived and none has left, so that it orders exactly that.
EPMC_UNINSTRUMENTED inline void OrderMemory(void* const* identities, size_t count) {
  void* const self = __tsan_get_current_fiber();
  void* const barrier = malloc(1);  // new each time: it remembers no other lanes
  for (size_t i = 0; i < count; ++i) {
    Become(identities[i]);
    __tsan_release(barrier);
  }
  for (size_t i = 0; i < count; ++i) {
    Become(identities[i]);
    __tsan_acquire(barrier);
  }
  Become(self);
  free(barrier);
}

}  // namespace epmc::emulator

#else

#define EPMC_UNINSTRUMENTED

namespace epmc::emulator {

struct [[maybe_unused]] Unseen {};

inline void* OwnIdentity() { return nullptr; }
inline void Become(void*) {}

class Identities {
 public:
  void BeginLaunch() {}
  void* Next() { return nullptr; }
  void LaneBegins() {}
  void LaneEnds() {}
  void EndLaunch(bool) {}
};

inline void OrderMemory(void* const*, size_t) {}

}  // namespace epmc::emulator

#endif

#endif  // EPMC_EMULATOR_RACES_H_
