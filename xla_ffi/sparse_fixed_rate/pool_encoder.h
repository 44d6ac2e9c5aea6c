// Encodes one pool with the `Steps` of an instruction set: see scalar.h.
#ifndef EPMC_SPARSE_FIXED_RATE_POOL_ENCODER_H_
#define EPMC_SPARSE_FIXED_RATE_POOL_ENCODER_H_

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "xla_ffi/sparse_fixed_rate/kernels.h"
#include "xla_ffi/sparse_fixed_rate/scalar.h"
#include "xla_ffi/sparse_fixed_rate/workspace.h"

namespace epmc::sparse_fixed_rate {

// The elements of a pool, read once: its bitmap, and its nonzeros one behind the other.
template <typename Steps, typename T>
class PoolScanner {
 public:
  void Start(const EncodeArgs& args, const Place& at) {
    at_ = at;
    x_ = static_cast<const T*>(args.x) + at.first;
    group_size_ = args.format.group_size;
    scanned_ = 0;
    first_value_[0] = 0;
  }

  // All groups below `last`, if they have not been scanned.
  void ScanUpTo(int last) {
    for (; scanned_ < std::min(last, at_.groups); ++scanned_) {
      const Group group = At(scanned_);
      T* values = ValuesOf(scanned_);
      const int count =
          Steps::Compact(ElementsOf(group), group.blocks, BitmapOf(group), values);
      if (count > 0) ranges_[scanned_] = Steps::RangeOf(values, count);
      first_value_[scanned_ + 1] = first_value_[scanned_] + count;
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
  T* ValuesOf(int group) { return values_ + first_value_[group]; }
  int NonzerosOf(int group) const { return first_value_[group + 1] - first_value_[group]; }
  // Of a group that has nonzeros.
  const Range& RangeOf(int group) const { return ranges_[group]; }
  int nonzeros() const { return first_value_[at_.groups]; }

 private:
  Place at_;
  const T* x_;
  int group_size_;
  int scanned_;
  int first_value_[kMaxPoolGroups + 1];
  Range ranges_[kMaxPoolGroups];
  alignas(64) uint32_t bitmap_[kPool / kBlock];
  alignas(64) T values_[kPool + kSlack];
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
    const size_t nbytes = pool_.nonzeros() * sizeof(T);
    memcpy(values_, pool_.ValuesOf(0), nbytes);
    memset(values_ + nbytes, 0, 4 * at_.words - nbytes);
    memset(args_.rows + at_.lo, 0, 4 * at_.groups);
    memset(args_.rows + at_.step, 0, 4 * at_.groups);
  }

  Widths FindWidths() {
    for (int i = 0; i < at_.groups; ++i) {
      const int elements = pool_.At(i).elements;
      const int nonzeros = pool_.NonzerosOf(i);
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
    if (pool_.NonzerosOf(group) > 0) {
      const KeyRange& keys = pool_.RangeOf(group).keys;
      scale = ScaleOf(keys.lo, keys.hi, code_bits, is_dense_[group]);
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
    const bool is_dense = is_dense_[number];
    const int count = is_dense ? group.blocks * kBlock : num_values_[number];
    const T* x = is_dense ? pool_.ElementsOf(group) : pool_.ValuesOf(number);
    if (quantizers_[number].levels == 0) {
      memset(codes, 0, count * sizeof(uint16_t));
    } else if (pool_.RangeOf(number).has_subnormals) {
      Steps::Widen(x, count, work_->widened);
      Quantize(number, work_->widened, count, codes);
    } else {
      Quantize(number, x, count, codes);
    }
    if (is_dense) Steps::SplitDense(codes, pool_.BitmapOf(group), group.blocks, code_bits);
  }

  template <typename X>
  void Quantize(int number, const X* x, int count, uint16_t* codes) {
    const Quantizer& quantizer = quantizers_[number];
    if (!args_.is_stochastic) {
      Steps::template Quantize<false>(x, count, quantizer, nullptr, codes);
      return;
    }
    const uint32_t place = static_cast<uint32_t>(at_.group_number + number);
    const uint32_t key = group_quant::GroupKey(args_.seed, place, quantizer.scale);
    Steps::StoreDither(key, count, work_->dither);
    Steps::template Quantize<true>(x, count, quantizer, work_->dither, codes);
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

}  // namespace epmc::sparse_fixed_rate

#endif  // EPMC_SPARSE_FIXED_RATE_POOL_ENCODER_H_
