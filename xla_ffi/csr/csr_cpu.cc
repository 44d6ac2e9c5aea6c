#include <cstring>

#include "xla_ffi/csr/csr_avx512.h"
#include "xla_ffi/csr/kernels.h"

namespace epmc::csr {
namespace {

// How a block is compacted where there is room for all of it: every element is written, and
// the place moves on if it is to stay. At a density of a half the processor would guess wrong
// at every other element.
struct AnyBlock {
  template <typename Word, typename Index>
  EPMC_HD static int64_t Compact(const Word* x, int64_t first, Index* indices, Word* values) {
    int64_t count = 0;
    for (int i = 0; i < kBlock; ++i) {
      values[count] = x[i];
      indices[count] = static_cast<Index>(first + i);
      count += IsNonzero(x[i]);
    }
    return count;
  }
};

#if defined(__x86_64__)
struct Avx512Block {
  template <typename Word, typename Index>
  EPMC_AVX512 static int64_t Compact(const Word* x, int64_t first, Index* indices,
                                     Word* values) {
    return avx512::CompactBlock(x, first, indices, values);
  }
};
#endif

// Writes the nonzero elements and their indices as far as there is room; returns how many
// there are.
template <typename Block, typename Word, typename Index>
EPMC_HD int64_t CompactRow(const Word* x, const RowLayout& layout, Index* indices,
                           Word* values) {
  int64_t count = 0;
  int64_t i = 0;
  for (; i + kBlock <= layout.elements && count + kBlock <= layout.room; i += kBlock) {
    count += Block::Compact(x + i, i, indices + count, values + count);
  }
  for (; i < layout.elements; ++i) {
    if (!IsNonzero(x[i])) continue;
    if (count < layout.room) {
      values[count] = x[i];
      indices[count] = static_cast<Index>(i);
    }
    ++count;
  }
  return count;
}

// Unused places and alignment bytes are zero: equal arrays have equal rows.
EPMC_HD void ZeroUnused(uint8_t* row, const RowLayout& layout, int64_t count) {
  const int64_t used = count < layout.room ? count : layout.room;
  const int64_t indices_end = kIndicesOffset + used * layout.index_nbytes;
  const int64_t values_end = layout.values_offset + used * layout.element_nbytes;
  memset(row + sizeof(uint32_t), 0, kIndicesOffset - sizeof(uint32_t));
  memset(row + indices_end, 0, layout.values_offset - indices_end);
  memset(row + values_end, 0, layout.nbytes - values_end);
}

template <typename Word, typename Index, typename Block>
struct EncodeKernel {
  EPMC_HD static void Run(const EncodeArgs& args, const UnitRange& range) {
    const RowLayout& layout = args.layout;
    for (int64_t i = range.first; i < range.last; ++i) {
      uint8_t* row = args.rows + i * layout.nbytes;
      const int64_t count =
          CompactRow<Block>(static_cast<const Word*>(args.x) + i * layout.elements, layout,
                            reinterpret_cast<Index*>(row + kIndicesOffset),
                            reinterpret_cast<Word*>(row + layout.values_offset));
      const uint32_t stored = static_cast<uint32_t>(count);
      memcpy(row, &stored, sizeof(stored));
      ZeroUnused(row, layout, count);
    }
  }
};

template <typename Word, typename Index>
struct DecodeKernel {
  EPMC_HD static void Run(const DecodeArgs& args, const UnitRange& range) {
    const RowLayout& layout = args.layout;
    for (int64_t i = range.first; i < range.last; ++i) {
      const uint8_t* row = args.rows + i * layout.nbytes;
      const Index* indices = reinterpret_cast<const Index*>(row + kIndicesOffset);
      const Word* values = reinterpret_cast<const Word*>(row + layout.values_offset);
      Word* x = static_cast<Word*>(args.x) + i * layout.elements;
      uint32_t count;
      memcpy(&count, row, sizeof(count));
      if (count > layout.room) {
        for (int64_t j = 0; j < layout.elements; ++j) x[j] = static_cast<Word>(args.nan);
        continue;
      }
      for (int64_t j = 0; j < layout.elements; ++j) x[j] = 0;  // memset takes no nullptr
      for (int64_t k = 0; k < count; ++k) {
        if (indices[k] < layout.elements) x[indices[k]] = values[k];
      }
    }
  }
};

template <typename Word, typename Index>
void Run(const EncodeArgs& args, const UnitRange& rows, Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::kAvx512) {
    return RunAvx512<EncodeKernel<Word, Index, Avx512Block>>(args, rows);
  }
#endif
  RunOn<EncodeKernel<Word, Index, AnyBlock>>(isa, args, rows);
}

template <typename Word, typename Index>
void Run(const DecodeArgs& args, const UnitRange& rows, Isa isa) {
  RunOn<DecodeKernel<Word, Index>>(isa, args, rows);
}

template <typename Word, typename Args>
void RunForIndex(const Args& args, const UnitRange& rows, Isa isa) {
  switch (args.layout.index_nbytes) {
    case 1:
      return Run<Word, uint8_t>(args, rows, isa);
    case 2:
      return Run<Word, uint16_t>(args, rows, isa);
    default:
      return Run<Word, uint32_t>(args, rows, isa);
  }
}

template <typename Args>
void RunForWord(const Args& args, const UnitRange& rows, Isa isa) {
  if (args.layout.element_nbytes == 2) return RunForIndex<uint16_t>(args, rows, isa);
  RunForIndex<uint32_t>(args, rows, isa);
}

}  // namespace

void EncodeOnHost(const EncodeArgs& args, UnitRange rows, Isa isa) {
  RunForWord(args, rows, isa);
}

void DecodeOnHost(const DecodeArgs& args, UnitRange rows, Isa isa) {
  RunForWord(args, rows, isa);
}

}  // namespace epmc::csr
