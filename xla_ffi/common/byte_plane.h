// One bit of each of 32 bytes, as a word: what a GPU's ballot does, on the host.
#ifndef EPMC_COMMON_BYTE_PLANE_H_
#define EPMC_COMMON_BYTE_PLANE_H_

#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "xla_ffi/common/host_device.h"

namespace epmc {

// Bit `bit` of byte i becomes bit i.
EPMC_HD uint32_t BytePlane(const uint8_t* bytes, int bit) {
#if defined(__SSE2__)
  // In 16-bit lanes: bits cross from one byte to the next, but not into its highest bit.
  const __m128i shift = _mm_cvtsi32_si128(7 - bit);
  const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
  const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + 16));
  const uint32_t low_bits = _mm_movemask_epi8(_mm_sll_epi16(low, shift));
  const uint32_t high_bits = _mm_movemask_epi8(_mm_sll_epi16(high, shift));
  return low_bits | high_bits << 16;
#else
  uint32_t word = 0;
  for (int i = 0; i < 4; ++i) {
    uint64_t eight;
    memcpy(&eight, bytes + 8 * i, 8);
    // The factor moves bit 8 j to bit 56 + j, and what it adds elsewhere does not carry.
    const uint64_t bits = (eight >> bit & 0x0101010101010101u) * 0x0102040810204080u;
    word |= static_cast<uint32_t>(bits >> 56) << (8 * i);
  }
  return word;
#endif
}

}  // namespace epmc

#endif  // EPMC_COMMON_BYTE_PLANE_H_
