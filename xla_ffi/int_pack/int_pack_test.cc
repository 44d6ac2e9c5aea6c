#include "xla_ffi/int_pack/int_pack.h"

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

}  // namespace
}  // namespace epmc::int_pack

int main() {
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
