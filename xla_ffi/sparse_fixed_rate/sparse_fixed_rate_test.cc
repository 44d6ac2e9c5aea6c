#include <algorithm>
#include <cstring>
#include <vector>

#include "xla_ffi/common/check.h"
#include "xla_ffi/common/test_data.h"
#include "xla_ffi/sparse_fixed_rate/kernels.h"

namespace epmc::sparse_fixed_rate {
namespace {

// Widths never spend more than there is, and leave less than a bit per value.
void TestWidths() {
  for (int words : {4, 16, 96, 1536, 8192}) {
    for (int value_bits : {16, 32}) {
      for (uint32_t seed = 0; seed < 200; ++seed) {
        int values[32];
        int total = 0;
        for (int i = 0; i < 32; ++i) {
          values[i] = static_cast<int>(Mix(seed * 32 + i) % 513 * (seed % 3) / 2);
          values[i] = std::min(values[i], 512);
          total += values[i];
        }
        const Widths widths = WidthsOf(values, 32, words, value_bits);
        const int blocks = widths.WideBlocks() + BlocksOf(total - widths.wide_values);
        EPMC_CHECK(widths.FirstWord(blocks) <= words);
        EPMC_CHECK(widths.planes >= 0 && widths.planes <= kMaxCodeBits);
      }
    }
  }
}

// Numbers that take a path of their own: all instruction sets agree on their bytes, and on
// what decoding makes of these, past the cache too.
template <typename T>
void TestSpecials(FloatType type, uint32_t one_of, int64_t payload_nbytes) {
  constexpr uint32_t kSpecials[] = {0x80000000u, 0x00000001u, 0x807fffffu, 0x00400000u,
                                    0x7f800000u, 0xff800000u, 0x7fc00000u, 0xffffffffu,
                                    0x33000000u, 0xb8000000u, 0x7f7fffffu, 0xff7fffffu};
  constexpr int64_t kElements = 2 * kPool + 64;  // rows that start with a cache line
  std::vector<float> x = MixedFloats(kElements, 3);
  for (size_t i = 0; i < x.size(); ++i) {
    if (Mix(i) % one_of == 0) x[i] = BitsToFloat(kSpecials[Mix(i + 1) % 12]);
    if (i / 512 % 4 == 1) x[i] = BitsToFloat(Mix(i) % 0x00a00000u);  // subnormals, no negatives
    if (i / 512 % 4 == 2 && Mix(i) % 2 == 0) x[i] = 0.0f;
    // A range so small that it shows in a code of 16 bits, one in 600, which normal number a
    // subnormal one is taken for: x - lo is 32.95 units of dither, and up to 0.12 more.
    if (i / 512 % 4 == 3) x[i] = BitsToFloat(Mix(i) % 0x00800000u);
    if (i % 2048 == 1536) x[i] = 0x1p-99f;
    if (i % 2048 == 1537) x[i] = -0x1.09a9p-118f;
  }
  const std::vector<T> dense = ConvertedTo<T>(x);
  const Format format{512, payload_nbytes};
  const RowLayout layout = LayoutOf(kElements, format);
  std::vector<uint8_t> expected(layout.nbytes), expected_bytes(dense.size() * sizeof(T));
  for (bool is_stochastic : {false, true}) {
    for (Isa isa : RunnableIsas()) {
      std::vector<uint8_t> encoded(layout.nbytes, 0xff);
      const EncodeArgs encode{dense.data(), encoded.data(), type, kElements, format,
                              is_stochastic, 7};
      EncodeOnHost(encode, {0, layout.pools}, isa);
      PlacedArray decoded(expected_bytes.size(), 0);
      const DecodeArgs decode{encoded.data(), decoded.data(), type, kElements, format,
                              isa != Isa::kBaseline};
      DecodeOnHost(decode, {0, layout.pools}, isa);
      EPMC_CHECK(decoded.IsUntouchedAround());
      if (isa == Isa::kBaseline) {
        expected = encoded;
        memcpy(expected_bytes.data(), decoded.data(), expected_bytes.size());
      }
      EPMC_CHECK(encoded == expected);
      EPMC_CHECK(memcmp(decoded.data(), expected_bytes.data(), expected_bytes.size()) == 0);
    }
  }
}

void TestInverseLevels() {
  for (int code_bits = 1; code_bits <= kMaxCodeBits; ++code_bits) {
    for (bool is_dense : {false, true}) {
      const int levels = LevelsOf(code_bits, is_dense);
      if (levels == 0) continue;
      EPMC_CHECK(InverseLevels(code_bits, is_dense) == 1.0f / static_cast<float>(levels));
    }
  }
}

// Zeros stay zeros, nonzeros stay within the range of their group, and what fits is exact.
template <typename T>
void TestRoundTrip(FloatType type, int64_t rows, int64_t elements, int zeros_of_eight,
                   int64_t payload_nbytes) {
  std::vector<float> x = MixedFloats(rows * elements, 5);
  for (size_t i = 0; i < x.size(); ++i) {
    if (static_cast<int>(Mix(i + 9) % 8) < zeros_of_eight) x[i] = 0.0f;
  }
  const std::vector<T> dense = ConvertedTo<T>(x);
  const Format format{256, payload_nbytes};
  const RowLayout layout = LayoutOf(elements, format);
  const int64_t pools = rows * layout.pools;
  std::vector<uint8_t> expected(rows * layout.nbytes);
  for (Isa isa : RunnableIsas()) {
    std::vector<uint8_t> encoded(rows * layout.nbytes, 0xff);
    const EncodeArgs encode{dense.data(), encoded.data(), type, elements, format, true, 7};
    EncodeOnHost(encode, {0, pools / 2}, isa);
    EncodeOnHost(encode, {pools / 2, pools}, isa);
    if (isa == Isa::kBaseline) expected = encoded;
    EPMC_CHECK(encoded == expected);
    std::vector<T> decoded(dense.size());
    memset(decoded.data(), 0xff, decoded.size() * sizeof(T));
    DecodeOnHost({encoded.data(), decoded.data(), type, elements, format}, {0, pools}, isa);
    std::vector<uint8_t> mask(dense.size(), 0xff);
    const int value_bits = 8 * sizeof(T);
    MaskOnHost({encoded.data(), mask.data(), value_bits, elements, format}, {0, pools}, isa);
    const auto at_most = [](float a, float b) { return std::fabs(a) < std::fabs(b); };
    const float largest = std::fabs(*std::max_element(x.begin(), x.end(), at_most));
    for (size_t i = 0; i < dense.size(); ++i) {
      const float value = AsFloat(dense[i]), back = AsFloat(decoded[i]);
      if (value == 0.0f) EPMC_CHECK(back == 0.0f);
      EPMC_CHECK(mask[i] == (value != 0.0f));
      EPMC_CHECK(std::fabs(back) <= largest * 1.01f);
      if (zeros_of_eight == 8) EPMC_CHECK(back == value);
    }
  }
}

}  // namespace
}  // namespace epmc::sparse_fixed_rate

int main() {
  using epmc::FloatType;
  epmc::sparse_fixed_rate::TestWidths();
  epmc::sparse_fixed_rate::TestInverseLevels();
  for (int zeros : {0, 1, 4, 7, 8}) {
    for (int64_t payload : {16, 1536, 6144, 32768}) {
      for (int64_t elements : {1, 33, 1000, 16384, 20000}) {
        using epmc::sparse_fixed_rate::TestRoundTrip;
        TestRoundTrip<epmc::F32>(FloatType::kF32, 2, elements, zeros, payload);
        TestRoundTrip<epmc::Bf16>(FloatType::kBf16, 2, elements, zeros, payload);
        TestRoundTrip<epmc::F16>(FloatType::kF16, 2, elements, zeros, payload);
      }
    }
  }
  for (int64_t payload : {16, 6144, 32768}) {
    for (uint32_t one_of : {3, 97, 5000}) {
      epmc::sparse_fixed_rate::TestSpecials<epmc::F32>(FloatType::kF32, one_of, payload);
      epmc::sparse_fixed_rate::TestSpecials<epmc::Bf16>(FloatType::kBf16, one_of, payload);
      epmc::sparse_fixed_rate::TestSpecials<epmc::F16>(FloatType::kF16, one_of, payload);
    }
  }
  return 0;
}
