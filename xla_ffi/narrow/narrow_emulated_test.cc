#include "xla_ffi/emulator/kernel_test.h"
#include "xla_ffi/narrow/kernels_cuda.h"
#include "xla_ffi/narrow/narrow.h"

namespace epmc::narrow {
namespace {

using emulator::Expect;
using emulator::ExpectNoError;

void TestFormat(const std::string& where, emulator::Shape shape, FloatType type,
                Format format) {
  const std::string what = where + ", type " + std::to_string(static_cast<int>(type)) +
                           ", value " + std::to_string(static_cast<int>(format.value)) +
                           ", group " + std::to_string(format.group_size);
  const int element_nbytes = type == FloatType::kF32 ? 4 : 2;
  const int value_nbytes = format.value == ValueType::kBf16 ? 2 : 1;
  const size_t elements = shape.rows * shape.elements;
  const std::vector<uint8_t> x = emulator::RandomBytes(elements, element_nbytes, true);
  const RowLayout layout = LayoutOf(shape.elements, value_nbytes, format.group_size);
  const UnitRange groups{0, shape.rows * layout.groups};
  std::vector<uint8_t> expected(shape.rows * layout.nbytes, 1), rows(expected.size(), 2);
  EncodeOnHost({x.data(), expected.data(), type, shape.elements, format}, groups);
  LaunchEncode({x.data(), rows.data(), type, shape.elements, format}, shape.rows, nullptr);
  ExpectNoError(what);
  Expect(rows == expected, what + ": encoded bytes differ");
  std::vector<uint8_t> y(x.size(), 3), decoded(x.size(), 4);
  // Exponents and values that no encoder writes, too.
  for (size_t i = 0; i < expected.size(); i += 7) expected[i] = static_cast<uint8_t>(Mix(i));
  DecodeOnHost({expected.data(), y.data(), type, shape.elements, format}, groups);
  LaunchDecode({expected.data(), decoded.data(), type, shape.elements, format}, shape.rows,
               nullptr);
  ExpectNoError(what);
  Expect(decoded == y, what + ": decoded bytes differ");
}

void TestShape(const std::string& where, emulator::Shape shape) {
  for (FloatType type : {FloatType::kF32, FloatType::kBf16, FloatType::kF16}) {
    for (ValueType value : {ValueType::kBf16, ValueType::kE4m3fn, ValueType::kE5m2}) {
      for (int group_size : {96, 256, 1024}) {
        TestFormat(where, shape, type, {value, group_size});
      }
    }
  }
}

}  // namespace
}  // namespace epmc::narrow

int main() { return epmc::emulator::RunInAllOrders(epmc::narrow::TestShape); }
