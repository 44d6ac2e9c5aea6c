// Conversions against each other and against known values.
#include <cmath>

#include "xla_ffi/common/check.h"
#include "xla_ffi/common/row_span.h"
#include "xla_ffi/common/test_data.h"

namespace epmc {
namespace {

void TestEveryHalfComesBack() {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const F16 half{static_cast<uint16_t>(bits)};
    F16 back;
    FromFloat(AsFloat(half), &back);
    const bool is_nan = (bits & 0x7fffu) > 0x7c00u;
    EPMC_CHECK(back.bits == (is_nan ? (bits | 0x200u) : bits));
  }
}

void TestEveryBfloatComesBack() {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const Bf16 value{static_cast<uint16_t>(bits)};
    Bf16 back;
    FromFloat(AsFloat(value), &back);
    const bool is_nan = (bits & 0x7fffu) > 0x7f80u;
    EPMC_CHECK(back.bits == (is_nan ? (bits | 0x40u) : bits));
  }
}

uint16_t HalfOf(float x) {
  F16 half;
  FromFloat(x, &half);
  return half.bits;
}

void TestHalvesRoundToEven() {
  EPMC_CHECK(HalfOf(1.0f + 0x1p-11f) == 0x3c00);            // tie, to even below
  EPMC_CHECK(HalfOf(1.0f + 3 * 0x1p-11f) == 0x3c02);        // tie, to even above
  EPMC_CHECK(HalfOf(1.0f + 0x1.1p-11f) == 0x3c01);
  EPMC_CHECK(HalfOf(65519.0f) == 0x7bff);                   // the largest half
  EPMC_CHECK(HalfOf(65520.0f) == 0x7c00);                   // infinity
  EPMC_CHECK(HalfOf(0x1p-25f) == 0x0000);                   // tie with zero
  EPMC_CHECK(HalfOf(0x1.8p-25f) == 0x0001);                 // the smallest half
  EPMC_CHECK(HalfOf(-0x1p-24f) == 0x8001);
}

void TestFlushing() {
  EPMC_CHECK(FlushedBits(0x80000000u) == 0);
  EPMC_CHECK(FlushedBits(0x007fffffu) == 0);
  EPMC_CHECK(FlushedBits(0x00800000u) == 0x00800000u);
  EPMC_CHECK(FlushedBits(kQuietNan) == kQuietNan);
}

// Spans cover each block once, whatever the range is cut into.
void TestSpans() {
  for (int64_t row_elements : {1, 31, 32, 33, 64, 100}) {
    const int64_t rows = 3;
    const int64_t blocks = NumBlocks(row_elements);
    for (int64_t first = 0; first < rows * blocks; ++first) {
      int64_t elements = 0;
      for (int64_t unit = first; unit < rows * blocks;) {
        const RowSpan span = NextSpan(unit, rows * blocks, row_elements);
        EPMC_CHECK(span.next > unit && span.row == unit / blocks);
        EPMC_CHECK(span.ends_row);
        elements += span.full_blocks * kBlock + span.tail_elements;
        unit = span.next;
      }
      const int64_t skipped = first / blocks * row_elements + first % blocks * kBlock;
      EPMC_CHECK(elements == rows * row_elements - skipped);
    }
  }
}

void TestNamesOfInstructionSets() {
  EPMC_CHECK(IsaNamed("scalar") == Isa::kBaseline && IsaNamed("avx2") == Isa::kAvx2);
  EPMC_CHECK(IsaNamed("avx512") == Isa::kAvx512 && IsaNamed("vbmi2") == Isa::kAvx512Vbmi2);
  EPMC_CHECK(!IsaNamed("AVX2") && !IsaNamed("avx-512") && !IsaNamed(""));
}

}  // namespace
}  // namespace epmc

int main() {
  epmc::TestEveryHalfComesBack();
  epmc::TestEveryBfloatComesBack();
  epmc::TestHalvesRoundToEven();
  epmc::TestFlushing();
  epmc::TestSpans();
  epmc::TestNamesOfInstructionSets();
}
