#include "xla_ffi/emulator/kernel_test.h"
#include "xla_ffi/sparse_fixed_rate/kernels_cuda.h"
#include "xla_ffi/sparse_fixed_rate/sparse_fixed_rate.h"

namespace epmc::sparse_fixed_rate {
namespace {

using emulator::Expect;
using emulator::ExpectNoError;

// Random elements of which about `keep` in 8 stay, more in some stretches than in others; the
// others become zeros of both signs.
std::vector<uint8_t> SparseBytes(size_t elements, int element_nbytes, uint32_t keep,
                                 bool has_special) {
  std::vector<uint8_t> x = emulator::RandomBytes(elements, element_nbytes, has_special);
  for (size_t i = 0; i < elements; ++i) {
    const uint32_t here = keep + Mix(static_cast<uint32_t>(i / 300)) % 5;
    if (Mix(static_cast<uint32_t>(i)) % 8 + 2 < here) continue;
    memset(&x[i * element_nbytes], 0, element_nbytes);
    if (i % 2 == 0) x[(i + 1) * element_nbytes - 1] = 0x80;
  }
  return x;
}

// Decodes with the CUDA kernels, and with those of the CPU, to the array and to a mask.
void TestDecode(const std::string& what, emulator::Shape shape, FloatType type, Format format,
                const std::vector<uint8_t>& rows) {
  const int element_nbytes = type == FloatType::kF32 ? 4 : 2;
  const size_t elements = shape.rows * shape.elements;
  const UnitRange pools{0, shape.rows * LayoutOf(shape.elements, format).pools};
  std::vector<uint8_t> y(elements * element_nbytes, 3), decoded(y.size(), 4);
  DecodeOnHost({rows.data(), y.data(), type, shape.elements, format}, pools);
  LaunchDecode({rows.data(), decoded.data(), type, shape.elements, format}, shape.rows, nullptr);
  ExpectNoError(what);
  Expect(decoded == y, what + ": decoded bytes differ");
  std::vector<uint8_t> expected(elements, 5), mask(elements, 6);
  const int value_bits = 8 * element_nbytes;
  MaskOnHost({rows.data(), expected.data(), value_bits, shape.elements, format}, pools);
  LaunchMask({rows.data(), mask.data(), value_bits, shape.elements, format}, shape.rows, nullptr);
  ExpectNoError(what);
  Expect(mask == expected, what + ": masks differ");
}

void TestFormat(const std::string& where, emulator::Shape shape, FloatType type, Format format,
                uint32_t keep, bool is_stochastic) {
  const std::string what = where + ", type " + std::to_string(static_cast<int>(type)) +
                           ", group " + std::to_string(format.group_size) + ", payload " +
                           std::to_string(format.payload_nbytes) + ", " + std::to_string(keep) +
                           " in 8";
  const int element_nbytes = type == FloatType::kF32 ? 4 : 2;
  const size_t elements = shape.rows * shape.elements;
  const std::vector<uint8_t> x = SparseBytes(elements, element_nbytes, keep, is_stochastic);
  const RowLayout layout = LayoutOf(shape.elements, format);
  const UnitRange pools{0, shape.rows * layout.pools};
  std::vector<uint8_t> expected(shape.rows * layout.nbytes, 1), rows(expected.size(), 2);
  EncodeOnHost({x.data(), expected.data(), type, shape.elements, format, is_stochastic, 77}, pools);
  LaunchEncode({x.data(), rows.data(), type, shape.elements, format, is_stochastic, 77},
               shape.rows, nullptr);
  ExpectNoError(what);
  Expect(rows == expected, what + ": encoded bytes differ");
  TestDecode(what, shape, type, format, expected);
  // Bytes that no encoder writes: other flags, another number of values.
  for (size_t i = 0; i < expected.size(); i += 3) expected[i] = static_cast<uint8_t>(Mix(i));
  TestDecode(what + ", no encoder's bytes", shape, type, format, expected);
}

void TestType(const std::string& where, emulator::Shape shape, FloatType type) {
  TestFormat(where, shape, type, {512, 6144}, 4, false);
  TestFormat(where, shape, type, {64, 6144}, 0, true);
  TestFormat(where, shape, type, {128, 32768}, 3, false);
  TestFormat(where, shape, type, {256, 16}, 8, true);
  TestFormat(where, shape, type, {1024, 1536}, 6, true);
}

void TestShape(const std::string& where, emulator::Shape shape) {
  TestType(where, shape, FloatType::kBf16);
  if (emulator::HasFewCases()) return;
  TestType(where, shape, FloatType::kF32);
  TestType(where, shape, FloatType::kF16);
  if (shape.rows != 3) return;
  // More than one pool, and the widest codes.
  for (uint32_t keep : {1u, 4u, 8u}) {
    TestFormat(where, {2, 20000}, FloatType::kBf16, {512, 6144}, keep, true);
    TestFormat(where, {1, 33001}, FloatType::kF32, {256, 32768}, keep, false);
  }
}

}  // namespace
}  // namespace epmc::sparse_fixed_rate

int main() { return epmc::emulator::RunInAllOrders(epmc::sparse_fixed_rate::TestShape); }
