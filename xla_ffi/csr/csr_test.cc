#include "xla_ffi/csr/csr.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "xla_ffi/common/check.h"
#include "xla_ffi/common/test_data.h"
#include "xla_ffi/csr/kernels.h"

namespace epmc::csr {
namespace {

constexpr uint32_t kTestNan = 0x7fc1u;

template <typename Word>
std::vector<Word> SparseWords(int64_t count, uint32_t one_of) {
  std::vector<Word> x(count);
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t hash = Mix(static_cast<uint32_t>(i) + 99);
    // Zeros of both signs.
    const uint32_t zero = (hash & 64u) != 0 ? 0x80000000u : 0;
    const uint32_t bits = hash % one_of == 0 ? hash | 0x10000u : zero;
    x[i] = static_cast<Word>(sizeof(Word) == 2 ? bits >> 16 : bits);
  }
  return x;
}

template <typename Word>
std::vector<Word> Decode(const std::vector<uint8_t>& encoded, int64_t rows,
                         const RowLayout& layout, Isa isa) {
  std::vector<Word> x(rows * layout.elements, 7);
  const DecodeArgs args{encoded.data(), x.data(), layout, kTestNan};
  DecodeOnHost(args, {0, rows / 2}, isa);
  DecodeOnHost(args, {rows / 2, rows}, isa);
  return x;
}

template <typename Word>
void TestRoundTrip(int64_t rows, int64_t elements, double capacity, uint32_t one_of) {
  const RowLayout layout = LayoutOf(elements, sizeof(Word), capacity);
  const std::vector<Word> x = SparseWords<Word>(rows * elements, one_of);
  std::vector<uint8_t> first;
  for (Isa isa : RunnableIsas()) {
    std::vector<uint8_t> encoded(rows * layout.nbytes, 0xff);
    const EncodeArgs args{x.data(), encoded.data(), layout};
    EncodeOnHost(args, {rows / 2, rows}, isa);
    EncodeOnHost(args, {0, rows / 2}, isa);
    if (first.empty()) first = encoded;
    EPMC_CHECK(encoded == first);
    const std::vector<Word> decoded = Decode<Word>(encoded, rows, layout, isa);
    for (int64_t row = 0; row < rows; ++row) {
      const Word* from = x.data() + row * elements;
      const auto is_nonzero = [](Word bits) { return IsNonzero(bits); };
      const int64_t count = std::count_if(from, from + elements, is_nonzero);
      uint32_t stored;
      std::memcpy(&stored, encoded.data() + row * layout.nbytes, sizeof(stored));
      EPMC_CHECK(stored == count);
      for (int64_t i = 0; i < elements; ++i) {
        const Word kept = IsNonzero(from[i]) ? from[i] : 0;
        const Word expected = count > layout.room ? static_cast<Word>(kTestNan) : kept;
        EPMC_CHECK(decoded[row * elements + i] == expected);
      }
    }
  }
}

// Bytes that no encoder wrote: nothing outside of the row is written.
template <typename Word>
void TestAnyBytes(int64_t elements) {
  const RowLayout layout = LayoutOf(elements, sizeof(Word), 0.5);
  std::vector<uint8_t> encoded(3 * layout.nbytes);
  for (size_t i = 0; i < encoded.size(); ++i) encoded[i] = static_cast<uint8_t>(Mix(i) >> 7);
  const uint32_t full = static_cast<uint32_t>(layout.room);
  std::memcpy(encoded.data(), &full, sizeof(full));
  for (Isa isa : RunnableIsas()) Decode<Word>(encoded, 3, layout, isa);
}

}  // namespace
}  // namespace epmc::csr

int main() {
  using namespace epmc::csr;
  EPMC_CHECK(!IsNonzero(0x80000000u) && !IsNonzero(uint16_t{0x8000}));
  EPMC_CHECK(IsNonzero(1u) && IsNonzero(uint16_t{0x8001}) && IsNonzero(0x7fc00000u));
  for (int64_t elements : {1, 31, 32, 256, 257, 1000, 70000}) {
    for (double capacity : {0.01, 0.3, 0.5, 1.0}) {
      for (uint32_t one_of : {1u, 2u, 4u, 100u}) {
        TestRoundTrip<uint16_t>(3, elements, capacity, one_of);
        TestRoundTrip<uint32_t>(3, elements, capacity, one_of);
      }
    }
    TestAnyBytes<uint16_t>(elements);
    TestAnyBytes<uint32_t>(elements);
  }
}
