// Accesses of 16 bytes, the widest of a GPU thread, or of 8; and what to do where rows forbid
// them.
#ifndef EPMC_COMMON_CUDA_MEMORY_H_
#define EPMC_COMMON_CUDA_MEMORY_H_

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "xla_ffi/common/cuda_kernel.h"

namespace epmc {

// An element of two bytes that is accessed by 8 bytes: a warp then takes 128, not 256.
template <typename T>
struct Short : T {};

template <typename T>
constexpr int kVectorBytes = 16;
template <typename T>
constexpr int kVectorBytes<Short<T>> = 8;

// What one access moves, as elements and as words.
template <typename T>
struct alignas(kVectorBytes<T>) Vector {
  static constexpr int kElements = kVectorBytes<T> / sizeof(T);
  T elements[kElements];
};
template <typename T>
using VectorWords = std::conditional_t<kVectorBytes<T> == 16, uint4, uint2>;

// Loads `count` elements, at most a vector; zeros behind them. `is_aligned`: the address is
// a multiple of the vector's bytes (the same for all threads of a launch). If it is not, the
// neighbouring loads of a warp share their sectors through the first cache, and only
// instructions are lost.
template <typename T>
__device__ __forceinline__ Vector<T> LoadVector(const T* from, int64_t count,
                                                bool is_aligned) {
  Vector<T> vector = {};
  if (is_aligned && count >= Vector<T>::kElements) {
    const auto words = __ldg(reinterpret_cast<const VectorWords<T>*>(from));
    memcpy(&vector, &words, sizeof(vector));
    return vector;
  }
#pragma unroll
  for (int i = 0; i < Vector<T>::kElements; ++i) {
    if (i < count) vector.elements[i] = from[i];
  }
  return vector;
}

template <typename T>
__device__ __forceinline__ void StoreVector(const Vector<T>& vector, T* to, int64_t count,
                                            bool is_aligned) {
  if (is_aligned && count >= Vector<T>::kElements) {
    VectorWords<T> words;
    memcpy(&words, &vector, sizeof(words));
    // An assignment may become four stores of 4 bytes, which touch every sector four times.
    __stwb(reinterpret_cast<VectorWords<T>*>(to), words);
    return;
  }
#pragma unroll
  for (int i = 0; i < Vector<T>::kElements; ++i) {
    if (i < count) to[i] = vector.elements[i];
  }
}

// True if every row of `row_elements` elements from `base` on starts at 16 bytes.
template <typename T>
bool HasAlignedRows(const void* base, int64_t num_rows, int64_t row_elements) {
  const bool base_is_aligned = reinterpret_cast<uintptr_t>(base) % 16 == 0;
  return base_is_aligned && (num_rows == 1 || row_elements * sizeof(T) % 16 == 0);
}

}  // namespace epmc

#endif  // EPMC_COMMON_CUDA_MEMORY_H_
