// Memory as CPU kernels see it: lines that are asked for ahead of their use, and results
// that are written past the cache.
#ifndef EPMC_COMMON_CACHE_LINES_H_
#define EPMC_COMMON_CACHE_LINES_H_

#include <cstdint>

#include "xla_ffi/common/host_device.h"
#include "xla_ffi/common/layout.h"
#include "xla_ffi/common/x86.h"

namespace epmc {

constexpr int kLineNbytes = 64;

// An array that is read once and hardly written for comes faster if its lines are asked for
// this far ahead; so does a group that is read twice, as no load of the next one is on its way
// the second time. BitMask encodes at 2.0 times memcpy in place of 1.75 (Zen 5).
constexpr int kLinesAheadNbytes = 6144;

// Asks for the line that is kLinesAheadNbytes behind `x`, wherever that is: no prefetch
// faults. It goes to the second cache: those on their way to the first are few at a time, and
// loads wait among them (Sapphire Rapids encodes 5 % faster).
EPMC_HD void PrefetchLine(const void* x) {
  constexpr int kForReading = 0, kSecondCache = 2;
  __builtin_prefetch(static_cast<const char*>(x) + kLinesAheadNbytes, kForReading,
                     kSecondCache);
}

EPMC_HD void PrefetchBytes(const void* x, int nbytes) {
  const char* bytes = static_cast<const char*>(x);
  for (int i = 0; i < nbytes; i += kLineNbytes) PrefetchLine(bytes + i);
}

template <typename T>
EPMC_HD void PrefetchBlock(const T* x) {
  PrefetchBytes(x, kBlock * sizeof(T));
}

// Every second line, for a reader that does other work between its blocks: `x` is block
// `block` of many.
template <typename T>
EPMC_HD void PrefetchEvenLines(const T* x, int block) {
  if (kBlock * sizeof(T) > kLineNbytes || block % 2 == 0) PrefetchLine(x);
}

// The others.
template <typename T>
EPMC_HD void PrefetchOddLines(const T* x, int block) {
  if (kBlock * sizeof(T) > kLineNbytes || block % 2 == 1) {
    PrefetchLine(x + kBlock - kLineNbytes / sizeof(T));
  }
}

// Whether `out`, written from here on in whole lines, may be written past the cache.
EPMC_HD bool StartsLine(const void* out) {
  return reinterpret_cast<uintptr_t>(out) % kLineNbytes == 0;
}

// Before others may read what was written past the cache.
EPMC_HD void FinishStreaming() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

}  // namespace epmc

#endif  // EPMC_COMMON_CACHE_LINES_H_
