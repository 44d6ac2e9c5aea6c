// Functions for a number of planes that the compiler knows, by that number at run time.
#ifndef EPMC_SPARSE_FIXED_RATE_PLANES_H_
#define EPMC_SPARSE_FIXED_RATE_PLANES_H_

#include <cstdint>
#include <utility>

#include "xla_ffi/sparse_fixed_rate/sparse_fixed_rate.h"

namespace epmc::sparse_fixed_rate {

template <typename Planes, int... kPlanes>
void StorePlanes(int planes, const uint16_t* codes, int blocks, uint8_t* out,
                 std::integer_sequence<int, kPlanes...>) {
  using Store = void (*)(const uint16_t*, int, uint8_t*);
  static constexpr Store kStores[] = {&Planes::template Store<kPlanes>...};
  kStores[planes](codes, blocks, out);
}

template <typename Planes, int... kPlanes>
void LoadPlanes(int planes, const uint8_t* in, int blocks, uint16_t* codes,
                std::integer_sequence<int, kPlanes...>) {
  using Load = void (*)(const uint8_t*, int, uint16_t*);
  static constexpr Load kLoads[] = {&Planes::template Load<kPlanes>...};
  kLoads[planes](in, blocks, codes);
}

// Calls `Planes::Store<planes>(codes, blocks, out)`.
template <typename Planes>
void StorePlanes(int planes, const uint16_t* codes, int blocks, uint8_t* out) {
  using Numbers = std::make_integer_sequence<int, kMaxCodeBits + 1>;
  StorePlanes<Planes>(planes, codes, blocks, out, Numbers());
}

// Calls `Planes::Load<planes>(in, blocks, codes)`.
template <typename Planes>
void LoadPlanes(int planes, const uint8_t* in, int blocks, uint16_t* codes) {
  using Numbers = std::make_integer_sequence<int, kMaxCodeBits + 1>;
  LoadPlanes<Planes>(planes, in, blocks, codes, Numbers());
}

}  // namespace epmc::sparse_fixed_rate

#endif  // EPMC_SPARSE_FIXED_RATE_PLANES_H_
