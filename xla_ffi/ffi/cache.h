// When a handler has its kernel write past the cache.
#ifndef EPMC_FFI_CACHE_H_
#define EPMC_FFI_CACHE_H_

#include <cstddef>

namespace epmc {

// A result larger than the last cache is written past it: decoding 64 MiB and reading it
// took 3.8 ms so, against 4.9 ms (one thread, 32 MiB of cache); 16 MiB the other way round.
constexpr size_t kCacheNbytes = 32 << 20;

inline bool BypassesCache(size_t result_nbytes) { return result_nbytes >= kCacheNbytes; }

}  // namespace epmc

#endif  // EPMC_FFI_CACHE_H_
