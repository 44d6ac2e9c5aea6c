// Inputs of the C++ tests: repeatable, and with the values that go wrong.
#ifndef EPMC_COMMON_TEST_DATA_H_
#define EPMC_COMMON_TEST_DATA_H_

#include <cmath>
#include <cstdint>
#include <vector>

#include "xla_ffi/common/dither.h"
#include "xla_ffi/common/float_types.h"
#include "xla_ffi/common/isa.h"

namespace epmc {

// The instruction sets this processor can run, the baseline first.
inline std::vector<Isa> RunnableIsas() {
  std::vector<Isa> isas{Isa::kBaseline};
  for (Isa isa : {Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Vbmi2}) {
    if (isa <= BestIsa()) isas.push_back(isa);
  }
  return isas;
}

// Numbers around 0, of sizes from 2^-8 to 2^7, every eighth one zero.
inline std::vector<float> MixedFloats(int64_t count, uint32_t seed) {
  std::vector<float> x(count);
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t hash = Mix(seed + static_cast<uint32_t>(i) * 2654435761u);
    const float mantissa = static_cast<float>(hash >> 8) * 0x1p-23f - 1.0f;
    x[i] = (hash & 7u) == 0 ? 0.0f : std::ldexp(mantissa, static_cast<int>(hash & 15u) - 8);
  }
  return x;
}

template <typename T>
std::vector<T> ConvertedTo(const std::vector<float>& x) {
  std::vector<T> converted(x.size());
  for (size_t i = 0; i < x.size(); ++i) FromFloat(x[i], &converted[i]);
  return converted;
}

// An array that starts `offset` bytes behind the start of a cache line, amid bytes that
// must stay as they are.
class PlacedArray {
 public:
  PlacedArray(size_t nbytes, size_t offset) : storage_(nbytes + 4 * 64, kUntouched) {
    const uintptr_t address = reinterpret_cast<uintptr_t>(storage_.data());
    start_ = 64 + (64 - address % 64) + offset;
    end_ = start_ + nbytes;
  }

  uint8_t* data() { return storage_.data() + start_; }

  bool IsUntouchedAround() const {
    for (size_t i = 0; i < storage_.size(); ++i) {
      if ((i < start_ || i >= end_) && storage_[i] != kUntouched) return false;
    }
    return true;
  }

 private:
  static constexpr uint8_t kUntouched = 0xa5;
  std::vector<uint8_t> storage_;
  size_t start_;
  size_t end_;
};

template <typename T>
float AsFloat(T x) {
  return BitsToFloat(ToFloatBits(x));
}

}  // namespace epmc

#endif  // EPMC_COMMON_TEST_DATA_H_
