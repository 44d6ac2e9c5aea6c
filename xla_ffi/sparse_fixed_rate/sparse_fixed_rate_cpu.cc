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

// One pool on its way, all of it in the second cache.
struct Workspace {
  // Each group's nonzeros from a place of its own on, with slack behind them.
  alignas(64) float values[kPool + kMaxPoolGroups * kSlack];
  alignas(64) uint16_t codes[kMaxCodes + kSlack];
  alignas(64) uint32_t bitmap[kPool / kBlock];
  alignas(64) float group[kMaxGroupSize];  // its elements, if they cannot be read in place
  alignas(64) float widened[kMaxGroupSize];
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

template <typename Simd, typename T>
class PoolEncoder {
 public:
  PoolEncoder(const EncodeArgs& args, const Place& at, Workspace* work)
      : args_(args),
        at_(at),
        x_(static_cast<const T*>(args.x) + at.first),
        values_(args.rows + at.values),
        work_(work) {}

  void Run() {
    int nonzeros[kMaxPoolGroups];
    int total = 0;
    for (int i = 0; i < at_.groups; ++i) {
      const Group group = At(i);
      nonzeros[i] =
          Simd::Compact(ElementsOf(group), group.blocks, BitmapOf(group), ValuesOf(i));
      total += nonzeros[i];
    }
    if (IsExact(total, 8 * sizeof(T), at_.words)) {
      StoreExact(total);
    } else {
      StoreCodes(nonzeros);
    }
    memcpy(args_.rows + at_.bitmap, work_->bitmap, 4 * NumBlocks(at_.elements));
  }

 private:
  Group At(int group) const { return GroupOf(at_, group, args_.format.group_size); }
  uint32_t* BitmapOf(const Group& group) { return work_->bitmap + group.first / kBlock; }

  float* ValuesOf(int group) const {
    return work_->values + group * (args_.format.group_size + kSlack);
  }

  // Whole blocks: what the last one lacks is zero.
  const T* ElementsOf(const Group& group) {
    const T* x = x_ + group.first;
    if (group.elements % kBlock == 0) return x;
    T* padded = reinterpret_cast<T*>(work_->group);
    memcpy(padded, x, group.elements * sizeof(T));
    memset(padded + group.elements, 0, (group.blocks * kBlock - group.elements) * sizeof(T));
    return padded;
  }

  void StoreExact(int total) {
    T* next = reinterpret_cast<T*>(work_->values);
    for (int i = 0; i < at_.groups; ++i) {
      const Group group = At(i);
      next += Simd::CompactRaw(ElementsOf(group), group.blocks, next);
    }
    StorePayload(work_->values, total * sizeof(T));
    memset(args_.rows + at_.lo, 0, 4 * at_.groups);
    memset(args_.rows + at_.step, 0, 4 * at_.groups);
  }

  void StorePayload(const void* from, size_t nbytes) {
    memcpy(values_, from, nbytes);
    memset(values_ + nbytes, 0, 4 * at_.words - nbytes);
  }

  void StoreCodes(const int* nonzeros) {
    bool is_dense[kMaxPoolGroups];
    int values[kMaxPoolGroups];
    for (int i = 0; i < at_.groups; ++i) {
      const int elements = At(i).elements;
      is_dense[i] = IsDense(nonzeros[i], elements, at_.elements, at_.words);
      values[i] = is_dense[i] ? elements : nonzeros[i];
    }
    const Widths widths = WidthsOf(values, at_.groups, at_.words, 8 * sizeof(T));
    int next = 0;
    for (int i = 0; i < at_.groups; ++i) {
      if (i == widths.wide_groups) next = EndStream(next);
      EncodeGroup(i, nonzeros[i], widths.PlanesOf(i), is_dense[i], work_->codes + next);
      next += values[i];
    }
    next = EndStream(next);
    const int wide = widths.WideBlocks();
    const int narrow = next / kBlock - wide;
    if (wide > 0) Simd::StorePlanes(work_->codes, wide, widths.planes + 1, values_);
    Simd::StorePlanes(work_->codes + wide * kBlock, narrow, widths.planes,
                      values_ + 4 * widths.FirstWord(wide));
    const int used = widths.FirstWord(wide + narrow);
    memset(values_ + 4 * used, 0, 4 * (at_.words - used));
  }

  int EndStream(int next) {
    for (; next % kBlock != 0; ++next) work_->codes[next] = 0;
    return next;
  }

  void EncodeGroup(int number, int nonzeros, int planes, bool is_dense, uint16_t* codes) {
    const Group group = At(number);
    const int code_bits = CodeBits(planes, is_dense);
    GroupScale scale = {0.0f, 0.0f};
    const float* values = ValuesOf(number);
    if (nonzeros > 0) {
      const KeyRange range = Simd::Normalize(ValuesOf(number), nonzeros);
      scale = ScaleOf(range.lo, range.hi, code_bits, is_dense);
    }
    if (is_dense) {
      Simd::Widen(ElementsOf(group), group.blocks, work_->widened);
      values = work_->widened;
    }
    const int count = is_dense ? group.blocks * kBlock : nonzeros;
    Quantize(values, count, QuantizerOf(scale, code_bits, is_dense), number, codes);
    if (is_dense) Simd::SplitDense(codes, BitmapOf(group), group.blocks, code_bits);
    memcpy(args_.rows + at_.lo + 4 * number, &scale.lo, 4);
    StoreWord(args_.rows + at_.step + 4 * number,
              FloatBits(scale.step) | (is_dense ? kDenseFlag : 0));
  }

  void Quantize(const float* values, int count, const Quantizer& quantizer, int group,
                uint16_t* codes) {
    if (quantizer.levels == 0) {
      memset(codes, 0, count * sizeof(uint16_t));
    } else if (args_.is_stochastic) {
      const uint32_t number = static_cast<uint32_t>(at_.group_number + group);
      const uint32_t key = group_quant::GroupKey(args_.seed, number, quantizer.scale);
      Simd::template Quantize<true>(values, count, quantizer, key, codes);
    } else {
      Simd::template Quantize<false>(values, count, quantizer, 0, codes);
    }
  }

  const EncodeArgs& args_;
  const Place& at_;
  const T* const x_;
  uint8_t* const values_;
  Workspace* const work_;
};

// What bitmap and flags of a pool say, whatever they are.
struct Reading {
  bool is_dense[kMaxPoolGroups];
  bool has_dense;
  bool is_exact;
  int values;
  Widths widths;
};

template <typename Simd>
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
      values[i] = Simd::CountBits(BitmapOf(group), group.blocks);
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
    if (wide > 0) Simd::LoadPlanes(from, wide, widths_.planes + 1, work_->codes);
    Simd::LoadPlanes(from + 4 * widths_.FirstWord(wide), narrow, widths_.planes,
                     work_->codes + widths_.wide_values);
  }

  void JoinDense(int group, uint16_t* codes) const {
    const int code_bits = CodeBits(widths_.PlanesOf(group), true);
    Simd::JoinDense(codes, BitmapOf(At(group)), At(group).blocks, code_bits);
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

template <typename Simd, bool kBypass, typename T>
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
      memcpy(work_->values, values_, 4 * at_.words);
      const T* next = reinterpret_cast<const T*>(work_->values);
      Write([&](int, const Group& group, auto bypass, T* out) {
        next += Simd::template ExpandRaw<decltype(bypass)::value>(
            next, reader_.BitmapOf(group), group.blocks, out);
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
        Simd::template DecodeDense<decltype(bypass)::value>(next, words, group.blocks, scale, out);
        next += group.elements;
      } else {
        next += Simd::template DecodeSparse<decltype(bypass)::value>(next, words, group.blocks,
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
      T* padded = reinterpret_cast<T*>(work_->group);
      decode(i, group, std::false_type(), padded);
      memcpy(x_ + group.first, padded, group.elements * sizeof(T));
    }
  }

  PoolReader<Simd> reader_;
  const uint8_t* const values_;
  const Place& at_;
  T* const x_;
  Workspace* const work_;
};

template <typename Simd, typename T>
void Encode(const EncodeArgs& args, const UnitRange& pools) {
  const RowLayout layout = LayoutOf(args.row_elements, args.format);
  Workspace work;
  for (int64_t unit = pools.first; unit < pools.last; ++unit) {
    const Place at = PlaceOf(unit, args.row_elements, args.format, layout);
    PoolEncoder<Simd, T>(args, at, &work).Run();
    const bool ends_row = (unit + 1) % layout.pools == 0;
    if (ends_row) {
      ZeroPadding(args.rows + unit / layout.pools * layout.nbytes, args.row_elements, layout);
    }
  }
}

template <typename Simd, bool kBypass, typename T>
void Decode(const DecodeArgs& args, const UnitRange& pools) {
  const RowLayout layout = LayoutOf(args.row_elements, args.format);
  Workspace work;
  for (int64_t unit = pools.first; unit < pools.last; ++unit) {
    const Place at = PlaceOf(unit, args.row_elements, args.format, layout);
    PoolDecoder<Simd, kBypass, T>(args, at, &work).Run();
  }
#if defined(__x86_64__)
  if (kBypass) _mm_sfence();
#endif
}

template <typename Simd, typename T>
void Decode(const DecodeArgs& args, const UnitRange& pools) {
  // Streaming stores need whole cache lines: rows that start at multiples of 64 bytes.
  const bool is_aligned = reinterpret_cast<uintptr_t>(args.x) % 64 == 0 &&
                          args.row_elements * sizeof(T) % 64 == 0;
  if (args.bypass_cache && is_aligned) return Decode<Simd, true, T>(args, pools);
  Decode<Simd, false, T>(args, pools);
}

template <typename Simd>
void Mask(const MaskArgs& args, const UnitRange& pools, Isa isa) {
  const RowLayout layout = LayoutOf(args.row_elements, args.format);
  Workspace work;
  for (int64_t unit = pools.first; unit < pools.last; ++unit) {
    const Place at = PlaceOf(unit, args.row_elements, args.format, layout);
    PoolReader<Simd> reader(args.rows, args.format, at, &work);
    reader.ReadBitmap(args.value_bits);
    if (reader.has_dense()) {
      reader.ReadCodes();
      uint16_t* next = work.codes;
      for (int i = 0; i < at.groups; ++i) {
        const Group group = reader.At(i);
        const int nonzeros = Simd::CountBits(reader.BitmapOf(group), group.blocks);
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
  if (isa >= Isa::kAvx512) return run(avx512::Simd{});
  if (isa == Isa::kAvx2) return run(avx2::Simd{});
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
