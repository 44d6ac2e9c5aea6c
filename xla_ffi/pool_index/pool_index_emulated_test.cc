#include "xla_ffi/emulator/kernel_test.h"
#include "xla_ffi/pool_index/kernels_cuda.h"
#include "xla_ffi/pool_index/pool_index.h"

namespace epmc::pool_index {
namespace {

using emulator::Expect;
using emulator::ExpectNoError;

constexpr Axis kNone{1, 1, 1, 1, 0};

int64_t OperandElements(const PoolShape& shape) {
  return shape.axes[0].in * shape.axes[1].in * shape.axes[2].in * shape.channels;
}

void TestType(const std::string& where, const PoolShape& shape, FloatType type) {
  const std::string what = where + ", type " + std::to_string(static_cast<int>(type)) +
                           ", channels " + std::to_string(shape.channels) + ", width " +
                           std::to_string(BitWidth(shape));
  const int element_nbytes = type == FloatType::kF32 ? 4 : 2;
  const int64_t pooled = PooledRowElements(shape);
  const size_t operand = shape.batch * OperandElements(shape);
  const std::vector<uint8_t> x = emulator::RandomBytes(operand, element_nbytes, true);
  const size_t row_nbytes = int_pack::RowNbytes(pooled, BitWidth(shape));
  std::vector<uint8_t> expected_y(shape.batch * pooled * element_nbytes, 1);
  std::vector<uint8_t> expected_rows(shape.batch * row_nbytes, 1);
  std::vector<uint8_t> y(expected_y.size(), 2), rows(expected_rows.size(), 2);
  MaxPoolOnHost({x.data(), expected_y.data(), expected_rows.data(), type, shape},
                {0, shape.batch * NumBlocks(pooled)});
  LaunchMaxPool({x.data(), y.data(), rows.data(), type, shape}, nullptr);
  ExpectNoError(what);
  Expect(y == expected_y, what + ": maxima differ");
  Expect(rows == expected_rows, what + ": encoded bytes differ");
  // Cotangents without NaN, of which a sum may keep any; indices that none wrote, too.
  const std::vector<uint8_t> ct =
      emulator::RandomBytes(shape.batch * pooled, element_nbytes, false);
  for (size_t i = 0; i < rows.size(); i += 5) rows[i] = static_cast<uint8_t>(Mix(i));
  std::vector<uint8_t> expected_ct_x(x.size(), 3), ct_x(x.size(), 4);
  GradientOnHost({rows.data(), ct.data(), expected_ct_x.data(), type, shape},
                 {0, shape.batch * shape.axes[0].in * shape.axes[1].in});
  LaunchGradient({rows.data(), ct.data(), ct_x.data(), type, shape}, nullptr);
  ExpectNoError(what);
  Expect(ct_x == expected_ct_x, what + ": gradients differ");
}

// Of a shape only the number of rows is used: here, what counts are windows and channels.
void TestShape(const std::string& where, emulator::Shape rows) {
  if (rows.elements > 256) return;
  // in, out, window, stride, pad
  const Axis halves{8, 4, 2, 2, 0};
  const Axis overlap{9, 5, 3, 2, 1};
  const Axis gaps{9, 3, 2, 4, 1};
  const Axis far{4, 6, 2, 2, 4};  // its first windows are padding alone
  std::vector<int64_t> all_channels{1, 5, 8, 36, 64};
  if (emulator::HasFewCases()) all_channels = {5, 8};
  for (int64_t channels : all_channels) {
    for (FloatType type : {FloatType::kF32, FloatType::kBf16, FloatType::kF16}) {
      TestType(where, {rows.rows, channels, {kNone, halves, halves}}, type);
      TestType(where, {rows.rows, channels, {kNone, overlap, overlap}}, type);
      TestType(where, {rows.rows, channels, {kNone, kNone, far}}, type);
      TestType(where, {1, channels, {halves, overlap, gaps}}, type);
    }
  }
}

}  // namespace
}  // namespace epmc::pool_index

int main() { return epmc::emulator::RunInAllOrders(epmc::pool_index::TestShape); }
