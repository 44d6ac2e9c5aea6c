#include "xla_ffi/narrow/narrow.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "xla_ffi/common/check.h"
#include "xla_ffi/common/test_data.h"
#include "xla_ffi/narrow/kernels.h"

namespace epmc::narrow {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

template <typename As>
float Largest() {
  return As::kMantissaBits == 3 ? 448.0f : 57344.0f;
}

template <typename As>
float DecodeFloat(uint8_t code, float scale) {
  return BitsToFloat(DecodeOne<As>(code, scale, LargestFinite(F32{})));
}

// Every code is what it decodes to, with every power of two that an encoder chooses.
template <typename As>
void TestAllCodes() {
  for (int exponent = kMinExponent<As>; exponent <= 247; exponent += 3) {
    const float scale = ScaleOf<As>(static_cast<uint8_t>(exponent));
    for (int code = 0; code < 256; ++code) {
      const float x = DecodeFloat<As>(static_cast<uint8_t>(code), scale);
      if (std::isnan(x) || std::fabs(x) >= 0x1.fffffep127f) continue;
      EPMC_CHECK(EncodeOne<As>(FloatBits(x), InverseScale(exponent)) == code);
    }
  }
  EPMC_CHECK(DecodeFloat<As>(As::kInf - 1, 1.0f) == Largest<As>());
  EPMC_CHECK(DecodeFloat<As>(1, ScaleOf<As>(0)) == 0x1p-126f);
  EPMC_CHECK(std::isnan(DecodeFloat<As>(As::kNan, 1.0f)));
}

// With the exponent of its group the largest element fills the top binade, or rounds into
// it, and never rounds beyond the largest value.
template <typename As>
void TestLargestElements() {
  for (uint32_t bits = 0; bits < kExponentMask; bits += 7919) {
    const int exponent = ExponentOf<As>(bits);
    EPMC_CHECK(exponent >= kMinExponent<As> && exponent <= 247);
    const uint8_t code = EncodeOne<As>(bits, InverseScale(exponent));
    EPMC_CHECK(code < As::kInf);
    const uint8_t top_binade = (As::kInf - 1) >> As::kMantissaBits << As::kMantissaBits;
    if (exponent > kMinExponent<As>) EPMC_CHECK(code >= top_binade - (1 << As::kMantissaBits));
  }
  const int exponent = ExponentOf<As>(FloatBits(Largest<As>()));
  EPMC_CHECK(exponent == kFloatBias);
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
  const int value_nbytes = format.value == ValueType::kBf16 ? 2 : 1;
  const RowLayout layout = LayoutOf(elements, value_nbytes, format.group_size);
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
  const int64_t units = static_cast<int64_t>(count) / elements *
                        CeilDiv(elements, format.group_size);
  DecodeOnHost(args, {0, units / 3}, isa);
  DecodeOnHost(args, {units / 3, units}, isa);
  return x;
}

template <typename T>
bool AreSame(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

// How far an element may be from what it decodes to; `largest`: magnitude in its group.
float Limit(float x, float largest, ValueType value) {
  const float size = std::fabs(x);
  if (value == ValueType::kBf16) return size * 0x1p-8f;
  const bool is_e4m3fn = value == ValueType::kE4m3fn;
  const float near_zero = std::max(largest * (is_e4m3fn ? 0x1p-17f : 0x1p-31f), 0x1p-126f);
  return std::max(size * (is_e4m3fn ? 0x1p-4f : 0x1p-3f), near_zero);
}

// All instruction sets give the same bytes, and the error is what the format promises.
template <typename T>
void TestRoundTrip(int64_t rows, int64_t elements, const Format& format) {
  const auto x = ConvertedTo<T>(MixedFloats(rows * elements, 11));
  const std::vector<uint8_t> encoded = Encode(x, elements, format, Isa::kBaseline);
  const auto decoded = Decode<T>(encoded, x.size(), elements, format, Isa::kBaseline);
  for (Isa isa : RunnableIsas()) {
    EPMC_CHECK(Encode(x, elements, format, isa) == encoded);
    EPMC_CHECK(AreSame(Decode<T>(encoded, x.size(), elements, format, isa), decoded));
  }
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t first = i / elements * elements + i % elements / format.group_size *
                                                       static_cast<size_t>(format.group_size);
    const size_t row_end = (i / elements + 1) * elements;
    float largest = 0;
    for (size_t j = first; j < std::min<size_t>(first + format.group_size, row_end); ++j) {
      largest = std::max(largest, std::fabs(AsFloat(x[j])));
    }
    const float half_unit = std::is_same<T, F16>::value ? 0x1p-25f : 0.0f;  // of subnormals
    const float limit = Limit(AsFloat(x[i]), largest, format.value) + half_unit;
    EPMC_CHECK(std::fabs(AsFloat(decoded[i]) - AsFloat(x[i])) <= limit);
  }
}

// Bytes that no encoder wrote: the same on all instruction sets, and finite values finite.
template <typename T>
void TestAnyBytes(const Format& format) {
  constexpr int64_t kElements = 3000;
  const int value_nbytes = format.value == ValueType::kBf16 ? 2 : 1;
  const RowLayout layout = LayoutOf(kElements, value_nbytes, format.group_size);
  std::vector<uint8_t> encoded(layout.nbytes);
  for (size_t i = 0; i < encoded.size(); ++i) encoded[i] = static_cast<uint8_t>(Mix(i) >> 9);
  const auto expected = Decode<T>(encoded, kElements, kElements, format, Isa::kBaseline);
  for (Isa isa : RunnableIsas()) {
    EPMC_CHECK(AreSame(Decode<T>(encoded, kElements, kElements, format, isa), expected));
  }
}

// What rounding carries beyond the largest number of the array's type becomes that number.
template <typename T>
void TestLargestNumber() {
  T largest;
  FromFloat(BitsToFloat(LargestFinite(T{})), &largest);
  const std::vector<T> x(96, largest);
  for (ValueType value : {ValueType::kE4m3fn, ValueType::kE5m2}) {
    const Format format{value, 64};
    for (Isa isa : RunnableIsas()) {
      EPMC_CHECK(AreSame(Decode<T>(Encode(x, 96, format, isa), 96, 96, format, isa), x));
    }
  }
}

// Every number of 16 bits, neighbours in groups and far from each other.
template <typename T>
void TestAllHalves(const Format& format) {
  constexpr int64_t kCount = 1 << 16;
  for (uint32_t factor : {1u, 40503u}) {
    std::vector<T> x(kCount);
    for (uint32_t i = 0; i < kCount; ++i) x[i].bits = static_cast<uint16_t>(i * factor);
    const auto encoded = Encode(x, kCount, format, Isa::kBaseline);
    const auto decoded = Decode<T>(encoded, kCount, kCount, format, Isa::kBaseline);
    for (Isa isa : RunnableIsas()) {
      EPMC_CHECK(Encode(x, kCount, format, isa) == encoded);
      EPMC_CHECK(AreSame(Decode<T>(encoded, kCount, kCount, format, isa), decoded));
    }
  }
}

// Groups around the least exponent, and numbers that count as 0 in all of them.
void TestSmallGroups() {
  constexpr int kGroup = 64;
  constexpr int64_t kCount = 80 * kGroup;
  std::vector<F32> x = ConvertedTo<F32>(MixedFloats(kCount, 5));
  for (int64_t i = 0; i < kCount; ++i) {
    x[i].value = std::ldexp(x[i].value, -80 - static_cast<int>(i / kGroup));
    if (i % 7 == 0) x[i].value = BitsToFloat(Mix(static_cast<uint32_t>(i)) & 0x807fffffu);
  }
  for (ValueType value : {ValueType::kE4m3fn, ValueType::kE5m2}) {
    const Format format{value, kGroup};
    const auto encoded = Encode(x, kCount, format, Isa::kBaseline);
    for (Isa isa : RunnableIsas()) EPMC_CHECK(Encode(x, kCount, format, isa) == encoded);
  }
}

// Wherever in a cache line an array starts, and whether it is written past the cache.
template <typename T>
void TestPlaces(FloatType type, int64_t elements, const Format& format) {
  constexpr int64_t kRows = 3;
  const auto x = ConvertedTo<T>(MixedFloats(kRows * elements, 17));
  const std::vector<uint8_t> encoded = Encode(x, elements, format, Isa::kBaseline);
  const auto expected = Decode<T>(encoded, x.size(), elements, format, Isa::kBaseline);
  const int64_t units = kRows * CeilDiv(elements, format.group_size);
  for (Isa isa : RunnableIsas()) {
    for (size_t offset : {0, 4, 32}) {
      PlacedArray y(x.size() * sizeof(T), offset);
      const DecodeArgs args{encoded.data(), y.data(), type, elements, format, true};
      DecodeOnHost(args, {0, units / 2}, isa);
      DecodeOnHost(args, {units / 2, units}, isa);
      EPMC_CHECK(std::memcmp(y.data(), expected.data(), x.size() * sizeof(T)) == 0);
      EPMC_CHECK(y.IsUntouchedAround());
    }
  }
}

// They stay in their place, and what is around them keeps its precision.
void TestSpecialValues() {
  std::vector<F32> x = ConvertedTo<F32>(MixedFloats(128, 3));
  x[20].value = -kInf;
  x[70].value = kInf;
  x[90].value = std::numeric_limits<float>::quiet_NaN();
  x[91].value = -0.0f;
  x[92].value = 3e38f;
  for (ValueType value : {ValueType::kBf16, ValueType::kE4m3fn, ValueType::kE5m2}) {
    const Format format{value, 64};
    const auto y = Decode<F32>(Encode(x, 128, format, BestIsa()), 128, 128, format, BestIsa());
    const bool has_infinity = value != ValueType::kE4m3fn;
    EPMC_CHECK(has_infinity ? y[20].value == -kInf : std::isnan(y[20].value));
    EPMC_CHECK(has_infinity ? y[70].value == kInf : std::isnan(y[70].value));
    EPMC_CHECK(std::isnan(y[90].value) && std::signbit(y[91].value));
    EPMC_CHECK(y[92].value > 2.8e38f && y[92].value < kInf);
    EPMC_CHECK(std::fabs(y[21].value - x[21].value) <= std::fabs(x[21].value) * 0x1p-3f);
  }
}

}  // namespace
}  // namespace epmc::narrow

int main() {
  using namespace epmc::narrow;
  TestAllCodes<AsE4m3fn>();
  TestAllCodes<AsE5m2>();
  TestLargestElements<AsE4m3fn>();
  TestLargestElements<AsE5m2>();
  TestSpecialValues();
  TestSmallGroups();
  TestLargestNumber<epmc::F32>();
  TestLargestNumber<epmc::Bf16>();
  TestLargestNumber<epmc::F16>();
  for (ValueType value : {ValueType::kBf16, ValueType::kE4m3fn, ValueType::kE5m2}) {
    for (int group_size : {32, 256, 1024}) {
      for (int64_t elements : {1, 33, 256, 1000, 2048}) {
        TestRoundTrip<epmc::F32>(3, elements, {value, group_size});
        TestRoundTrip<epmc::Bf16>(2, elements, {value, group_size});
        TestRoundTrip<epmc::F16>(2, elements, {value, group_size});
      }
      for (int64_t elements : {96, 333, 1024}) {
        using epmc::FloatType;
        TestPlaces<epmc::F32>(FloatType::kF32, elements, {value, group_size});
        TestPlaces<epmc::Bf16>(FloatType::kBf16, elements, {value, group_size});
        TestPlaces<epmc::F16>(FloatType::kF16, elements, {value, group_size});
      }
      TestAnyBytes<epmc::F32>({value, group_size});
      TestAnyBytes<epmc::Bf16>({value, group_size});
      TestAnyBytes<epmc::F16>({value, group_size});
      TestAllHalves<epmc::Bf16>({value, group_size});
      TestAllHalves<epmc::F16>({value, group_size});
    }
  }
}
