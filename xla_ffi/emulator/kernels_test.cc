// Every CUDA kernel against the CPU kernel of its codec, byte for byte, in three orders of
// execution. Arrays are heap blocks of their exact size: built with AddressSanitizer, an
// access outside of them ends the test.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "xla_ffi/bit_mask/bit_mask.h"
#include "xla_ffi/bit_mask/kernels_cuda.h"
#include "xla_ffi/group_quant/group_quant.h"
#include "xla_ffi/group_quant/kernels_cuda.h"

namespace epmc {
namespace {

int failures = 0;
emulator::Order order;

void Expect(bool condition, const std::string& what) {
  if (condition) return;
  ++failures;
  std::printf("FAILED (order %d): %s\n", static_cast<int>(order), what.c_str());
}

void ExpectNoError(const std::string& what) {
  if (cudaGetLastError() != cudaSuccess) Expect(false, what + ": " + cudaGetErrorString(0));
}

struct Shape {
  int64_t rows;
  int64_t elements;
};

// One row and several; aligned rows and others; tails of blocks, tiles, groups.
constexpr Shape kShapes[] = {{1, 1},   {1, 1024}, {1, 5003}, {3, 32},
                             {5, 33}, {2, 1000}, {2, 2048}, {9, 256}};

// Bit patterns of all kinds: mostly small numbers; in `has_special` also NaN, infinities,
// subnormal numbers.
std::vector<uint8_t> RandomBytes(size_t elements, int element_nbytes, bool has_special) {
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

void TestBitMask(Shape shape, bit_mask::ElementType type, int element_nbytes) {
  const std::string what = "BitMask " + std::to_string(shape.rows) + " x " +
                           std::to_string(shape.elements) + " type " +
                           std::to_string(static_cast<int>(type));
  const size_t elements = shape.rows * shape.elements;
  const std::vector<uint8_t> x = RandomBytes(elements, element_nbytes, true);
  const size_t nbytes = shape.rows * bit_mask::RowNbytes(shape.elements);
  std::vector<uint8_t> expected(nbytes, 1), rows(nbytes, 2);
  const UnitRange blocks{0, shape.rows * NumBlocks(shape.elements)};
  bit_mask::EncodeOnHost({x.data(), expected.data(), type, shape.elements}, blocks);
  bit_mask::LaunchEncode({x.data(), rows.data(), type, shape.elements}, shape.rows, nullptr);
  ExpectNoError(what);
  Expect(rows == expected, what + ": encoded bytes differ");
  std::vector<uint8_t> bits(elements, 3), decoded(elements, 4);
  bit_mask::DecodeOnHost({expected.data(), bits.data(), shape.elements}, blocks);
  bit_mask::LaunchDecode({expected.data(), decoded.data(), shape.elements}, shape.rows, nullptr);
  ExpectNoError(what);
  Expect(decoded == bits, what + ": decoded bytes differ");
}

void TestGroupQuant(Shape shape, FloatType type, group_quant::Format format, bool has_special) {
  const std::string what =
      "GroupQuant " + std::to_string(shape.rows) + " x " + std::to_string(shape.elements) +
      " type " + std::to_string(static_cast<int>(type)) + " width " +
      std::to_string(format.bit_width) + " group " + std::to_string(format.group_size);
  const int element_nbytes = type == FloatType::kF32 ? 4 : 2;
  const size_t elements = shape.rows * shape.elements;
  const std::vector<uint8_t> x = RandomBytes(elements, element_nbytes, has_special);
  const group_quant::RowLayout layout =
      group_quant::LayoutOf(shape.elements, format.bit_width, format.group_size);
  const UnitRange groups{0, shape.rows * layout.groups};
  std::vector<uint8_t> expected(shape.rows * layout.nbytes, 1), rows(expected.size(), 2);
  group_quant::EncodeOnHost({x.data(), expected.data(), type, shape.elements, format}, groups);
  group_quant::LaunchEncode({x.data(), rows.data(), type, shape.elements, format}, shape.rows,
                            nullptr);
  ExpectNoError(what);
  Expect(rows == expected, what + ": encoded bytes differ");
  std::vector<uint8_t> y(x.size(), 3), decoded(x.size(), 4);
  group_quant::DecodeOnHost({expected.data(), y.data(), type, shape.elements, format}, groups);
  group_quant::LaunchDecode({expected.data(), decoded.data(), type, shape.elements, format},
                            shape.rows, nullptr);
  ExpectNoError(what);
  Expect(decoded == y, what + ": decoded bytes differ");
}

void TestShape(Shape shape) {
  TestBitMask(shape, bit_mask::ElementType::kBool, 1);
  TestBitMask(shape, bit_mask::ElementType::kF32, 4);
  TestBitMask(shape, bit_mask::ElementType::kBf16, 2);
  TestBitMask(shape, bit_mask::ElementType::kF16, 2);
  for (FloatType type : {FloatType::kF32, FloatType::kBf16, FloatType::kF16}) {
    for (int bit_width : {2, 4, 8}) {
      TestGroupQuant(shape, type, {bit_width, 256, true, 77}, true);
      TestGroupQuant(shape, type, {bit_width, 256, false, 0}, false);
      TestGroupQuant(shape, type, {bit_width, 96, true, 5}, false);
      TestGroupQuant(shape, type, {bit_width, 1024, false, 0}, true);
    }
  }
}

}  // namespace
}  // namespace epmc

int main() {
  using epmc::emulator::Order;
  for (Order order : {Order::kForward, Order::kReverse, Order::kRandom}) {
    epmc::order = order;
    epmc::emulator::SetOptions({order, 3});
    for (epmc::Shape shape : epmc::kShapes) epmc::TestShape(shape);
  }
  std::printf("%d failures\n", epmc::failures);
  return epmc::failures == 0 ? 0 : 1;
}
