// How the elements and the codes of a group lie in the lanes of a warp.
#ifndef EPMC_GROUP_QUANT_GROUP_QUANT_LANES_H_
#define EPMC_GROUP_QUANT_GROUP_QUANT_LANES_H_

#include <cstdint>

#include "xla_ffi/common/cuda_memory.h"
#include "xla_ffi/group_quant/group_quant.h"

namespace epmc::group_quant {

template <typename T>
constexpr int kCodeWords = Vector<T>::kElements / 4;  // codes of one load, a byte each
template <typename T>
constexpr int kLanesPerBlock = kBlock / Vector<T>::kElements;

// Load j of lane l of the kLanes lanes that have a group.
template <typename T, int kLanes>
struct LanePlaces {
  // Its first element, in the group.
  static __device__ __forceinline__ int First(int load, int lane) {
    return (load * kLanes + lane) * Vector<T>::kElements;
  }
};

// The least of the keys of the kLanes neighbours that a lane is one of.
template <int kLanes>
__device__ __forceinline__ int32_t MinOfLanes(int32_t key) {
  if constexpr (kLanes == kWarpThreads) {
    return __reduce_min_sync(kAllLanes, key);
  } else {
#pragma unroll
    for (int d = 1; d < kLanes; d *= 2) {
      const int32_t other = __shfl_xor_sync(kAllLanes, key, d);
      key = other < key ? other : key;
    }
    return key;
  }
}

// --- Fields: 2, 4 or 8 bits of each code ------------------------------------------------

// The fields of a load in the bytes of their block: that of element p is in byte
// p % kBlockBytes, and p / kBlockBytes fields are below it.
template <typename T, int kFieldBits>
struct LaneFields {
  static constexpr int kBlockBytes = 4 * kFieldBits;
  static constexpr int kLanesPerBytes = kBlockBytes / Vector<T>::kElements;  // share none

  int block;  // of the group
  int place;  // of the lane's first element, in its block

  __device__ __forceinline__ explicit LaneFields(int element)
      : block(element / kBlock), place(element % kBlock) {}

  __device__ __forceinline__ int byte() const {
    return block * kBlockBytes + place % kBlockBytes;
  }
  __device__ __forceinline__ int shift() const { return place / kBlockBytes * kFieldBits; }
};

// kWords words at once: 4 bytes, or 8.
template <int kWords>
__device__ __forceinline__ void StoreWords(const uint32_t* words, uint8_t* to) {
  if (kWords == 1) {
    *reinterpret_cast<uint32_t*>(to) = words[0];
  } else {
    __stwb(reinterpret_cast<uint2*>(to), uint2{words[0], words[kWords - 1]});
  }
}

template <int kWords>
__device__ __forceinline__ void LoadWords(const uint8_t* from, uint32_t* words) {
  if (kWords == 1) {
    words[0] = *reinterpret_cast<const uint32_t*>(from);
  } else {
    const uint2 pair = __ldg(reinterpret_cast<const uint2*>(from));
    words[0] = pair.x;
    words[kWords - 1] = pair.y;
  }
}

// `codes`: of each load, in a group of `count` elements. The lanes of a block that share its
// bytes have the same words then: each stores those of another load, so that one store of a
// warp fills sectors.
template <typename T, int kBitWidth, int kLoads, int kLanes>
__device__ __forceinline__ void StoreFields(const uint32_t (*codes)[kCodeWords<T>], int lane,
                                            int count, uint8_t* fields) {
  using Places = LanePlaces<T, kLanes>;
  using Fields = LaneFields<T, FieldBits(kBitWidth)>;
  constexpr int kSharers = kLanesPerBlock<T> / Fields::kLanesPerBytes;
  constexpr uint32_t kMask = PlaneBits(kBitWidth) ? 0x03030303u : 0xffffffffu;
  const int sharer = Fields(Places::First(0, lane)).place / Fields::kBlockBytes;
#pragma unroll
  for (int first = 0; first < kLoads; first += kSharers) {
    uint32_t own[kCodeWords<T>];
#pragma unroll
    for (int j = first; j < first + kSharers && j < kLoads; ++j) {
#pragma unroll
      for (int k = 0; k < kCodeWords<T>; ++k) {
        uint32_t word = (codes[j][k] & kMask) << Fields(Places::First(j, lane)).shift();
#pragma unroll
        for (int d = Fields::kLanesPerBytes; d < kLanesPerBlock<T>; d *= 2) {
          word |= __shfl_xor_sync(kAllLanes, word, d);
        }
        if (j == first || j - first == sharer) own[k] = word;
      }
    }
    const int load = first + sharer;
    const Fields place(Places::First(load, lane));
    if (load < kLoads && place.block * kBlock < count) {
      StoreWords<kCodeWords<T>>(own, fields + place.byte());
    }
  }
}

template <typename T, int kBitWidth>
__device__ __forceinline__ void LoadFields(const uint8_t* fields, int element, int count,
                                           uint32_t* words) {
  if constexpr (FieldBits(kBitWidth) != 0) {
    const LaneFields<T, FieldBits(kBitWidth)> lane(element);
    if (lane.block * kBlock < count) LoadWords<kCodeWords<T>>(fields + lane.byte(), words);
  }
}

// The field of element `i` of the load, from what LoadFields gave.
template <typename T, int kFieldBits>
__device__ __forceinline__ uint32_t FieldOf(const uint32_t* words, int element, int i) {
  if constexpr (kFieldBits != 0) {
    const int shift = LaneFields<T, kFieldBits>(element).shift() + i % 4 * 8;
    return words[i / 4] >> shift & ((1u << kFieldBits) - 1);
  }
  return 0;
}

// --- The plane: the top bit of each code ------------------------------------------------

// Bit `bit` of each byte of a load's codes, the first in bit 0.
template <typename T>
__device__ __forceinline__ uint32_t BitsOfBytes(const uint32_t* codes, int bit) {
  uint32_t bits = 0;
#pragma unroll
  for (int k = 0; k < kCodeWords<T>; ++k) {
    // The factor moves bit 8 j to bit 24 + j, and what it adds elsewhere does not carry.
    bits |= ((codes[k] >> bit & 0x01010101u) * 0x01020408u >> 24) << 4 * k;
  }
  return bits;
}

// The word of the plane that a lane stores and loads: of its block in load l % kLoads. So
// the words of a group are one access.
template <typename T, int kLoads, int kLanes>
struct LaneWord {
  static_assert(kLoads <= kLanesPerBlock<T>, "a lane has one word at most");
  int block;  // of the group
  bool is_used;

  __device__ __forceinline__ LaneWord(int lane, int count)
      : block(lane % kLoads * (kLanes / kLanesPerBlock<T>) + lane / kLanesPerBlock<T>),
        is_used(lane % kLanesPerBlock<T> < kLoads && block * kBlock < count) {}
};

// `bits`: those of each load of this lane. Two lanes exchange what the other goes on with:
// a group of 256 floats costs 3 shuffles, one of 1024 7, instead of 3 for each load.
template <typename T, int kLoads, int kLanes>
__device__ __forceinline__ void StorePlane(uint32_t* bits, int lane, int count,
                                           uint8_t* plane) {
#pragma unroll
  for (int j = 0; j < kLoads; ++j) {
    bits[j] <<= lane % kLanesPerBlock<T> * Vector<T>::kElements;
  }
#pragma unroll
  for (int d = 1; d < kLanesPerBlock<T>; d *= 2) {
    if (d >= kLoads) bits[0] |= __shfl_xor_sync(kAllLanes, bits[0], d);
#pragma unroll
    for (int k = 0; k < kLoads / (2 * d); ++k) {
      const bool has_odd = lane & d;
      const uint32_t sent = has_odd ? bits[2 * k] : bits[2 * k + 1];
      const uint32_t kept = has_odd ? bits[2 * k + 1] : bits[2 * k];
      bits[k] = kept | __shfl_xor_sync(kAllLanes, sent, d);
    }
  }
  const LaneWord<T, kLoads, kLanes> word(lane, count);
  if (word.is_used) reinterpret_cast<uint32_t*>(plane)[word.block] = bits[0];
}

template <typename T, int kLoads>
__device__ __forceinline__ uint32_t LoadPlane(const uint8_t* plane, int lane, int count) {
  const LaneWord<T, kLoads, kWarpThreads> word(lane, count);
  return word.is_used ? reinterpret_cast<const uint32_t*>(plane)[word.block] : 0;
}

// The top bits of this lane's load `j`, from what LoadPlane gave its warp.
template <typename T, int kBitWidth>
__device__ __forceinline__ uint32_t TopBits(uint32_t plane_word, int j, int lane) {
  if (!PlaneBits(kBitWidth)) return 0;
  const int in_block = lane % kLanesPerBlock<T>;
  const uint32_t word = __shfl_sync(kAllLanes, plane_word, lane - in_block + j);
  return word >> in_block * Vector<T>::kElements;
}

// --- Both -------------------------------------------------------------------------------

// `codes`: of each load, in a group of `count` elements; 0: nothing is stored.
template <typename T, int kBitWidth, int kLoads, int kLanes>
__device__ __forceinline__ void StoreCodes(const uint32_t (*codes)[kCodeWords<T>], int lane,
                                           int count, CodePlace<uint8_t> to) {
  if constexpr (FieldBits(kBitWidth) != 0) {
    StoreFields<T, kBitWidth, kLoads, kLanes>(codes, lane, count, to.fields);
  }
  if constexpr (PlaneBits(kBitWidth)) {
    uint32_t top_bits[kLoads];
#pragma unroll
    for (int j = 0; j < kLoads; ++j) top_bits[j] = BitsOfBytes<T>(codes[j], kBitWidth - 1);
    StorePlane<T, kLoads, kLanes>(top_bits, lane, count, to.plane);
  }
}

}  // namespace epmc::group_quant

#endif  // EPMC_GROUP_QUANT_GROUP_QUANT_LANES_H_
