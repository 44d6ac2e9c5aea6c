// Encodes one pool with the `Steps` of an instruction set: see scalar.h.
#ifndef EPMC_SPARSE_FIXED_RATE_POOL_ENCODER_H_
#define EPMC_SPARSE_FIXED_RATE_POOL_ENCODER_H_

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "xla_ffi/common/cache_lines.h"
#include "xla_ffi/sparse_fixed_rate/kernels.h"
#include "xla_ffi/sparse_fixed_rate/scalar.h"
#include "xla_ffi/sparse_fixed_rate/workspace.h"

namespace epmc::sparse_fixed_rate {

// Where the nonzeros of groups wait for the widths of their pool, in the order in which the
// groups are read: as many places as a pool has groups, and one. A place is used again as
// soon as it is free, while it is in the first cache.
template <typename T>
class WaitingValues {
 public:
  WaitingValues(int64_t row_elements, int group_size)
      : stride_(group_size + kSlack), places_(MaxGroups(row_elements, group_size) + 1) {}

  T* Next() {
    T* const place = values_ + next_ * stride_;
    next_ = next_ + 1 < places_ ? next_ + 1 : 0;
    return place;
  }

 private:
  // Of a pool of such a row.
  static int MaxGroups(int64_t row_elements, int group_size) {
    return static_cast<int>(CeilDiv(std::min<int64_t>(row_elements, kPool), group_size));
  }

  const int stride_;
  const int places_;
  int next_ = 0;
  alignas(64) T values_[kPool + kMaxGroupSize + (kMaxPoolGroups + 1) * kSlack];
};

// The elements of a pool, read once: its bitmap, and the nonzeros of each group one behind the
// other.
template <typename Steps, typename T>
class PoolScanner {
 public:
  void Start(const EncodeArgs& args, const Place& at, WaitingValues<T>* waiting) {
    at_ = at;
    x_ = static_cast<const T*>(args.x) + at.first;
    group_size_ = args.format.group_size;
    waiting_ = waiting;
    scanned_ = 0;
    nonzeros_ = 0;
  }

  // All groups below `last`, if they have not been scanned.
  void ScanUpTo(int last) {
    for (; scanned_ < std::min(last, at_.groups); ++scanned_) {
      const Group group = At(scanned_);
      T* values = waiting_->Next();
      const int count = Steps::Scan(ElementsOf(group), group.blocks, BitmapOf(group), values,
                                    &ranges_[scanned_]);
      values_[scanned_] = values;
      counts_[scanned_] = count;
      nonzeros_ += count;
      PrefetchOddLinesOf(group);
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
  const T* ValuesOf(int group) const { return values_[group]; }
  int NonzerosOf(int group) const { return counts_[group]; }
  // Of a group that has nonzeros.
  const Range& RangeOf(int group) const { return ranges_[group]; }
  int nonzeros() const { return nonzeros_; }

 private:
  // Asks for what comes later; the even lines were asked for while the group was scanned.
  // Thus there are never too many on their way, nor none.
  void PrefetchOddLinesOf(const Group& group) const {
    for (int i = 0; i < group.blocks; ++i) PrefetchOddLines(x_ + group.first + i * kBlock, i);
  }

  Place at_;
  const T* x_;
  int group_size_;
  WaitingValues<T>* waiting_;
  int scanned_;
  int nonzeros_;
  const T* values_[kMaxPoolGroups];
  int counts_[kMaxPoolGroups];
  Range ranges_[kMaxPoolGroups];
  alignas(64) uint32_t bitmap_[kPool / kBlock];
  alignas(64) T padded_[kMaxGroupSize];
};

// The codes of a pool on their way to planes of bits, of which one stream has one more than
// the other. Each stream ends with a whole block.
template <typename Steps>
class CodeStream {
 public:
  CodeStream(uint16_t* codes, uint8_t* out) : codes_(codes), out_(out) {}

  // The first stream, or the second one.
  void Start(int planes) {
    End();
    planes_ = planes;
  }

  // Where the next codes are to be written. Stores the planes of those before: a good while
  // after they were written, as vectors that other vectors hold in part wait for these.
  uint16_t* Next() {
    const int blocks = waiting_ / kBlock & ~1;  // two are transposed at once
    Store(blocks);
    waiting_ -= blocks * kBlock;
    memcpy(codes_, codes_ + blocks * kBlock, 2 * kBlock * sizeof(uint16_t));
    return codes_ + waiting_;
  }

  // `count` codes have been written.
  void Add(int count) { waiting_ += count; }

  // Where the bytes end.
  uint8_t* End() {
    for (; waiting_ % kBlock != 0; ++waiting_) codes_[waiting_] = 0;
    Store(waiting_ / kBlock);
    waiting_ = 0;
    return out_;
  }

 private:
  void Store(int blocks) {
    Steps::StorePlanes(codes_, blocks, planes_, out_);
    out_ += 4 * planes_ * blocks;
  }

  uint16_t* const codes_;
  uint8_t* out_;
  int waiting_ = 0;
  int planes_ = 0;
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
    uint8_t* out = values_;
    for (int i = 0; i < at_.groups; ++i) {
      const size_t nbytes = pool_.NonzerosOf(i) * sizeof(T);
      memcpy(out, pool_.ValuesOf(i), nbytes);
      out += nbytes;
    }
    memset(out, 0, values_ + 4 * at_.words - out);
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
    CodeStream<Steps> codes(work_->codes, values_);
    codes.Start(widths.PlanesOf(0));
    for (int i = 0; i < at_.groups; ++i) {
      if (i > 0 && i == widths.wide_groups) codes.Start(widths.planes);
      if (next_pool != nullptr) next_pool->ScanUpTo(i + 1);
      EncodeGroup(i, CodeBits(widths.PlanesOf(i), is_dense_[i]), codes.Next());
      codes.Add(num_values_[i]);
    }
    uint8_t* const end = codes.End();
    memset(end, 0, values_ + 4 * at_.words - end);
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
