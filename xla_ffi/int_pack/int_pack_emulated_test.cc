#include "xla_ffi/emulator/kernel_test.h"
#include "xla_ffi/int_pack/int_pack.h"
#include "xla_ffi/int_pack/kernels_cuda.h"

namespace epmc::int_pack {
namespace {

using emulator::Expect;
using emulator::ExpectNoError;

// Bytes of all values: what does not fit in `bit_width` bits is cut off.
std::vector<uint8_t> AnyBytes(size_t nbytes) {
  std::vector<uint8_t> bytes(nbytes);
  for (size_t i = 0; i < nbytes; ++i) bytes[i] = static_cast<uint8_t>(Mix(i) >> 11);
  return bytes;
}

void TestWidth(const std::string& where, emulator::Shape shape, int element_nbytes,
               int bit_width) {
  const std::string what = where + ", bytes " + std::to_string(element_nbytes) + ", width " +
                           std::to_string(bit_width);
  const std::vector<uint8_t> x = AnyBytes(shape.rows * shape.elements * element_nbytes);
  const size_t nbytes = shape.rows * RowNbytes(shape.elements, bit_width);
  std::vector<uint8_t> expected(nbytes, 1), rows(nbytes, 2);
  const UnitRange blocks{0, shape.rows * NumBlocks(shape.elements)};
  EncodeOnHost({x.data(), expected.data(), element_nbytes, shape.elements, bit_width}, blocks);
  LaunchEncode({x.data(), rows.data(), element_nbytes, shape.elements, bit_width}, shape.rows,
               nullptr);
  ExpectNoError(what);
  Expect(rows == expected, what + ": encoded bytes differ");
  const std::vector<uint8_t> any = AnyBytes(nbytes);
  std::vector<uint8_t> y(x.size(), 3), decoded(x.size(), 4);
  DecodeOnHost({any.data(), y.data(), element_nbytes, shape.elements, bit_width}, blocks);
  LaunchDecode({any.data(), decoded.data(), element_nbytes, shape.elements, bit_width},
               shape.rows, nullptr);
  ExpectNoError(what);
  Expect(decoded == y, what + ": decoded bytes differ");
}

void TestShape(const std::string& where, emulator::Shape shape) {
  for (int bit_width : {1, 2, 3, 8, 9}) TestWidth(where, shape, 1, bit_width);
  for (int bit_width : {1, 4, 16, 20}) TestWidth(where, shape, 2, bit_width);
  for (int bit_width : {2, 7, 17, 32}) TestWidth(where, shape, 4, bit_width);
}

}  // namespace
}  // namespace epmc::int_pack

int main() { return epmc::emulator::RunInAllOrders(epmc::int_pack::TestShape); }
