#include <algorithm>
#include <cstring>
#include <type_traits>

#include "xla_ffi/bit_mask/kernels.h"
#include "xla_ffi/sparse_fixed_rate/kernels.h"
#include "xla_ffi/sparse_fixed_rate/pool.h"
#include "xla_ffi/sparse_fixed_rate/scalar.h"
#include "xla_ffi/sparse_fixed_rate/sparse_fixed_rate_avx2.h"
#include "xla_ffi/sparse_fixed_rate/sparse_fixed_rate_avx512.h"

namespace epmc::sparse_fixed_rate {
namespace {

// Vectors are written whole: up to this many elements behind the last one that counts.
constexpr int kSlack = 2 * kBlock;
// Codes of a pool in the order of their streams, each of which ends with a whole block.
constexpr int kMaxCodes = kPool + 2 * kBlock;

// One pool on its way, in the first two caches.
struct Workspace {
  alignas(64) uint16_t codes[kMaxCodes + kSlack];
  alignas(64) uint32_t bitmap[kPool / kBlock];
  alignas(64) F32 raw[kPool + kSlack];  // values that are stored as they are
  // Of one group:
  alignas(64) F32 padded[kMaxGroupSize];  // its elements, if they do not fill their blocks
  alignas(64) F32 widened[kMaxGroupSize];
  alignas(64) uint16_t all_codes[kMaxGroupSize];
  alignas(64) uint16_t dither[kMaxGroupSize + kSlack];
  alignas(64) uint16_t dither_of_values[kMaxGroupSize + kSlack];
};

struct Group {
  int first;  // element of the pool
  int elements;
  int blocks;
};

Group GroupOf(const Place& at, int group, int group_size) {
  const int elements = ElementsOf(at, group, group_size);
  return {group * group_size, elements, static_cast<int>(NumBlocks(elements))};
}

// Alignment bytes are zero: equal arrays have equal rows.
void ZeroPadding(uint8_t* row, int64_t elements, const RowLayout& layout) {
  const int64_t bitmap = 4 * NumBlocks(elements);
  const int64_t scales = 4 * layout.groups;
  memset(row + bitmap, 0, layout.lo_offset - bitmap);
  memset(row + layout.lo_offset + scales, 0, layout.step_offset - layout.lo_offset - scales);
  memset(row + layout.step_offset + scales, 0,
         layout.values_offset - layout.step_offset - scales);
}

// The elements of a pool: read once to count them, once to encode them.
template <typename Steps, typename T>
class PoolScanner {
 public:
  void Start(const EncodeArgs& args, const Place& at) {
    at_ = at;
    x_ = static_cast<const T*>(args.x) + at.first;
    group_size_ = args.format.group_size;
    scanned_ = 0;
    nonzeros_ = 0;
  }

  // All groups below `last`, if they have not been scanned.
  void ScanUpTo(int last) {
    for (; scanned_ < std::min(last, at_.groups); ++scanned_) {
      const Group group = At(scanned_);
      scans_[scanned_] = Steps::ScanGroup(ElementsOf(group), group.blocks, BitmapOf(group));
      nonzeros_ += scans_[scanned_].nonzeros;
    }
  }

  // Whole blocks: what the last one lacks is zero.
  const T* ElementsOf(const Group& group) {
    const T* x = x_ + group.first;
    if (group.elements % kBlock == 0) return x;
    memcpy(padded_, x, group.elements * sizeof(T));
    const int missing = group.blocks * kBlock - group.elements;
    memset(padded_ + group.elements, 0, missing * sizeof(T));
    return padded_;
  }

  const Place& at() const { return at_; }
  Group At(int group) const { return GroupOf(at_, group, group_size_); }
  uint32_t* BitmapOf(const Group& group) { return bitmap_ + group.first / kBlock; }
  const Scan& ScanOf(int group) const { return scans_[group]; }
  int nonzeros() const { return nonzeros_; }

 private:
  Place at_;
  const T* x_;
  int group_size_;
  int scanned_;
  int nonzeros_;
  Scan scans_[kMaxPoolGroups];
  alignas(64) uint32_t bitmap_[kPool / kBlock];
  alignas(64) T padded_[kMaxGroupSize];
};

template <typename Steps, typename T>
class PoolEncoder {
 public:
  using Scanner = PoolScanner<Steps, T>;

  PoolEncoder(const EncodeArgs& args, Scanner* pool, Workspace* work)
      : args_(args), at_(pool->at()), pool_(*pool), values_(args.rows + at_.values), work_(work) {}

  // `next`: of the next pool, scanned meanwhile: what comes from memory comes evenly, without
  // pauses in which nothing is read (a third of the time otherwise). May be null.
  void Run(Scanner* next) {
    pool_.ScanUpTo(at_.groups);
    if (IsExact(pool_.nonzeros(), 8 * sizeof(T), at_.words)) {
      StoreExact();
    } else {
      StoreCodes(FindWidths(), next);
    }
    memcpy(args_.rows + at_.bitmap, pool_.BitmapOf(pool_.At(0)), 4 * NumBlocks(at_.elements));
  }

 private:
  void StoreExact() {
    T* next = reinterpret_cast<T*>(work_->raw);
    for (int i = 0; i < at_.groups; ++i) {
      const Group group = pool_.At(i);
      next += Steps::Compact(pool_.ElementsOf(group), pool_.BitmapOf(group), group.blocks, next);
    }
    const size_t nbytes = pool_.nonzeros() * sizeof(T);
    memcpy(values_, work_->raw, nbytes);
    memset(values_ + nbytes, 0, 4 * at_.words - nbytes);
    memset(args_.rows + at_.lo, 0, 4 * at_.groups);
    memset(args_.rows + at_.step, 0, 4 * at_.groups);
  }

  Widths FindWidths() {
    for (int i = 0; i < at_.groups; ++i) {
      const int elements = pool_.At(i).elements;
      const int nonzeros = pool_.ScanOf(i).nonzeros;
      is_dense_[i] = IsDense(nonzeros, elements, at_.elements, at_.words);
      num_values_[i] = is_dense_[i] ? elements : nonzeros;
    }
    return WidthsOf(num_values_, at_.groups, at_.words, 8 * sizeof(T));
  }

  // All scales first: each takes two divisions, whose time is hidden behind one another's.
  void StoreCodes(const Widths& widths, Scanner* next_pool) {
    for (int i = 0; i < at_.groups; ++i) StoreScale(i, CodeBits(widths.PlanesOf(i), is_dense_[i]));
    int next = 0;
    for (int i = 0; i < at_.groups; ++i) {
      if (i == widths.wide_groups) next = EndStream(next);
      if (next_pool != nullptr) next_pool->ScanUpTo(i + 1);
      EncodeGroup(i, CodeBits(widths.PlanesOf(i), is_dense_[i]), work_->codes + next);
      next += num_values_[i];
    }
    next = EndStream(next);
    const int wide = widths.WideBlocks();
    const int narrow = next / kBlock - wide;
    if (wide > 0) Steps::StorePlanes(work_->codes, wide, widths.planes + 1, values_);
    Steps::StorePlanes(work_->codes + wide * kBlock, narrow, widths.planes,
                      values_ + 4 * widths.FirstWord(wide));
    const int used = widths.FirstWord(wide + narrow);
    memset(values_ + 4 * used, 0, 4 * (at_.words - used));
  }

  void StoreScale(int group, int code_bits) {
    GroupScale scale = {0.0f, 0.0f};
    const Scan& scan = pool_.ScanOf(group);
    if (scan.nonzeros > 0) {
      scale = ScaleOf(scan.range.lo, scan.range.hi, code_bits, is_dense_[group]);
    }
    quantizers_[group] = QuantizerOf(scale, code_bits, is_dense_[group]);
    const uint32_t flag = is_dense_[group] ? kDenseFlag : 0;
    StoreWord(args_.rows + at_.lo + 4 * group, FloatBits(scale.lo));
    StoreWord(args_.rows + at_.step + 4 * group, FloatBits(scale.step) | flag);
  }

  int EndStream(int next) {
    for (; next % kBlock != 0; ++next) work_->codes[next] = 0;
    return next;
  }

  void EncodeGroup(int number, int code_bits, uint16_t* codes) {
    const Group group = pool_.At(number);
    uint16_t* all = is_dense_[number] ? codes : work_->all_codes;
    if (quantizers_[number].levels == 0) {
      memset(all, 0, group.blocks * kBlock * sizeof(uint16_t));
    } else if (pool_.ScanOf(number).has_subnormals) {
      Steps::Widen(pool_.ElementsOf(group), group.blocks, work_->widened);
      Quantize(number, work_->widened, all);
    } else {
      Quantize(number, pool_.ElementsOf(group), all);
    }
    if (is_dense_[number]) {
      Steps::SplitDense(codes, pool_.BitmapOf(group), group.blocks, code_bits);
    } else {
      Steps::Compact(all, pool_.BitmapOf(group), group.blocks, codes);
    }
  }

  template <typename X>
  void Quantize(int number, const X* x, uint16_t* codes) {
    const Group group = pool_.At(number);
    const Quantizer& quantizer = quantizers_[number];
    const uint32_t* words = pool_.BitmapOf(group);
    if (!args_.is_stochastic) {
      Steps::template Quantize<false>(x, words, group.blocks, quantizer, nullptr, codes);
      return;
    }
    const uint32_t place = static_cast<uint32_t>(at_.group_number + number);
    const uint32_t key = group_quant::GroupKey(args_.seed, place, quantizer.scale);
    const uint16_t* dither = work_->dither_of_values;
    Steps::StoreDither(key, num_values_[number], work_->dither_of_values);
    if (!is_dense_[number]) {
      Steps::Expand(dither, words, group.blocks, work_->dither);
      dither = work_->dither;
    }
    Steps::template Quantize<true>(x, words, group.blocks, quantizer, dither, codes);
  }

  const EncodeArgs& args_;
  const Place& at_;
  Scanner& pool_;
  uint8_t* const values_;
  Workspace* const work_;
  bool is_dense_[kMaxPoolGroups];
  int num_values_[kMaxPoolGroups];
  Quantizer quantizers_[kMaxPoolGroups];
};

// What bitmap and flags of a pool say, whatever they are.
struct Reading {
  bool is_dense[kMaxPoolGroups];
  bool has_dense;
  bool is_exact;
  int values;
  Widths widths;
};

template <typename Steps>
class PoolReader {
 public:
  PoolReader(const uint8_t* rows, const Format& format, const Place& at, Workspace* work)
      : rows_(rows), format_(format), at_(at), work_(work) {}

  Group At(int group) const { return GroupOf(at_, group, format_.group_size); }
  uint32_t* BitmapOf(const Group& group) const { return work_->bitmap + group.first / kBlock; }

  void ReadBitmap(int value_bits) {
    const int blocks = static_cast<int>(NumBlocks(at_.elements));
    const int rest = at_.elements % kBlock;
    memcpy(work_->bitmap, rows_ + at_.bitmap, 4 * blocks);
    if (rest != 0) work_->bitmap[blocks - 1] &= (1u << rest) - 1;
    int values[kMaxPoolGroups];
    int nonzeros = 0;
    has_dense_ = false;
    values_ = 0;
    for (int i = 0; i < at_.groups; ++i) {
      const Group group = At(i);
      values[i] = Steps::CountBits(BitmapOf(group), group.blocks);
      nonzeros += values[i];
      has_dense_ |= IsDense(i);
      if (IsDense(i)) values[i] = group.elements;
      values_ += values[i];
    }
    is_exact_ = !has_dense_ && IsExact(nonzeros, value_bits, at_.words);
    widths_ = WidthsOf(values, at_.groups, at_.words, value_bits);
  }

  // Codes of groups one behind the other; only the streams end with whole blocks.
  void ReadCodes() {
    const uint8_t* from = rows_ + at_.values;
    const int wide = widths_.WideBlocks();
    const int narrow = BlocksOf(values_ - widths_.wide_values);
    if (wide > 0) Steps::LoadPlanes(from, wide, widths_.planes + 1, work_->codes);
    Steps::LoadPlanes(from + 4 * widths_.FirstWord(wide), narrow, widths_.planes,
                     work_->codes + widths_.wide_values);
  }

  void JoinDense(int group, uint16_t* codes) const {
    const int code_bits = CodeBits(widths_.PlanesOf(group), true);
    Steps::JoinDense(codes, BitmapOf(At(group)), At(group).blocks, code_bits);
  }

  GroupScale ScaleOf(int group) const {
    const uint32_t step = LoadWord(rows_ + at_.step + 4 * group) & ~kDenseFlag;
    return {BitsToFloat(LoadWord(rows_ + at_.lo + 4 * group)), BitsToFloat(step)};
  }

  bool IsDense(int group) const {
    return (LoadWord(rows_ + at_.step + 4 * group) & kDenseFlag) != 0;
  }

  bool has_dense() const { return has_dense_; }
  bool is_exact() const { return is_exact_; }

 private:
  const uint8_t* const rows_;
  const Format format_;
  const Place& at_;
  Workspace* const work_;
  bool has_dense_;
  bool is_exact_;
  int values_;
  Widths widths_;
};

template <typename Steps, bool kBypass, typename T>
class PoolDecoder {
 public:
  PoolDecoder(const DecodeArgs& args, const Place& at, Workspace* work)
      : reader_(args.rows, args.format, at, work),
        values_(args.rows + at.values),
        at_(at),
        x_(static_cast<T*>(args.x) + at.first),
        work_(work) {}

  void Run() {
    reader_.ReadBitmap(8 * sizeof(T));
    if (reader_.is_exact()) {
      // A copy: vectors are read whole, beyond the end of the rows too.
      memcpy(work_->raw, values_, 4 * at_.words);
      const T* next = reinterpret_cast<const T*>(work_->raw);
      Write([&](int, const Group& group, auto, T* out) {
        next += Steps::Expand(next, reader_.BitmapOf(group), group.blocks, out);
      });
      return;
    }
    reader_.ReadCodes();
    uint16_t* next = work_->codes;
    Write([&](int number, const Group& group, auto bypass, T* out) {
      const GroupScale scale = reader_.ScaleOf(number);
      const uint32_t* words = reader_.BitmapOf(group);
      if (reader_.IsDense(number)) {
        reader_.JoinDense(number, next);
        Steps::template DecodeDense<decltype(bypass)::value>(next, words, group.blocks, scale, out);
        next += group.elements;
      } else {
        next += Steps::template DecodeSparse<decltype(bypass)::value>(next, words, group.blocks,
                                                                     scale, out);
      }
    });
  }

 private:
  // Calls `decode(number, group, bypass, out)` for all groups, with room for whole blocks.
  template <typename Decode>
  void Write(const Decode& decode) {
    for (int i = 0; i < at_.groups; ++i) {
      const Group group = reader_.At(i);
      if (group.elements % kBlock == 0) {
        decode(i, group, std::bool_constant<kBypass>(), x_ + group.first);
        continue;
      }
      T* padded = reinterpret_cast<T*>(work_->padded);
      decode(i, group, std::false_type(), padded);
      memcpy(x_ + group.first, padded, group.elements * sizeof(T));
    }
  }

  PoolReader<Steps> reader_;
  const uint8_t* const values_;
  const Place& at_;
  T* const x_;
  Workspace* const work_;
};

template <typename Steps, typename T>
void Encode(const EncodeArgs& args, const UnitRange& pools) {
  const RowLayout layout = LayoutOf(args.row_elements, args.format);
  PoolScanner<Steps, T> scanners[2];
  Workspace work;
  const auto start = [&](int64_t unit) {
    PoolScanner<Steps, T>* scanner = &scanners[unit % 2];
    scanner->Start(args, PlaceOf(unit, args.row_elements, args.format, layout));
    return scanner;
  };
  PoolScanner<Steps, T>* next = pools.first < pools.last ? start(pools.first) : nullptr;
  for (int64_t unit = pools.first; unit < pools.last; ++unit) {
    PoolScanner<Steps, T>* pool = next;
    next = unit + 1 < pools.last ? start(unit + 1) : nullptr;
    PoolEncoder<Steps, T>(args, pool, &work).Run(next);
    const bool ends_row = (unit + 1) % layout.pools == 0;
    if (ends_row) {
      ZeroPadding(args.rows + unit / layout.pools * layout.nbytes, args.row_elements, layout);
    }
  }
}

template <typename Steps, bool kBypass, typename T>
void Decode(const DecodeArgs& args, const UnitRange& pools) {
  const RowLayout layout = LayoutOf(args.row_elements, args.format);
  Workspace work;
  for (int64_t unit = pools.first; unit < pools.last; ++unit) {
    const Place at = PlaceOf(unit, args.row_elements, args.format, layout);
    PoolDecoder<Steps, kBypass, T>(args, at, &work).Run();
  }
#if defined(__x86_64__)
  if (kBypass) _mm_sfence();
#endif
}

template <typename Steps, typename T>
void Decode(const DecodeArgs& args, const UnitRange& pools) {
  // Streaming stores need whole cache lines: rows that start at multiples of 64 bytes.
  const bool is_aligned = reinterpret_cast<uintptr_t>(args.x) % 64 == 0 &&
                          args.row_elements * sizeof(T) % 64 == 0;
  if (args.bypass_cache && is_aligned) return Decode<Steps, true, T>(args, pools);
  Decode<Steps, false, T>(args, pools);
}

template <typename Steps>
void Mask(const MaskArgs& args, const UnitRange& pools, Isa isa) {
  const RowLayout layout = LayoutOf(args.row_elements, args.format);
  Workspace work;
  for (int64_t unit = pools.first; unit < pools.last; ++unit) {
    const Place at = PlaceOf(unit, args.row_elements, args.format, layout);
    PoolReader<Steps> reader(args.rows, args.format, at, &work);
    reader.ReadBitmap(args.value_bits);
    if (reader.has_dense()) {
      reader.ReadCodes();
      uint16_t* next = work.codes;
      for (int i = 0; i < at.groups; ++i) {
        const Group group = reader.At(i);
        const int nonzeros = Steps::CountBits(reader.BitmapOf(group), group.blocks);
        if (reader.IsDense(i)) reader.JoinDense(i, next);
        next += reader.IsDense(i) ? group.elements : nonzeros;
      }
    }
    const uint8_t* words = reinterpret_cast<const uint8_t*>(work.bitmap);
    bit_mask::DecodeOnHost({words, args.mask + at.first, at.elements},
                           {0, NumBlocks(at.elements)}, isa);
  }
}

template <typename Run>
void ForIsa([[maybe_unused]] Isa isa, const Run& run) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512Vbmi2) return run(avx512::Vbmi2Steps{});
  if (isa == Isa::kAvx512) return run(avx512::Steps{});
  if (isa == Isa::kAvx2) return run(avx2::Steps{});
#endif
  run(Scalar{});
}

template <typename Run>
void ForType(FloatType type, const Run& run) {
  switch (type) {
    case FloatType::kF32:
      return run(F32{});
    case FloatType::kBf16:
      return run(Bf16{});
    case FloatType::kF16:
      return run(F16{});
  }
}

}  // namespace

void EncodeOnHost(const EncodeArgs& args, UnitRange pools, Isa isa) {
  ForIsa(isa, [&](auto simd) {
    ForType(args.type, [&](auto x) { Encode<decltype(simd), decltype(x)>(args, pools); });
  });
}

void DecodeOnHost(const DecodeArgs& args, UnitRange pools, Isa isa) {
  ForIsa(isa, [&](auto simd) {
    ForType(args.type, [&](auto x) { Decode<decltype(simd), decltype(x)>(args, pools); });
  });
}

void MaskOnHost(const MaskArgs& args, UnitRange pools, Isa isa) {
  ForIsa(isa, [&](auto simd) { Mask<decltype(simd)>(args, pools, isa); });
}

}  // namespace epmc::sparse_fixed_rate
