#include "xla_ffi/pool_index/pool_index.h"

#include <cmath>
#include <cstring>

#include "xla_ffi/common/check.h"
#include "xla_ffi/common/test_data.h"
#include "xla_ffi/pool_index/kernels.h"

namespace epmc::pool_index {
namespace {

int64_t OperandElements(const PoolShape& shape) {
  return shape.axes[0].in * shape.axes[1].in * shape.axes[2].in * shape.channels;
}

// Calls `visit(operand element, pooled element, index)` for all places of all windows.
template <typename Visit>
void ForEachPlace(const PoolShape& shape, const Visit& visit) {
  const Axis* axes = shape.axes;
  const int64_t pooled = PooledRowElements(shape);
  for (int64_t at = 0; at < pooled; ++at) {
    const int64_t pixel = at / shape.channels;
    const int64_t out[kAxes] = {pixel / axes[2].out / axes[1].out,
                                pixel / axes[2].out % axes[1].out, pixel % axes[2].out};
    const int64_t places = axes[0].window * axes[1].window * axes[2].window;
    for (int64_t index = 0; index < places; ++index) {
      const int64_t in[kAxes] = {index / axes[2].window / axes[1].window,
                                 index / axes[2].window % axes[1].window,
                                 index % axes[2].window};
      int64_t place = 0;
      bool is_inside = true;
      for (int i = 0; i < kAxes; ++i) {
        const int64_t p = out[i] * axes[i].stride - axes[i].pad + in[i];
        is_inside = is_inside && p >= 0 && p < axes[i].in;
        place = place * axes[i].in + p;
      }
      if (is_inside) visit(place * shape.channels + at % shape.channels, at, index);
    }
  }
}

struct Expected {
  std::vector<float> y;
  std::vector<uint32_t> index;
  std::vector<float> ct_x;
};

Expected Definition(const std::vector<float>& x, const std::vector<float>& ct,
                    const PoolShape& shape) {
  const int64_t pooled = PooledRowElements(shape);
  const int64_t operand = OperandElements(shape);
  Expected expected{std::vector<float>(shape.batch * pooled, kNegativeInfinity),
                    std::vector<uint32_t>(shape.batch * pooled),
                    std::vector<float>(shape.batch * operand)};
  for (int64_t row = 0; row < shape.batch; ++row) {
    ForEachPlace(shape, [&](int64_t place, int64_t at, int64_t index) {
      const float value = x[row * operand + place];
      if (value > expected.y[row * pooled + at]) {
        expected.y[row * pooled + at] = value;
        expected.index[row * pooled + at] = static_cast<uint32_t>(index);
      }
    });
    ForEachPlace(shape, [&](int64_t place, int64_t at, int64_t index) {
      if (expected.index[row * pooled + at] == index) {
        expected.ct_x[row * operand + place] += ct[row * pooled + at];
      }
    });
  }
  return expected;
}

void TestAgainstDefinition(const PoolShape& shape) {
  const int64_t pooled = PooledRowElements(shape);
  const int width = BitWidth(shape);
  const int64_t row_nbytes = int_pack::RowNbytes(pooled, width);
  const std::vector<float> x = MixedFloats(shape.batch * OperandElements(shape), 5);
  const std::vector<float> ct = MixedFloats(shape.batch * pooled, 6);
  const Expected expected = Definition(x, ct, shape);
  const int64_t units = shape.batch * NumBlocks(pooled);
  const int64_t lines = shape.batch * shape.axes[0].in * shape.axes[1].in;
  for (Isa isa : RunnableIsas()) {
    std::vector<float> y(expected.y.size());
    std::vector<uint8_t> rows(shape.batch * row_nbytes, 0xff);
    const MaxPoolArgs pool{x.data(), y.data(), rows.data(), FloatType::kF32, shape};
    MaxPoolOnHost(pool, {0, units / 3}, isa);
    MaxPoolOnHost(pool, {units / 3, units}, isa);
    EPMC_CHECK(y == expected.y);
    for (int64_t i = 0; i < shape.batch * pooled; ++i) {
      const uint8_t* row = rows.data() + i / pooled * row_nbytes;
      EPMC_CHECK(ElementsWithIndex(row, i % pooled, 1, width, expected.index[i]) & 1u);
    }
    std::vector<float> ct_x(x.size());
    const GradientArgs gradient{rows.data(), ct.data(), ct_x.data(), FloatType::kF32, shape};
    GradientOnHost(gradient, {0, lines / 3}, isa);
    GradientOnHost(gradient, {lines / 3, lines}, isa);
    EPMC_CHECK(ct_x == expected.ct_x);
  }
}

// Any bits of cotangents and of rows: every instruction set adds up the same numbers. Of two
// NaNs that are added the compiler chooses one.
template <typename T>
void TestGradientOfAnyBits(FloatType type, const PoolShape& shape) {
  const int64_t pooled = PooledRowElements(shape);
  const int64_t row_nbytes = int_pack::RowNbytes(pooled, BitWidth(shape));
  std::vector<uint8_t> rows(shape.batch * row_nbytes);
  std::vector<T> ct(shape.batch * pooled);
  uint32_t number = 0;
  for (uint8_t& byte : rows) byte = static_cast<uint8_t>(Mix(number++));
  for (T& value : ct) {
    const uint32_t bits = Mix(number++);
    std::memcpy(&value, &bits, sizeof(T));
  }
  const int64_t lines = shape.batch * shape.axes[0].in * shape.axes[1].in;
  std::vector<T> expected(shape.batch * OperandElements(shape));
  const GradientArgs args{rows.data(), ct.data(), expected.data(), type, shape};
  GradientOnHost(args, {0, lines}, Isa::kBaseline);
  for (Isa isa : RunnableIsas()) {
    std::vector<T> ct_x(expected.size());
    GradientOnHost({rows.data(), ct.data(), ct_x.data(), type, shape}, {0, lines}, isa);
    for (size_t i = 0; i < ct_x.size(); ++i) {
      const float sum = AsFloat(ct_x[i]), other = AsFloat(expected[i]);
      EPMC_CHECK(FloatBits(sum) == FloatBits(other) || (std::isnan(sum) && std::isnan(other)));
    }
  }
}

// Any bits of operands, so NaNs of all kinds, infinities and subnormal numbers: every
// instruction set gives the same maxima and the same rows.
template <typename T>
void TestMaxPoolOfAnyBits(FloatType type, const PoolShape& shape) {
  const int64_t pooled = PooledRowElements(shape);
  const int64_t row_nbytes = int_pack::RowNbytes(pooled, BitWidth(shape));
  std::vector<T> x(shape.batch * OperandElements(shape));
  for (size_t i = 0; i < x.size(); ++i) {
    // Every eighth number is a NaN or an infinity; many are equal.
    uint32_t bits = Mix(static_cast<uint32_t>(i)) & (i % 3 == 0 ? 0xc000c000u : ~0u);
    if (i % 8 == 5) bits |= sizeof(T) == 4 ? kExponentMask : 0x7f807f80u;
    std::memcpy(&x[i], &bits, sizeof(T));
  }
  const int64_t units = shape.batch * NumBlocks(pooled);
  std::vector<T> expected_y(shape.batch * pooled), y(expected_y.size());
  std::vector<uint8_t> expected_rows(shape.batch * row_nbytes), rows(expected_rows.size(), 7);
  const MaxPoolArgs expected{x.data(), expected_y.data(), expected_rows.data(), type, shape};
  MaxPoolOnHost(expected, {0, units}, Isa::kBaseline);
  for (Isa isa : RunnableIsas()) {
    const MaxPoolArgs args{x.data(), y.data(), rows.data(), type, shape};
    MaxPoolOnHost(args, {0, units / 3}, isa);
    MaxPoolOnHost(args, {units / 3, units}, isa);
    EPMC_CHECK(std::memcmp(y.data(), expected_y.data(), y.size() * sizeof(T)) == 0);
    EPMC_CHECK(rows == expected_rows);
  }
}

void TestAllTypes(const PoolShape& shape) {
  TestAgainstDefinition(shape);
  TestMaxPoolOfAnyBits<F32>(FloatType::kF32, shape);
  TestMaxPoolOfAnyBits<Bf16>(FloatType::kBf16, shape);
  TestMaxPoolOfAnyBits<F16>(FloatType::kF16, shape);
  TestGradientOfAnyBits<F32>(FloatType::kF32, shape);
  TestGradientOfAnyBits<Bf16>(FloatType::kBf16, shape);
  TestGradientOfAnyBits<F16>(FloatType::kF16, shape);
}

}  // namespace
}  // namespace epmc::pool_index

int main() {
  using epmc::pool_index::Axis;
  const Axis none{1, 1, 1, 1, 0};
  for (int64_t channels : {1, 3, 8, 16, 24, 32, 37, 48, 64, 300}) {
    // in, out, window, stride, pad
    const Axis halves{8, 4, 2, 2, 0};
    epmc::pool_index::TestAllTypes({2, channels, {none, halves, halves}});
    const Axis overlap{9, 5, 3, 2, 1};
    epmc::pool_index::TestAllTypes({2, channels, {none, overlap, overlap}});
    const Axis gaps{9, 3, 2, 4, 1};
    epmc::pool_index::TestAllTypes({1, channels, {halves, overlap, gaps}});
  }
}
