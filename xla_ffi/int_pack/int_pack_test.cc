#include "xla_ffi/int_pack/int_pack.h"

#include <algorithm>
#include <cstring>

#include "xla_ffi/common/check.h"
#include "xla_ffi/common/test_data.h"
#include "xla_ffi/int_pack/kernels.h"

namespace epmc::int_pack {
namespace {

template <typename T>
void TestRoundTrip(int64_t rows, int64_t elements, int bit_width) {
  std::vector<T> x(rows * elements);
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<T>(Mix(static_cast<uint32_t>(i)) & ((uint64_t{1} << bit_width) - 1));
  }
  const int64_t units = rows * NumBlocks(elements);
  const int64_t row_nbytes = RowNbytes(elements, bit_width);
  for (Isa isa : RunnableIsas()) {
    std::vector<uint8_t> encoded(rows * row_nbytes, 0xff);
    const int size = sizeof(T);
    const EncodeArgs encode{x.data(), encoded.data(), size, elements, bit_width};
    EncodeOnHost(encode, {0, units / 2}, isa);
    EncodeOnHost(encode, {units / 2, units}, isa);
    std::vector<T> decoded(x.size());
    const DecodeArgs decode{encoded.data(), decoded.data(), size, elements, bit_width};
    DecodeOnHost(decode, {0, units / 2}, isa);
    DecodeOnHost(decode, {units / 2, units}, isa);
    EPMC_CHECK(decoded == x);
    const int64_t used = 4 * bit_width * NumBlocks(elements);
    for (int64_t i = used; i < row_nbytes; ++i) EPMC_CHECK(encoded[i] == 0);
    std::vector<uint32_t> words(bit_width);
    std::memcpy(words.data(), encoded.data(), 4 * bit_width);
    for (int i = 0; i < kBlock && i < elements; ++i) {
      EPMC_CHECK(static_cast<T>(ValueOf(words.data(), bit_width, i)) == x[i]);
      const uint32_t equal = EqualTo(words.data(), bit_width, static_cast<uint32_t>(x[i]));
      EPMC_CHECK((equal >> i & 1u) == 1u);
    }
  }
}

// The rows of an array by the definition.
template <typename T>
std::vector<uint8_t> RowsOf(const std::vector<T>& x, int64_t rows, int64_t elements,
                            int bit_width) {
  const int64_t row_nbytes = RowNbytes(elements, bit_width);
  std::vector<uint8_t> encoded(rows * row_nbytes);
  for (int64_t row = 0; row < rows; ++row) {
    uint8_t* words = encoded.data() + row * row_nbytes;
    for (int64_t first = 0; first < elements; first += kBlock) {
      const int count = static_cast<int>(std::min<int64_t>(elements - first, kBlock));
      for (int plane = 0; plane < bit_width; ++plane, words += 4) {
        const bool has_plane = plane < 8 * static_cast<int>(sizeof(T));
        const T* from = x.data() + row * elements + first;
        const uint32_t word = has_plane ? PlaneOf(from, count, plane) : 0;
        std::memcpy(words, &word, 4);
      }
    }
  }
  return encoded;
}

// Elements of all sizes, wherever in a cache line the arrays start, and whether results are
// written past the cache: the planes are those of the definition, and nothing else changes.
template <typename T>
void TestPlaces(int64_t rows, int64_t elements, int bit_width) {
  std::vector<T> x(rows * elements);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<T>(Mix(static_cast<uint32_t>(i)));
  const std::vector<uint8_t> expected = RowsOf(x, rows, elements, bit_width);
  const uint64_t kept = (uint64_t{1} << bit_width) - 1;
  const int64_t units = rows * NumBlocks(elements);
  for (Isa isa : RunnableIsas()) {
    for (int64_t cut : {int64_t{0}, units / 2, units - 1}) {
      for (size_t offset : {0, 4, 32}) {
        PlacedArray encoded(expected.size(), offset), decoded(x.size() * sizeof(T), offset);
        const int size = sizeof(T);
        const EncodeArgs encode{x.data(), encoded.data(), size, elements, bit_width};
        EncodeOnHost(encode, {cut, units}, isa);
        EncodeOnHost(encode, {0, cut}, isa);
        EPMC_CHECK(std::memcmp(encoded.data(), expected.data(), expected.size()) == 0);
        const DecodeArgs decode{encoded.data(), decoded.data(), size,
                                elements,       bit_width,      offset != 4};
        DecodeOnHost(decode, {cut, units}, isa);
        DecodeOnHost(decode, {0, cut}, isa);
        const T* y = reinterpret_cast<const T*>(decoded.data());
        for (size_t i = 0; i < x.size(); ++i) EPMC_CHECK(y[i] == static_cast<T>(x[i] & kept));
        EPMC_CHECK(encoded.IsUntouchedAround() && decoded.IsUntouchedAround());
      }
    }
  }
}

}  // namespace
}  // namespace epmc::int_pack

int main() {
  for (int64_t elements : {32, 64, 96, 192, 333, 1024}) {
    for (int bit_width : {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32}) {
      epmc::int_pack::TestPlaces<uint8_t>(3, elements, bit_width);
      epmc::int_pack::TestPlaces<uint16_t>(3, elements, bit_width);
      epmc::int_pack::TestPlaces<uint32_t>(3, elements, bit_width);
    }
  }
  for (int64_t elements : {1, 32, 33, 100, 1000}) {
    for (int bit_width : {1, 2, 3, 5, 8}) {
      epmc::int_pack::TestRoundTrip<uint8_t>(3, elements, bit_width);
    }
    for (int bit_width : {1, 9, 16}) {
      epmc::int_pack::TestRoundTrip<uint16_t>(2, elements, bit_width);
    }
    for (int bit_width : {2, 17, 32}) {
      epmc::int_pack::TestRoundTrip<uint32_t>(2, elements, bit_width);
    }
  }
}
