// What the tests of the emulated kernels share: a CUDA kernel must give the bytes of the CPU
// kernel of its codec, in three orders of execution. Arrays are heap blocks of their exact
// size: built with AddressSanitizer, an access outside of them ends the test.
#ifndef EPMC_EMULATOR_KERNEL_TEST_H_
#define EPMC_EMULATOR_KERNEL_TEST_H_

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <string>
#include <vector>

#include "xla_ffi/common/cuda_kernel.h"
#include "xla_ffi/common/dither.h"
#include "xla_ffi/common/float_types.h"
#include "xla_ffi/common/layout.h"

namespace epmc::emulator {

struct Shape {
  int64_t rows;
  int64_t elements;
};

// One row and several; aligned rows and others; tails of blocks, tiles, groups.
constexpr Shape kShapes[] = {{1, 1},  {1, 1024}, {1, 5003}, {3, 32},
                             {5, 33}, {2, 1000}, {2, 2048}, {9, 256}};

// EPMC_TEST_CASES = few asks for these, and one order: a race shows in any of them, and
// ThreadSanitizer takes 20 times as long.
constexpr Shape kFewShapes[] = {{5, 33}, {9, 256}};

inline int failures = 0;

inline void Expect(bool condition, const std::string& what) {
  if (condition) return;
  ++failures;
  std::printf("FAILED: %s\n", what.c_str());
}

inline void ExpectNoError(const std::string& what) {
  if (cudaGetLastError() != cudaSuccess) Expect(false, what + ": " + cudaGetErrorString(0));
}

// Bit patterns of all kinds: mostly small numbers; in `has_special` also NaN, infinities,
// subnormal numbers.
inline std::vector<uint8_t> RandomBytes(size_t elements, int element_nbytes, bool has_special) {
  std::vector<uint8_t> bytes(elements * element_nbytes);
  uint32_t state = 12345;
  for (size_t i = 0; i < elements; ++i) {
    state = Mix(state + 1);
    // Exponents around that of 1, as all three types have it in their upper half.
    uint32_t bits = (state & 0x87ffffffu) | 0x38000000u;
    if (element_nbytes == 2) bits = (state & 0x83ff0000u) | 0x3c000000u;
    if (has_special && state % 301 == 0) bits = state << 8;
    if (element_nbytes == 1) bits = (state & 1u) << 24;
    memcpy(&bytes[i * element_nbytes], reinterpret_cast<uint8_t*>(&bits) + 4 - element_nbytes,
           element_nbytes);
  }
  return bytes;
}

inline bool HasFewCases() {
  const char* const cases = std::getenv("EPMC_TEST_CASES");
  return cases != nullptr && std::strcmp(cases, "few") == 0;
}

// Calls `test(what, shape)` for every shape in every order of execution; the exit code of
// the test's main. `what` names both.
template <typename Test>
int RunInAllOrders(const Test& test) {
  constexpr const char* kNames[] = {"forward", "reverse", "random"};
  const bool has_few = HasFewCases();
  std::vector<Order> orders{Order::kRandom};
  if (!has_few) orders = {Order::kForward, Order::kReverse, Order::kRandom};
  std::vector<Shape> shapes(std::begin(kFewShapes), std::end(kFewShapes));
  if (!has_few) shapes.assign(std::begin(kShapes), std::end(kShapes));
  for (Order order : orders) {
    SetOptions({order, 3});
    for (Shape shape : shapes) {
      test(std::string(kNames[static_cast<int>(order)]) + ", " + std::to_string(shape.rows) +
               " x " + std::to_string(shape.elements),
           shape);
    }
  }
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}

}  // namespace epmc::emulator

#endif  // EPMC_EMULATOR_KERNEL_TEST_H_
