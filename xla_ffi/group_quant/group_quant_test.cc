#include "xla_ffi/group_quant/group_quant.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "xla_ffi/common/check.h"
#include "xla_ffi/common/test_data.h"
#include "xla_ffi/group_quant/kernels.h"

namespace epmc::group_quant {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

GroupScale ScaleBetween(float lo, float hi, int bit_width) {
  return ScaleOf(OrderedKey(FloatBits(lo)), OrderedKey(FloatBits(hi)), bit_width);
}

void TestInverseStep() {
  EPMC_CHECK(InverseStep16(0.0f) == 0.0f);
  EPMC_CHECK(InverseStep16(1.0f) == 65536.0f);
  EPMC_CHECK(InverseStep16(0x1p-108f) == 0x1p124f);
  for (uint32_t mantissa = 0x8000; mantissa < 0x10000; mantissa += 7) {
    const float step = std::ldexp(static_cast<float>(mantissa), -20);
    const double exact = 65536.0 / step;
    const double inverse = InverseStep16(step);
    EPMC_CHECK(inverse <= exact && inverse >= exact * (1 - 0x1p-23));
  }
}

void TestScale() {
  for (int bit_width : {1, 2, 3, 4, 8}) {
    const int levels = (1 << bit_width) - 1;
    const GroupScale scale = ScaleBetween(-1.3f, 2.7f, bit_width);
    EPMC_CHECK(scale.lo == -1.3f && (FloatBits(scale.step) & 0xffu) == 0);
    EPMC_CHECK(scale.step * levels >= 3.9999f && scale.step * levels < 4.001f);
    EPMC_CHECK(ScaleBetween(5.0f, 5.0f, bit_width).step == 0.0f);
    EPMC_CHECK(std::isnan(ScaleBetween(-kInf, 1.0f, bit_width).lo));
    EPMC_CHECK(std::isnan(ScaleBetween(1.0f, kInf, bit_width).lo));
    EPMC_CHECK(std::isnan(ScaleBetween(-3e38f, 3e38f, bit_width).lo));
  }
}

template <typename T>
constexpr FloatType kTypeOf = FloatType::kF32;
template <>
constexpr FloatType kTypeOf<Bf16> = FloatType::kBf16;
template <>
constexpr FloatType kTypeOf<F16> = FloatType::kF16;

template <typename T>
std::vector<uint8_t> Encode(const std::vector<T>& x, int64_t elements, const Format& format,
                            Isa isa) {
  const int64_t rows = static_cast<int64_t>(x.size()) / elements;
  const RowLayout layout = LayoutOf(elements, format.bit_width, format.group_size);
  std::vector<uint8_t> encoded(rows * layout.nbytes, 0xff);
  const EncodeArgs args{x.data(), encoded.data(), kTypeOf<T>, elements, format};
  const int64_t units = rows * layout.groups;
  EncodeOnHost(args, {units / 2, units}, isa);
  EncodeOnHost(args, {0, units / 2}, isa);
  return encoded;
}

template <typename T>
std::vector<T> Decode(const std::vector<uint8_t>& encoded, size_t count, int64_t elements,
                      const Format& format, Isa isa) {
  std::vector<T> x(count);
  const DecodeArgs args{encoded.data(), x.data(), kTypeOf<T>, elements, format};
  const RowLayout layout = LayoutOf(elements, format.bit_width, format.group_size);
  DecodeOnHost(args, {0, static_cast<int64_t>(count) / elements * layout.groups}, isa);
  return x;
}

// All instruction sets give the same bytes, and the error is what the format promises.
template <typename T>
void TestRoundTrip(int64_t rows, int64_t elements, const Format& format) {
  const auto x = ConvertedTo<T>(MixedFloats(rows * elements, 11));
  const std::vector<uint8_t> encoded = Encode(x, elements, format, Isa::kBaseline);
  const auto decoded = Decode<T>(encoded, x.size(), elements, format, Isa::kBaseline);
  for (Isa isa : RunnableIsas()) {
    EPMC_CHECK(Encode(x, elements, format, isa) == encoded);
    const auto again = Decode<T>(encoded, x.size(), elements, format, isa);
    EPMC_CHECK(std::memcmp(again.data(), decoded.data(), x.size() * sizeof(T)) == 0);
  }
  const float levels = static_cast<float>((1 << format.bit_width) - 1);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t first = 0; first < elements; first += format.group_size) {
      const int64_t last = std::min<int64_t>(first + format.group_size, elements);
      float lo = kInf;
      float hi = -kInf;
      for (int64_t i = first; i < last; ++i) {
        lo = std::min(lo, AsFloat(x[row * elements + i]));
        hi = std::max(hi, AsFloat(x[row * elements + i]));
      }
      const float step = (hi - lo) / levels * (1 + 0x1p-14f);
      const float rounding = std::max(std::fabs(lo), std::fabs(hi)) * 0x1p-7f;
      const float limit = step * (format.is_stochastic ? 1.001f : 0.501f) +
                          (sizeof(T) == 2 ? rounding : rounding * 0x1p-16f);
      for (int64_t i = first; i < last; ++i) {
        const int64_t at = row * elements + i;
        EPMC_CHECK(std::fabs(AsFloat(decoded[at]) - AsFloat(x[at])) <= limit);
      }
    }
  }
}

void TestNonFiniteGroupsDecodeToNan() {
  std::vector<F32> x = ConvertedTo<F32>(MixedFloats(128, 3));
  x[70].value = kInf;
  const Format format{8, 64, false, 0};
  const auto encoded = Encode(x, 128, format, BestIsa());
  const auto decoded = Decode<F32>(encoded, 128, 128, format, BestIsa());
  for (int i = 0; i < 128; ++i) EPMC_CHECK(std::isnan(decoded[i].value) == (i >= 64));
}

// Past the cache or not, the same numbers arrive.
void TestBypassingTheCache() {
  const int64_t elements = 1024 + 32;  // four groups and a tail, whole cache lines
  const auto x = ConvertedTo<F32>(MixedFloats(3 * elements, 9));
  for (int bit_width : {1, 2, 3, 4, 8}) {
    const Format format{bit_width, 256, false, 0};
    const auto encoded = Encode(x, elements, format, BestIsa());
    const auto expected = Decode<F32>(encoded, x.size(), elements, format, BestIsa());
    alignas(64) static F32 decoded[3 * 1056];
    const DecodeArgs args{encoded.data(), decoded, FloatType::kF32, elements, format, true};
    DecodeOnHost(args, {0, 15});
    EPMC_CHECK(std::memcmp(decoded, expected.data(), sizeof(decoded)) == 0);
  }
}

// Groups from 2^-149 up to the largest numbers, zeros of both signs, subnormal numbers beside
// normal ones, and with each of them NaN or infinity once: all instruction sets agree.
template <typename T>
void TestAnyBits() {
  constexpr int64_t kElements = 64;
  constexpr int kGroups = 3000;
  std::vector<float> x(kElements * kGroups);
  for (size_t i = 0; i < x.size(); ++i) {
    const uint32_t group = Mix(static_cast<uint32_t>(i / kElements) + 1);
    const uint32_t hash = Mix(static_cast<uint32_t>(i) + 7777);
    // Exponents of a group are in a window of 32 below its largest.
    const int64_t largest = group % 254 + 1;
    const int64_t exponent = std::max<int64_t>(0, largest - (hash >> 23) % 32);
    const uint32_t sign = group & 0x400 ? hash & 0x80000000u : 0;
    x[i] = BitsToFloat(sign | static_cast<uint32_t>(exponent) << 23 | (hash & 0x7fffffu));
    if (hash % 16 == 0) x[i] = std::copysign(0.0f, x[i]);
    if (hash % 4001 == 0) x[i] = BitsToFloat(hash & 1 ? 0x7f800001u : 0xff800000u);
  }
  const std::vector<T> converted = ConvertedTo<T>(x);
  for (bool is_stochastic : {false, true}) {
    for (int bit_width : {1, 2, 3, 4, 8}) {
      const Format format{bit_width, kElements, is_stochastic, 3};
      const auto encoded = Encode(converted, kElements * kGroups, format, Isa::kBaseline);
      for (Isa isa : RunnableIsas()) {
        EPMC_CHECK(Encode(converted, kElements * kGroups, format, isa) == encoded);
      }
    }
  }
}

// The mean of many encodings is the number itself.
void TestStochasticIsUnbiased() {
  std::vector<F32> x(32, F32{0.3f});
  x[0].value = 0.0f;
  x[1].value = 3.0f;
  double sum = 0;
  constexpr int kSeeds = 4000;
  for (uint32_t seed = 0; seed < kSeeds; ++seed) {
    const Format format{2, 32, true, seed};
    const auto encoded = Encode(x, 32, format, BestIsa());
    const auto decoded = Decode<F32>(encoded, 32, 32, format, BestIsa());
    for (int i = 2; i < 32; ++i) sum += decoded[i].value;
  }
  // 120 000 draws of deviation 0.46: the mean is within 4 deviations, 0.0053.
  EPMC_CHECK(std::fabs(sum / (30.0 * kSeeds) - 0.3) < 0.0053);
}

}  // namespace
}  // namespace epmc::group_quant

int main() {
  using epmc::group_quant::Format;
  epmc::group_quant::TestInverseStep();
  epmc::group_quant::TestScale();
  epmc::group_quant::TestNonFiniteGroupsDecodeToNan();
  epmc::group_quant::TestStochasticIsUnbiased();
  epmc::group_quant::TestBypassingTheCache();
  epmc::group_quant::TestAnyBits<epmc::F32>();
  epmc::group_quant::TestAnyBits<epmc::Bf16>();
  epmc::group_quant::TestAnyBits<epmc::F16>();
  for (int bit_width : {1, 2, 3, 4, 8}) {
    for (int group_size : {32, 256, 1024}) {
      for (int64_t elements : {1, 33, 256, 1000, 2048}) {
        for (bool is_stochastic : {false, true}) {
          const Format format{bit_width, group_size, is_stochastic, 42};
          epmc::group_quant::TestRoundTrip<epmc::F32>(3, elements, format);
          epmc::group_quant::TestRoundTrip<epmc::Bf16>(2, elements, format);
          epmc::group_quant::TestRoundTrip<epmc::F16>(2, elements, format);
        }
      }
    }
  }
}
