// Cuts a range of blocks, numbered through all rows, at the ends of rows.
#ifndef EPMC_COMMON_ROW_SPAN_H_
#define EPMC_COMMON_ROW_SPAN_H_

#include <cstdint>

#include "xla_ffi/common/layout.h"

namespace epmc {

// Consecutive blocks of one row.
struct RowSpan {
  int64_t row;
  int64_t block;        // first block, within the row
  int64_t full_blocks;  // blocks with 32 elements
  int tail_elements;    // elements of the block after them; 0: there is none
  int64_t next;         // first unit behind this span
  bool ends_row;
};

EPMC_HD RowSpan NextSpan(int64_t unit, int64_t last, int64_t row_elements) {
  const int64_t blocks = NumBlocks(row_elements);
  RowSpan span;
  span.row = unit / blocks;
  span.block = unit - span.row * blocks;
  const int64_t row_end = (span.row + 1) * blocks;
  span.next = row_end < last ? row_end : last;
  span.ends_row = span.next == row_end;
  const int64_t end_element = (span.block + span.next - unit) * kBlock;
  const int64_t excess = end_element - row_elements;
  span.tail_elements = excess > 0 ? static_cast<int>(kBlock - excess) : 0;
  span.full_blocks = span.next - unit - (excess > 0);
  return span;
}

}  // namespace epmc

#endif  // EPMC_COMMON_ROW_SPAN_H_
