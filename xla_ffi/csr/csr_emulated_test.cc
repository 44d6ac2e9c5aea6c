#include "xla_ffi/csr/csr.h"
#include "xla_ffi/csr/kernels_cuda.h"
#include "xla_ffi/emulator/kernel_test.h"

namespace epmc::csr {
namespace {

using emulator::Expect;
using emulator::ExpectNoError;

constexpr uint32_t kTestNan = 0x7fc1u;

// Random elements, of which `keep` in 8 stay and the others become zeros of both signs.
std::vector<uint8_t> SparseBytes(size_t elements, int element_nbytes, uint32_t keep) {
  std::vector<uint8_t> x = emulator::RandomBytes(elements, element_nbytes, true);
  for (size_t i = 0; i < elements; ++i) {
    if (Mix(static_cast<uint32_t>(i)) % 8 < keep) continue;
    memset(&x[i * element_nbytes], 0, element_nbytes);
    if (i % 2 == 0) x[(i + 1) * element_nbytes - 1] = 0x80;
  }
  return x;
}

void TestRows(const std::string& where, emulator::Shape shape, int element_nbytes,
              double capacity, uint32_t keep) {
  const std::string what = where + ", bytes " + std::to_string(element_nbytes) +
                           ", capacity " + std::to_string(capacity) + ", " +
                           std::to_string(keep) + " in 8";
  const size_t elements = shape.rows * shape.elements;
  const std::vector<uint8_t> x = SparseBytes(elements, element_nbytes, keep);
  const RowLayout layout = LayoutOf(shape.elements, element_nbytes, capacity);
  const UnitRange all{0, shape.rows};
  std::vector<uint8_t> expected(shape.rows * layout.nbytes, 1), rows(expected.size(), 2);
  EncodeOnHost({x.data(), expected.data(), layout}, all);
  LaunchEncode({x.data(), rows.data(), layout}, shape.rows, nullptr);
  ExpectNoError(what);
  Expect(rows == expected, what + ": encoded bytes differ");
  std::vector<uint8_t> y(x.size(), 3), decoded(x.size(), 4);
  DecodeOnHost({expected.data(), y.data(), layout, kTestNan}, all);
  LaunchDecode({expected.data(), decoded.data(), layout, kTestNan}, shape.rows, nullptr);
  ExpectNoError(what);
  Expect(decoded == y, what + ": decoded bytes differ");
#ifndef EPMC_EMULATOR_TSAN  // equal indices race, and any of their values is as good
  // Indices that no encoder writes: nothing outside of the row is written.
  for (size_t i = 4; i < expected.size(); i += 3) expected[i] = static_cast<uint8_t>(Mix(i));
  LaunchDecode({expected.data(), decoded.data(), layout, kTestNan}, shape.rows, nullptr);
  ExpectNoError(what);
#endif
}

void TestShape(const std::string& where, emulator::Shape shape) {
  for (int element_nbytes : {2, 4}) {
    for (double capacity : {0.3, 1.0}) {
      for (uint32_t keep : {1u, 6u}) {
        TestRows(where, shape, element_nbytes, capacity, keep);
      }
    }
    TestRows(where, {2, 66000}, element_nbytes, 0.01, 0);
  }
}

}  // namespace
}  // namespace epmc::csr

int main() { return epmc::emulator::RunInAllOrders(epmc::csr::TestShape); }
