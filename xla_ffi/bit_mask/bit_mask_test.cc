#include "xla_ffi/bit_mask/bit_mask.h"

#include <limits>

#include "xla_ffi/bit_mask/kernels.h"
#include "xla_ffi/common/check.h"
#include "xla_ffi/common/test_data.h"

namespace epmc::bit_mask {
namespace {

void TestSign() {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  EPMC_CHECK(IsSet(F32{kInf}) == 1 && IsSet(F32{-kInf}) == 0);
  EPMC_CHECK(IsSet(F32{0.0f}) == 0 && IsSet(F32{-0.0f}) == 0);
  EPMC_CHECK(IsSet(F32{BitsToFloat(kQuietNan)}) == 0);
  EPMC_CHECK(IsSet(F32{BitsToFloat(1)}) == 1);  // subnormal
  EPMC_CHECK(IsSet(Bf16{0x7f80}) == 1 && IsSet(Bf16{0x7f81}) == 0);
  EPMC_CHECK(IsSet(F16{0x7c00}) == 1 && IsSet(F16{0x7c01}) == 0 && IsSet(F16{0x8001}) == 0);
}

// Every instruction set, in one piece and in two, against the definition.
template <typename T>
void TestRoundTrip(ElementType type, int64_t rows, int64_t elements) {
  const auto x = ConvertedTo<T>(MixedFloats(rows * elements, 7));
  const int64_t units = rows * NumBlocks(elements);
  for (Isa isa : RunnableIsas()) {
    for (int64_t cut : {int64_t{0}, units / 2}) {
      std::vector<uint8_t> encoded(rows * RowNbytes(elements), 0xff);
      const EncodeArgs encode{x.data(), encoded.data(), type, elements};
      EncodeOnHost(encode, {0, cut}, isa);
      EncodeOnHost(encode, {cut, units}, isa);
      std::vector<uint8_t> mask(x.size(), 0xff);
      const DecodeArgs decode{encoded.data(), mask.data(), elements};
      DecodeOnHost(decode, {0, cut}, isa);
      DecodeOnHost(decode, {cut, units}, isa);
      for (size_t i = 0; i < x.size(); ++i) EPMC_CHECK(mask[i] == IsSet(x[i]));
      for (int64_t row = 0; row < rows; ++row) {
        const uint8_t* end = encoded.data() + (row + 1) * RowNbytes(elements);
        const int64_t padding = RowNbytes(elements) - 4 * NumBlocks(elements);
        for (int64_t i = 1; i <= padding; ++i) EPMC_CHECK(end[-i] == 0);
      }
    }
  }
}

// Wherever in a cache line the booleans start, and whether they are written past the cache.
void TestPlaces(int64_t rows, int64_t elements) {
  std::vector<uint8_t> encoded(rows * RowNbytes(elements));
  for (size_t i = 0; i < encoded.size(); ++i) encoded[i] = static_cast<uint8_t>(Mix(i));
  const int64_t units = rows * NumBlocks(elements);
  for (Isa isa : RunnableIsas()) {
    for (size_t offset : {0, 5, 32, 63}) {
      for (bool bypass_cache : {false, true}) {
        PlacedArray mask(rows * elements, offset);
        const DecodeArgs decode{encoded.data(), mask.data(), elements, bypass_cache};
        DecodeOnHost(decode, {0, units / 2}, isa);
        DecodeOnHost(decode, {units / 2, units}, isa);
        EPMC_CHECK(mask.IsUntouchedAround());
        for (int64_t i = 0; i < rows * elements; ++i) {
          const int64_t element = i % elements;
          const uint8_t byte = encoded[i / elements * RowNbytes(elements) + element / 8];
          EPMC_CHECK(mask.data()[i] == (byte >> element % 8 & 1));
        }
      }
    }
  }
}

}  // namespace
}  // namespace epmc::bit_mask

int main() {
  using epmc::bit_mask::ElementType;
  epmc::bit_mask::TestSign();
  for (int64_t elements : {1, 31, 32, 33, 100, 1000, 4096}) {
    for (int64_t rows : {1, 3}) {
      epmc::bit_mask::TestPlaces(rows, elements);
      epmc::bit_mask::TestRoundTrip<epmc::F32>(ElementType::kF32, rows, elements);
      epmc::bit_mask::TestRoundTrip<epmc::Bf16>(ElementType::kBf16, rows, elements);
      epmc::bit_mask::TestRoundTrip<epmc::F16>(ElementType::kF16, rows, elements);
    }
  }
}
