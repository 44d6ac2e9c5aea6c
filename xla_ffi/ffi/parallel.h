// Splits work over XLA's own intra-op threads; no thread is started here.
#ifndef EPMC_FFI_PARALLEL_H_
#define EPMC_FFI_PARALLEL_H_

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>

#include "xla/ffi/api/ffi.h"
#include "xla_ffi/common/layout.h"

namespace epmc {

// A chunk is large enough that taking it (about 1 us) does not count, and small enough
// that threads that start late still get a share.
constexpr int64_t kChunkBytes = 256 << 10;

// Chunks 0 ... count - 1, each taken once, by whoever comes.
class ChunkQueue {
 public:
  explicit ChunkQueue(int64_t count) : count_(count) {}

  template <typename Body>
  void Drain(const Body& body) {
    for (int64_t chunk; (chunk = next_.fetch_add(1)) < count_;) {
      body(chunk);
      if (done_.fetch_add(1) + 1 == count_) {
        std::lock_guard<std::mutex> lock(mutex_);
        finished_.notify_all();
      }
    }
  }

  void WaitUntilDone() {
    std::unique_lock<std::mutex> lock(mutex_);
    finished_.wait(lock, [this] { return done_.load() == count_; });
  }

 private:
  const int64_t count_;
  std::atomic<int64_t> next_{0};
  std::atomic<int64_t> done_{0};
  std::mutex mutex_;
  std::condition_variable finished_;
};

// Calls `body(UnitRange)` for all of 0 ... num_units - 1, in parallel if `nbytes`, the
// bytes read and written by all units, is worth it.
//
// It cannot deadlock when every thread of the pool is busy, here or in another call: the
// caller takes chunks itself, and waits only for chunks that a running thread has taken.
// A task that starts after that finds no chunk, and does not touch `body`, which is gone.
template <typename Body>
void ParallelFor(::xla::ffi::ThreadPool& pool, int64_t num_units, int64_t nbytes,
                 const Body& body) {
  const int64_t chunks = std::min(num_units, CeilDiv(nbytes, kChunkBytes));
  const int64_t helpers = std::min<int64_t>(pool.num_threads(), chunks) - 1;
  if (helpers <= 0) {
    if (num_units > 0) body(UnitRange{0, num_units});
    return;
  }
  const auto run_chunk = [&body, num_units, chunks](int64_t chunk) {
    body(UnitRange{num_units * chunk / chunks, num_units * (chunk + 1) / chunks});
  };
  auto queue = std::make_shared<ChunkQueue>(chunks);
  for (int64_t i = 0; i < helpers; ++i) {
    pool.Schedule([queue, work = &run_chunk] { queue->Drain(*work); });
  }
  queue->Drain(run_chunk);
  queue->WaitUntilDone();
}

}  // namespace epmc

#endif  // EPMC_FFI_PARALLEL_H_
