// Decodes one pool with the `Steps` of an instruction set: see scalar.h.
#ifndef EPMC_SPARSE_FIXED_RATE_POOL_DECODER_H_
#define EPMC_SPARSE_FIXED_RATE_POOL_DECODER_H_

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "xla_ffi/sparse_fixed_rate/kernels.h"
#include "xla_ffi/sparse_fixed_rate/workspace.h"

namespace epmc::sparse_fixed_rate {

// Bitmap, flags and codes of a pool, whatever they are.
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

}  // namespace epmc::sparse_fixed_rate

#endif  // EPMC_SPARSE_FIXED_RATE_POOL_DECODER_H_
