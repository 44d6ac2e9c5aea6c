#include "xla_ffi/emulator/kernel_test.h"
#include "xla_ffi/group_quant/group_quant.h"
#include "xla_ffi/group_quant/kernels_cuda.h"

namespace epmc::group_quant {
namespace {

using emulator::Expect;
using emulator::ExpectNoError;

void TestFormat(const std::string& where, emulator::Shape shape, FloatType type, Format format,
                bool has_special) {
  const std::string what = where + ", type " + std::to_string(static_cast<int>(type)) +
                           ", width " + std::to_string(format.bit_width) + ", group " +
                           std::to_string(format.group_size);
  const int element_nbytes = type == FloatType::kF32 ? 4 : 2;
  const size_t elements = shape.rows * shape.elements;
  const std::vector<uint8_t> x = emulator::RandomBytes(elements, element_nbytes, has_special);
  const RowLayout layout = LayoutOf(shape.elements, format.bit_width, format.group_size);
  const UnitRange groups{0, shape.rows * layout.groups};
  std::vector<uint8_t> expected(shape.rows * layout.nbytes, 1), rows(expected.size(), 2);
  EncodeOnHost({x.data(), expected.data(), type, shape.elements, format}, groups);
  LaunchEncode({x.data(), rows.data(), type, shape.elements, format}, shape.rows, nullptr);
  ExpectNoError(what);
  Expect(rows == expected, what + ": encoded bytes differ");
  std::vector<uint8_t> y(x.size(), 3), decoded(x.size(), 4);
  DecodeOnHost({expected.data(), y.data(), type, shape.elements, format}, groups);
  LaunchDecode({expected.data(), decoded.data(), type, shape.elements, format}, shape.rows,
               nullptr);
  ExpectNoError(what);
  Expect(decoded == y, what + ": decoded bytes differ");
}

void TestShape(const std::string& where, emulator::Shape shape) {
  for (FloatType type : {FloatType::kF32, FloatType::kBf16, FloatType::kF16}) {
    for (int bit_width : {1, 2, 3, 4, 8}) {
      TestFormat(where, shape, type, {bit_width, 256, true, 77}, true);
      TestFormat(where, shape, type, {bit_width, 256, false, 0}, false);
      TestFormat(where, shape, type, {bit_width, 96, true, 5}, false);
      TestFormat(where, shape, type, {bit_width, 1024, false, 0}, true);
    }
  }
}

}  // namespace
}  // namespace epmc::group_quant

int main() { return epmc::emulator::RunInAllOrders(epmc::group_quant::TestShape); }
