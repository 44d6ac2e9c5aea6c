#include "xla_ffi/bit_mask/bit_mask.h"
#include "xla_ffi/bit_mask/kernels_cuda.h"
#include "xla_ffi/emulator/kernel_test.h"

namespace epmc::bit_mask {
namespace {

using emulator::Expect;
using emulator::ExpectNoError;

void TestType(const std::string& where, emulator::Shape shape, ElementType type,
              int element_nbytes) {
  const std::string what = where + ", type " + std::to_string(static_cast<int>(type));
  const size_t elements = shape.rows * shape.elements;
  const std::vector<uint8_t> x = emulator::RandomBytes(elements, element_nbytes, true);
  const size_t nbytes = shape.rows * RowNbytes(shape.elements);
  std::vector<uint8_t> expected(nbytes, 1), rows(nbytes, 2);
  const UnitRange blocks{0, shape.rows * NumBlocks(shape.elements)};
  EncodeOnHost({x.data(), expected.data(), type, shape.elements}, blocks);
  LaunchEncode({x.data(), rows.data(), type, shape.elements}, shape.rows, nullptr);
  ExpectNoError(what);
  Expect(rows == expected, what + ": encoded bytes differ");
  std::vector<uint8_t> bits(elements, 3), decoded(elements, 4);
  DecodeOnHost({expected.data(), bits.data(), shape.elements}, blocks);
  LaunchDecode({expected.data(), decoded.data(), shape.elements}, shape.rows, nullptr);
  ExpectNoError(what);
  Expect(decoded == bits, what + ": decoded bytes differ");
}

void TestShape(const std::string& where, emulator::Shape shape) {
  TestType(where, shape, ElementType::kBool, 1);
  TestType(where, shape, ElementType::kF32, 4);
  TestType(where, shape, ElementType::kBf16, 2);
  TestType(where, shape, ElementType::kF16, 2);
}

}  // namespace
}  // namespace epmc::bit_mask

int main() { return epmc::emulator::RunInAllOrders(epmc::bit_mask::TestShape); }
