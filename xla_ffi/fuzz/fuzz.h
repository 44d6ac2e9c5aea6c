// What the fuzzers share: parameters and arrays from the fuzzer's input, and results that
// must be the same on every instruction set. A fuzzer is a function, Fuzz, of its codec.
//
// Arrays are heap blocks of their exact size: AddressSanitizer sees an access outside.
#ifndef EPMC_FUZZ_FUZZ_H_
#define EPMC_FUZZ_FUZZ_H_

#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <vector>

#include "xla_ffi/common/check.h"
#include "xla_ffi/common/float_types.h"
#include "xla_ffi/common/layout.h"
#include "xla_ffi/common/test_data.h"

namespace epmc::fuzz {

using Bytes = std::vector<uint8_t>;

struct Shape {
  int64_t rows;
  int64_t elements;
};

class Input {
 public:
  Input(const uint8_t* data, size_t size) : provider_(data, size) {
    for (size_t i = 0; i < size; ++i) checksum_ = (checksum_ ^ data[i]) * 0x01000193u;
  }

  int64_t Number(int64_t least, int64_t most) {
    return provider_.ConsumeIntegralInRange<int64_t>(least, most);
  }

  template <typename T>
  T OneOf(std::initializer_list<T> values) {
    return values.begin()[Number(0, static_cast<int64_t>(values.size()) - 1)];
  }

  FloatType AnyFloatType() {
    return OneOf({FloatType::kF32, FloatType::kBf16, FloatType::kF16});
  }

  // Mostly small, as time goes with the elements: up to `most_elements` in one of 64. Which,
  // no single byte decides: of a large input nearly all mutations would be large too.
  Shape AnyShape(int64_t most_elements) {
    const int64_t most = checksum_ % 64 == 0 ? most_elements : 70;
    return {Number(1, 2), Number(0, most)};
  }

  // The input from `first` on, as often as it takes. Numbers come before the first array.
  Bytes Array(int64_t nbytes, size_t first = 0) {
    if (rest_.empty()) rest_ = provider_.ConsumeRemainingBytes<uint8_t>();
    if (rest_.empty()) rest_ = {0};
    Bytes bytes;
    bytes.reserve(nbytes);
    for (size_t at = first % rest_.size(); bytes.size() < static_cast<size_t>(nbytes); at = 0) {
      const size_t count = std::min(rest_.size() - at, nbytes - bytes.size());
      bytes.insert(bytes.end(), rest_.begin() + at, rest_.begin() + at + count);
    }
    return bytes;
  }

 private:
  FuzzedDataProvider provider_;
  uint32_t checksum_ = 0x811c9dc5u;
  Bytes rest_;
};

inline int NbytesOf(FloatType type) { return type == FloatType::kF32 ? 4 : 2; }

// Which NaN a sum gives is the compiler's choice: all become one.
template <typename T, typename Bits>
void MergeNans(Bytes* bytes, Bits nan) {
  for (size_t i = 0; i + sizeof(T) <= bytes->size(); i += sizeof(T)) {
    T x;
    memcpy(&x, bytes->data() + i, sizeof(T));
    const bool is_nan = (ToFloatBits(x) & 0x7fffffffu) > kExponentMask;
    if (is_nan) memcpy(bytes->data() + i, &nan, sizeof(T));
  }
}

inline void MergeNans(FloatType type, Bytes* bytes) {
  switch (type) {
    case FloatType::kF32:
      return MergeNans<F32>(bytes, uint32_t{kQuietNan});
    case FloatType::kBf16:
      return MergeNans<Bf16>(bytes, uint16_t{0x7fc0});
    case FloatType::kF16:
      return MergeNans<F16>(bytes, uint16_t{0x7e00});
  }
}

// The result, of `nbytes` bytes, of `run(out, isa)`, which every instruction set must agree
// on. Each starts from other bytes: one that is left unwritten differs. `unify(&result)`
// removes what may differ.
template <typename Run, typename Unify>
Bytes OnAllIsas(int64_t nbytes, const Run& run, const Unify& unify) {
  Bytes expected;
  for (Isa isa : RunnableIsas()) {
    Bytes out(nbytes, static_cast<uint8_t>(0xa5 + static_cast<int>(isa)));
    run(out.data(), isa);
    unify(&out);
    if (isa == Isa::kBaseline) expected = out;
    EPMC_CHECK(out == expected);
  }
  return expected;
}

template <typename Run>
Bytes OnAllIsas(int64_t nbytes, const Run& run) {
  return OnAllIsas(nbytes, run, [](Bytes*) {});
}

}  // namespace epmc::fuzz

#define EPMC_FUZZER(function)                                               \
  extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) { \
    ::epmc::fuzz::Input input(data, size);                                  \
    function(input);                                                        \
    return 0;                                                               \
  }

#endif  // EPMC_FUZZ_FUZZ_H_
