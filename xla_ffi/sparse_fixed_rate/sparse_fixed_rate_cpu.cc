#include <cstring>

#include "xla_ffi/common/byte_plane.h"
#include "xla_ffi/common/dither.h"
#include "xla_ffi/sparse_fixed_rate/kernels.h"
#include "xla_ffi/sparse_fixed_rate/pool.h"

namespace epmc::sparse_fixed_rate {
namespace {

// Codes of a pool in the order of their streams, each of which ends with a whole block.
constexpr int kMaxCodes = kPool + 2 * kBlock;

// One bit per element, 32 to a word.
template <typename T>
EPMC_HD uint32_t NonzerosOf(const T* x, int count) {
  alignas(32) uint8_t bytes[kBlock] = {};
  for (int i = 0; i < count; ++i) bytes[i] = static_cast<uint8_t>(IsNonzero(x[i]));
  return BytePlane(bytes, 0);
}

template <typename T>
struct EncodeKernel {
  EPMC_HD static void Run(const EncodeArgs& args, const UnitRange& pools) {
    const RowLayout layout = LayoutOf(args.row_elements, args.format);
    for (int64_t unit = pools.first; unit < pools.last; ++unit) {
      const Place at = PlaceOf(unit, args.row_elements, args.format, layout);
      EncodePool(args, at);
      const bool ends_row = (unit + 1) % layout.pools == 0;
      if (ends_row) ZeroPadding(args.rows + unit / layout.pools * layout.nbytes,
                                args.row_elements, layout);
    }
  }

  // Alignment bytes are zero: equal arrays have equal rows.
  EPMC_HD static void ZeroPadding(uint8_t* row, int64_t elements, const RowLayout& layout) {
    const int64_t bitmap = 4 * NumBlocks(elements);
    const int64_t scales = 4 * layout.groups;
    memset(row + bitmap, 0, layout.lo_offset - bitmap);
    memset(row + layout.lo_offset + scales, 0, layout.step_offset - layout.lo_offset - scales);
    memset(row + layout.step_offset + scales, 0,
           layout.values_offset - layout.step_offset - scales);
  }

  EPMC_HD static void EncodePool(const EncodeArgs& args, const Place& at) {
    const T* x = static_cast<const T*>(args.x) + at.first;
    const int group_size = args.format.group_size;
    int nonzeros[kMaxPoolGroups] = {};
    int total = 0;
    for (int block = 0; block * kBlock < at.elements; ++block) {
      const uint32_t word = NonzerosOf(x + block * kBlock, BlockCount(at.elements, block));
      StoreWord(args.rows + at.bitmap + 4 * block, word);
      nonzeros[block * kBlock / group_size] += __builtin_popcount(word);
      total += __builtin_popcount(word);
    }
    memset(args.rows + at.values, 0, 4 * at.words);
    if (IsExact(total, 8 * sizeof(T), at.words)) return StoreExact(args, at, x);
    bool is_dense[kMaxPoolGroups];
    int values[kMaxPoolGroups];
    for (int group = 0; group < at.groups; ++group) {
      const int elements = ElementsOf(at, group, group_size);
      is_dense[group] = IsDense(nonzeros[group], elements, at.elements, at.words);
      values[group] = is_dense[group] ? elements : nonzeros[group];
    }
    const Widths widths = WidthsOf(values, at.groups, at.words, 8 * sizeof(T));
    uint16_t codes[kMaxCodes];
    int next = 0;
    for (int group = 0; group < at.groups; ++group) {
      if (group == widths.wide_groups) next = EndStream(codes, next);
      EncodeGroup(args, at, x, group, widths.PlanesOf(group), is_dense[group], codes + next);
      next += values[group];
    }
    next = EndStream(codes, next);
    StorePlanes(codes, next / kBlock, widths, args.rows + at.values);
  }

  EPMC_HD static int EndStream(uint16_t* codes, int next) {
    for (; next % kBlock != 0; ++next) codes[next] = 0;
    return next;
  }

  EPMC_HD static void StoreExact(const EncodeArgs& args, const Place& at, const T* x) {
    uint8_t* to = args.rows + at.values;
    for (int i = 0; i < at.elements; ++i) {
      if (!IsNonzero(x[i])) continue;
      memcpy(to, x + i, sizeof(T));
      to += sizeof(T);
    }
    memset(args.rows + at.lo, 0, 4 * at.groups);
    memset(args.rows + at.step, 0, 4 * at.groups);
  }

  EPMC_HD static void EncodeGroup(const EncodeArgs& args, const Place& at, const T* pool,
                                  int group, int planes, bool is_dense, uint16_t* codes) {
    const int group_size = args.format.group_size;
    const T* x = pool + group * group_size;
    const int elements = ElementsOf(at, group, group_size);
    const int code_bits = CodeBits(planes, is_dense);
    const GroupScale scale = FindScale(x, elements, code_bits, is_dense);
    const Quantizer quantizer = QuantizerOf(scale, code_bits, is_dense);
    const uint32_t number = static_cast<uint32_t>(at.group_number + group);
    const uint32_t key = group_quant::GroupKey(args.seed, number, scale);
    int count = 0;
    uint32_t tops[kMaxGroupSize / kBlock] = {};
    for (int i = 0; i < elements; ++i) {
      const bool is_nonzero = IsNonzero(x[i]);
      if (!is_nonzero && !is_dense) continue;
      uint32_t code = 0;
      if (is_nonzero) {
        const int32_t dither = args.is_stochastic ? Dither16(key, count) : group_quant::kHalf16;
        code = EncodeOne(NormalBits(ToFloatBits(x[i])), quantizer, dither) + is_dense;
      }
      if (is_dense) {
        tops[i / kBlock] |= (code >> (code_bits - 1)) << i % kBlock;
        code &= (1u << (code_bits - 1)) - 1;
      }
      codes[count++] = static_cast<uint16_t>(code);
    }
    if (is_dense) {
      memcpy(args.rows + at.bitmap + group * (group_size / 8), tops, 4 * NumBlocks(elements));
    }
    memcpy(args.rows + at.lo + 4 * group, &scale.lo, 4);
    StoreWord(args.rows + at.step + 4 * group,
              FloatBits(scale.step) | (is_dense ? kDenseFlag : 0));
  }

  EPMC_HD static int32_t Dither16(uint32_t key, int value) {
    const int place = value % kBlock;
    const uint32_t pair = DitherOfPair(key, value / kBlock * 16 + place % 16);
    return static_cast<int32_t>(place < 16 ? pair & 0xffffu : pair >> 16);
  }

  EPMC_HD static GroupScale FindScale(const T* x, int elements, int code_bits, bool is_dense) {
    int32_t lo = INT32_MAX;
    int32_t hi = INT32_MIN;
    for (int i = 0; i < elements; ++i) {
      const int32_t key = group_quant::OrderedKey(NormalBits(ToFloatBits(x[i])));
      const bool is_nonzero = IsNonzero(x[i]);
      lo = is_nonzero && key < lo ? key : lo;
      hi = is_nonzero && key > hi ? key : hi;
    }
    if (lo > hi) return {0.0f, 0.0f};
    return ScaleOf(lo, hi, code_bits, is_dense);
  }

  EPMC_HD static void StorePlanes(const uint16_t* codes, int blocks, const Widths& widths,
                                  uint8_t* values) {
    for (int block = 0; block < blocks; ++block) {
      alignas(32) uint8_t low[kBlock], high[kBlock];
      for (int i = 0; i < kBlock; ++i) {
        low[i] = static_cast<uint8_t>(codes[block * kBlock + i]);
        high[i] = static_cast<uint8_t>(codes[block * kBlock + i] >> 8);
      }
      uint8_t* to = values + 4 * widths.FirstWord(block);
      const int planes = widths.planes + (block < widths.WideBlocks());
      for (int j = 0; j < planes; ++j) {
        StoreWord(to + 4 * j, j < 8 ? BytePlane(low, j) : BytePlane(high, j - 8));
      }
    }
  }
};

// What bitmap and flags of a pool say, whatever they are.
struct Reading {
  uint32_t bitmap[kPool / kBlock];
  bool is_dense[kMaxPoolGroups];
  bool is_exact;
  bool has_dense;
  Widths widths;
  int blocks;
  uint16_t codes[kMaxCodes];
};

EPMC_HD void ReadBitmap(const DecodeArgs& args, const Place& at, int value_bits,
                        Reading* reading) {
  int values[kMaxPoolGroups] = {};
  const int group_size = args.format.group_size;
  for (int block = 0; block * kBlock < at.elements; ++block) {
    const int count = BlockCount(at.elements, block);
    const uint32_t valid = count == kBlock ? ~0u : (1u << count) - 1;
    const uint32_t word = LoadWord(args.rows + at.bitmap + 4 * block) & valid;
    reading->bitmap[block] = word;
    values[block * kBlock / group_size] += __builtin_popcount(word);
  }
  int total = 0;
  reading->has_dense = false;
  for (int group = 0; group < at.groups; ++group) {
    total += values[group];
    const uint32_t step = LoadWord(args.rows + at.step + 4 * group);
    reading->is_dense[group] = (step & kDenseFlag) != 0;
    reading->has_dense |= reading->is_dense[group];
    if (reading->is_dense[group]) values[group] = ElementsOf(at, group, group_size);
  }
  reading->is_exact = !reading->has_dense && IsExact(total, value_bits, at.words);
  reading->widths = WidthsOf(values, at.groups, at.words, value_bits);
  total = 0;
  for (int group = 0; group < at.groups; ++group) total += values[group];
  const int narrow = BlocksOf(total - reading->widths.wide_values);
  reading->blocks = reading->widths.WideBlocks() + narrow;
}

EPMC_HD void ReadCodes(const uint8_t* values, Reading* reading) {
  const Widths& widths = reading->widths;
  for (int block = 0; block < reading->blocks; ++block) {
    uint16_t* codes = reading->codes + block * kBlock;
    memset(codes, 0, kBlock * sizeof(uint16_t));
    const uint8_t* from = values + 4 * widths.FirstWord(block);
    const int planes = widths.planes + (block < widths.WideBlocks());
    for (int j = 0; j < planes; ++j) {
      const uint32_t word = LoadWord(from + 4 * j);
      for (int i = 0; i < kBlock; ++i) {
        codes[i] = static_cast<uint16_t>(codes[i] | (word >> i & 1u) << j);
      }
    }
  }
}

// Calls `store(element, code)` for every nonzero of the pool, `zero(element)` for the others.
template <typename Store, typename Zero>
EPMC_HD void ForElements(const Place& at, int group, int group_size, const Reading& reading,
                         int* next, const Store& store, const Zero& zero) {
  const bool is_dense = reading.is_dense[group];
  const int top = CodeBits(reading.widths.PlanesOf(group), is_dense) - 1;
  const int first = group * group_size;
  const int last = first + ElementsOf(at, group, group_size);
  for (int i = first; i < last; ++i) {
    const uint32_t bit = reading.bitmap[i / kBlock] >> i % kBlock & 1u;
    if (is_dense) {
      const uint32_t code = reading.codes[(*next)++] | bit << top;
      code == 0 ? zero(i) : store(i, code - 1);
    } else if (bit != 0) {
      store(i, uint32_t{reading.codes[(*next)++]});
    } else {
      zero(i);
    }
  }
}

template <typename T>
struct DecodeKernel {
  EPMC_HD static void Run(const DecodeArgs& args, const UnitRange& pools) {
    const RowLayout layout = LayoutOf(args.row_elements, args.format);
    Reading reading;
    for (int64_t unit = pools.first; unit < pools.last; ++unit) {
      const Place at = PlaceOf(unit, args.row_elements, args.format, layout);
      ReadBitmap(args, at, 8 * sizeof(T), &reading);
      T* x = static_cast<T*>(args.x) + at.first;
      if (reading.is_exact) {
        LoadExact(args.rows + at.values, at, reading, x);
        continue;
      }
      ReadCodes(args.rows + at.values, &reading);
      int next = 0;
      for (int group = 0; group < at.groups; ++group) {
        if (group == reading.widths.wide_groups) next = reading.widths.WideBlocks() * kBlock;
        DecodeGroup(args, at, group, reading, &next, x);
      }
    }
  }

  EPMC_HD static void LoadExact(const uint8_t* from, const Place& at, const Reading& reading,
                                T* x) {
    for (int i = 0; i < at.elements; ++i) {
      if ((reading.bitmap[i / kBlock] >> i % kBlock & 1u) == 0) {
        x[i] = T{};
        continue;
      }
      memcpy(x + i, from, sizeof(T));
      from += sizeof(T);
    }
  }

  EPMC_HD static void DecodeGroup(const DecodeArgs& args, const Place& at, int group,
                                  const Reading& reading, int* next, T* x) {
    GroupScale scale;
    memcpy(&scale.lo, args.rows + at.lo + 4 * group, 4);
    scale.step = BitsToFloat(LoadWord(args.rows + at.step + 4 * group) & ~kDenseFlag);
    const auto store = [&](int i, uint32_t code) {
      FromFloat(group_quant::DecodeOne(code, scale), x + i);
    };
    const auto zero = [&](int i) { x[i] = T{}; };
    ForElements(at, group, args.format.group_size, reading, next, store, zero);
  }
};

}  // namespace

void EncodeOnHost(const EncodeArgs& args, UnitRange pools, Isa isa) {
  switch (args.type) {
    case FloatType::kF32:
      return RunOn<EncodeKernel<F32>>(isa, args, pools);
    case FloatType::kBf16:
      return RunOn<EncodeKernel<Bf16>>(isa, args, pools);
    case FloatType::kF16:
      return RunOn<EncodeKernel<F16>>(isa, args, pools);
  }
}

void DecodeOnHost(const DecodeArgs& args, UnitRange pools, Isa isa) {
  switch (args.type) {
    case FloatType::kF32:
      return RunOn<DecodeKernel<F32>>(isa, args, pools);
    case FloatType::kBf16:
      return RunOn<DecodeKernel<Bf16>>(isa, args, pools);
    case FloatType::kF16:
      return RunOn<DecodeKernel<F16>>(isa, args, pools);
  }
}

}  // namespace epmc::sparse_fixed_rate
