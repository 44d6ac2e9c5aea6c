#include <algorithm>
#include <cstring>

#include "xla_ffi/common/byte_plane.h"
#include "xla_ffi/common/cache_lines.h"
#include "xla_ffi/group_quant/group_quant.h"
#include "xla_ffi/group_quant/group_quant_avx2.h"
#include "xla_ffi/group_quant/group_quant_avx512.h"
#include "xla_ffi/group_quant/kernels.h"

namespace epmc::group_quant {
namespace {

// One group on its way: 1 KiB at the default group size, it stays in the first cache.
struct Scratch {
  alignas(64) float x[kMaxGroupSize];
  alignas(64) uint8_t codes[kMaxGroupSize];
};

// Where one group is in its array and in its row.
struct GroupPlace {
  int64_t row;
  int64_t group;
  int64_t first;  // element of the array
  int count;      // elements; less than group_size only in the last group of a row
};

EPMC_HD GroupPlace PlaceOf(int64_t unit, int64_t groups, int64_t elements, int group_size) {
  const int64_t row = unit / groups;
  const int64_t group = unit - row * groups;
  const int64_t first = group * group_size;
  const int64_t rest = elements - first;
  return {row, group, row * elements + first,
          static_cast<int>(rest < group_size ? rest : group_size)};
}

template <typename T>
EPMC_HD GroupScale LoadGroup(const T* source, int count, int bit_width, float* x) {
  int32_t lo = INT32_MAX;
  int32_t hi = INT32_MIN;
  for (int i = 0; i < count; ++i) {
    const uint32_t bits = FlushedBits(ToFloatBits(source[i]));
    const int32_t key = OrderedKey(bits);
    x[i] = BitsToFloat(bits);
    lo = key < lo ? key : lo;
    hi = key > hi ? key : hi;
  }
  return ScaleOf(lo, hi, bit_width);
}

EPMC_HD void EncodeNearest(const float* x, GroupScale scale, int32_t levels, int blocks,
                           uint8_t* codes) {
  const float inv16 = InverseStep16(scale.step);
  for (int i = 0; i < blocks * kBlock; ++i) {
    codes[i] = static_cast<uint8_t>(EncodeOne(x[i], scale.lo, inv16, kHalf16, levels));
  }
}

EPMC_HD void EncodeStochastic(const float* x, GroupScale scale, int32_t levels, int blocks,
                              uint32_t key, uint8_t* codes) {
  const float inv16 = InverseStep16(scale.step);
  for (int block = 0; block < blocks; ++block) {
    const float* from = x + block * kBlock;
    uint8_t* to = codes + block * kBlock;
    for (int i = 0; i < 16; ++i) {
      const uint32_t dither = DitherOfPair(key, block * 16 + i);
      const int32_t low = static_cast<int32_t>(dither & 0xffffu);
      const int32_t high = static_cast<int32_t>(dither >> 16);
      to[i] = static_cast<uint8_t>(EncodeOne(from[i], scale.lo, inv16, low, levels));
      to[i + 16] = static_cast<uint8_t>(EncodeOne(from[i + 16], scale.lo, inv16, high, levels));
    }
  }
}

template <int kBitWidth>
EPMC_HD void PackFields(const uint8_t* codes, int blocks, uint8_t* out) {
  if (kBitWidth == 8) memcpy(out, codes, blocks * kBlock);
  for (int block = 0; kBitWidth == 4 && block < blocks; ++block) {
    const uint8_t* c = codes + block * kBlock;
    for (int i = 0; i < 16; ++i) {
      out[block * 16 + i] = static_cast<uint8_t>(c[i] | c[i + 16] << 4);
    }
  }
  for (int block = 0; kBitWidth == 2 && block < blocks; ++block) {
    const uint8_t* c = codes + block * kBlock;
    for (int i = 0; i < 8; ++i) {
      out[block * 8 + i] =
          static_cast<uint8_t>(c[i] | c[i + 8] << 2 | c[i + 16] << 4 | c[i + 24] << 6);
    }
  }
}

template <int kBitWidth>
EPMC_HD void Pack(uint8_t* codes, int blocks, CodePlace<uint8_t> to) {
  for (int block = 0; PlaneBits(kBitWidth) && block < blocks; ++block) {
    const uint32_t word = BytePlane(codes + block * kBlock, kBitWidth - 1);
    memcpy(to.plane + 4 * block, &word, 4);
  }
  for (int i = 0; kBitWidth == 3 && i < blocks * kBlock; ++i) codes[i] &= 3u;
  PackFields<FieldBits(kBitWidth)>(codes, blocks, to.fields);
}

template <int kBitWidth>
EPMC_HD void UnpackFields(const uint8_t* in, int blocks, uint8_t* codes) {
  if (kBitWidth == 8) memcpy(codes, in, blocks * kBlock);
  for (int block = 0; kBitWidth == 4 && block < blocks; ++block) {
    uint8_t* c = codes + block * kBlock;
    for (int i = 0; i < 16; ++i) {
      c[i] = in[block * 16 + i] & 15u;
      c[i + 16] = in[block * 16 + i] >> 4;
    }
  }
  for (int block = 0; kBitWidth == 2 && block < blocks; ++block) {
    uint8_t* c = codes + block * kBlock;
    for (int i = 0; i < 8; ++i) {
      const uint8_t byte = in[block * 8 + i];
      c[i] = byte & 3u;
      c[i + 8] = byte >> 2 & 3u;
      c[i + 16] = byte >> 4 & 3u;
      c[i + 24] = byte >> 6;
    }
  }
}

template <int kBitWidth>
EPMC_HD void Unpack(CodePlace<const uint8_t> from, int blocks, uint8_t* codes) {
  if (kBitWidth == 1) memset(codes, 0, blocks * kBlock);
  UnpackFields<FieldBits(kBitWidth)>(from.fields, blocks, codes);
  for (int block = 0; PlaneBits(kBitWidth) && block < blocks; ++block) {
    uint32_t word;
    memcpy(&word, from.plane + 4 * block, 4);
    uint8_t* c = codes + block * kBlock;
    for (int i = 0; i < kBlock; ++i) c[i] |= (word >> i & 1u) << (kBitWidth - 1);
  }
}

EPMC_HD void ZeroPadding(uint8_t* row, const RowLayout& layout, int64_t elements,
                         int bit_width) {
  const RowPadding padding = PaddingOf(layout, elements, bit_width);
  for (int i = 0; i < RowPadding::kParts; ++i) {
    memset(row + padding.begin[i], 0, padding.end[i] - padding.begin[i]);
  }
}

template <typename T, int kBitWidth>
struct EncodeKernel {
  EPMC_HD static void Run(const EncodeArgs& args, const UnitRange& range) {
    constexpr int32_t kLevels = (1 << kBitWidth) - 1;
    const int group_size = args.format.group_size;
    const RowLayout layout = LayoutOf(args.row_elements, kBitWidth, group_size);
    Scratch scratch;
    for (int64_t unit = range.first; unit < range.last; ++unit) {
      const GroupPlace at = PlaceOf(unit, layout.groups, args.row_elements, group_size);
      uint8_t* row = args.rows + at.row * layout.nbytes;
      const int blocks = static_cast<int>(NumBlocks(at.count));
      const T* source = static_cast<const T*>(args.x) + at.first;
      const GroupScale scale = LoadGroup(source, at.count, kBitWidth, scratch.x);
      for (int i = at.count; i < blocks * kBlock; ++i) scratch.x[i] = scale.lo;
      if (scale.step == 0.0f) {
        memset(scratch.codes, 0, blocks * kBlock);
      } else if (args.format.is_stochastic) {
        const uint32_t key = GroupKey(args.format.seed, static_cast<uint32_t>(unit), scale);
        EncodeStochastic(scratch.x, scale, kLevels, blocks, key, scratch.codes);
      } else {
        EncodeNearest(scratch.x, scale, kLevels, blocks, scratch.codes);
      }
      memset(scratch.codes + at.count, 0, blocks * kBlock - at.count);
      Pack<kBitWidth>(scratch.codes, blocks,
                      CodesAt(row, layout, at.group * group_size, kBitWidth));
      memcpy(row + layout.lo_offset + 4 * at.group, &scale.lo, 4);
      memcpy(row + layout.step_offset + 4 * at.group, &scale.step, 4);
      if (at.group == 0) ZeroPadding(row, layout, args.row_elements, kBitWidth);
    }
  }
};

template <typename T, int kBitWidth>
struct DecodeKernel {
  EPMC_HD static void Run(const DecodeArgs& args, const UnitRange& range) {
    const int group_size = args.format.group_size;
    const RowLayout layout = LayoutOf(args.row_elements, kBitWidth, group_size);
    Scratch scratch;
    for (int64_t unit = range.first; unit < range.last; ++unit) {
      const GroupPlace at = PlaceOf(unit, layout.groups, args.row_elements, group_size);
      const uint8_t* row = args.rows + at.row * layout.nbytes;
      const int blocks = static_cast<int>(NumBlocks(at.count));
      GroupScale scale;
      memcpy(&scale.lo, row + layout.lo_offset + 4 * at.group, 4);
      memcpy(&scale.step, row + layout.step_offset + 4 * at.group, 4);
      Unpack<kBitWidth>(CodesAt(row, layout, at.group * group_size, kBitWidth), blocks,
                        scratch.codes);
      T* out = static_cast<T*>(args.x) + at.first;
      for (int i = 0; i < at.count; ++i) FromFloat(DecodeOne(scratch.codes[i], scale), out + i);
    }
  }
};

#if defined(__x86_64__)

// Whole groups with intrinsics; the last group of a row, sizes that Simd does not take and
// scales near the subnormal numbers as everywhere else. The scale of a group is
// found before the group in front of it is encoded: its latency, about the time of an
// encode, is hidden.
template <typename Simd, typename T, int kBitWidth, bool kStochastic>
void EncodeGroups(const EncodeArgs& args, const UnitRange& range) {
  const int group_size = args.format.group_size;
  const RowLayout layout = LayoutOf(args.row_elements, kBitWidth, group_size);
  const auto is_whole = [group_size](const GroupPlace& at) {
    return at.count == group_size && group_size % Simd::kMultiple == 0;
  };
  const auto find = [&](int64_t unit) {
    const GroupPlace at = PlaceOf(unit, layout.groups, args.row_elements, group_size);
    if (!is_whole(at)) return GroupScale{};
    return Simd::FindScale(static_cast<const T*>(args.x) + at.first, group_size, kBitWidth);
  };
  GroupScale next = range.first < range.last ? find(range.first) : GroupScale{};
  for (int64_t unit = range.first; unit < range.last; ++unit) {
    const GroupPlace at = PlaceOf(unit, layout.groups, args.row_elements, group_size);
    const GroupScale scale = next;
    if (unit + 1 < range.last) next = find(unit + 1);
    const bool is_small = scale.step != 0.0f && scale.step < kSmallestFastStep;
    if (!is_whole(at) || is_small) {
      EncodeKernel<T, kBitWidth>::Run(args, {unit, unit + 1});
      continue;
    }
    uint8_t* row = args.rows + at.row * layout.nbytes;
    const auto codes = CodesAt(row, layout, at.group * group_size, kBitWidth);
    if (scale.step == 0.0f) {
      memset(codes.fields, 0, group_size * FieldBits(kBitWidth) / 8);
      memset(codes.plane, 0, group_size * PlaneBits(kBitWidth) / 8);
    } else {
      const uint32_t key = GroupKey(args.format.seed, static_cast<uint32_t>(unit), scale);
      Simd::template EncodeGroup<kBitWidth, kStochastic>(
          static_cast<const T*>(args.x) + at.first, group_size, scale, key, codes);
    }
    memcpy(row + layout.lo_offset + 4 * at.group, &scale.lo, 4);
    memcpy(row + layout.step_offset + 4 * at.group, &scale.step, 4);
    if (at.group == 0) ZeroPadding(row, layout, args.row_elements, kBitWidth);
  }
}

// A row of 3 bits is read in four places, which start anew with each row: too many for the
// processor's own prefetching where rows are short. 31 -> 38 GB/s (rows of 9216 floats).
// EPMC_HD, as GCC drops calls of a function that does nothing but prefetch.
template <int kBitWidth>
EPMC_HD void PrefetchGroup(const uint8_t* rows, const RowLayout& layout, const GroupPlace& at,
                           int group_size) {
  const uint8_t* row = rows + at.row * layout.nbytes;
  const auto codes = CodesAt(row, layout, at.group * group_size, kBitWidth);
  if (FieldBits(kBitWidth)) _mm_prefetch(codes.fields, _MM_HINT_T0);
  if (PlaneBits(kBitWidth)) _mm_prefetch(codes.plane, _MM_HINT_T0);
  _mm_prefetch(row + layout.lo_offset + 4 * at.group, _MM_HINT_T0);
  _mm_prefetch(row + layout.step_offset + 4 * at.group, _MM_HINT_T0);
}

template <typename Simd, typename T, int kBitWidth, bool kBypass>
void DecodeGroups(const DecodeArgs& args, const UnitRange& range) {
  const int group_size = args.format.group_size;
  const RowLayout layout = LayoutOf(args.row_elements, kBitWidth, group_size);
  for (int64_t unit = range.first; unit < range.last; ++unit) {
    const GroupPlace at = PlaceOf(unit, layout.groups, args.row_elements, group_size);
    if (unit + kPrefetchGroups < range.last) {
      const GroupPlace ahead =
          PlaceOf(unit + kPrefetchGroups, layout.groups, args.row_elements, group_size);
      PrefetchGroup<kBitWidth>(args.rows, layout, ahead, group_size);
    }
    if (at.count < group_size) {
      DecodeKernel<T, kBitWidth>::Run(args, {unit, unit + 1});
      continue;
    }
    const uint8_t* row = args.rows + at.row * layout.nbytes;
    GroupScale scale;
    memcpy(&scale.lo, row + layout.lo_offset + 4 * at.group, 4);
    memcpy(&scale.step, row + layout.step_offset + 4 * at.group, 4);
    Simd::template DecodeGroup<kBitWidth, kBypass>(
        CodesAt(row, layout, at.group * group_size, kBitWidth), group_size, scale,
        static_cast<T*>(args.x) + at.first);
  }
  if (kBypass) FinishStreaming();
}

template <typename Simd, typename T, int kBitWidth>
void RunWith(const EncodeArgs& args, const UnitRange& groups) {
  if (args.format.is_stochastic) return EncodeGroups<Simd, T, kBitWidth, true>(args, groups);
  EncodeGroups<Simd, T, kBitWidth, false>(args, groups);
}

template <typename Simd, typename T, int kBitWidth>
void RunWith(const DecodeArgs& args, const UnitRange& groups) {
  // Streaming stores need whole cache lines: rows that start at multiples of 64 bytes.
  const bool is_aligned =
      StartsLine(args.x) && args.row_elements * sizeof(T) % kLineNbytes == 0;
  if (args.bypass_cache && is_aligned) {
    return DecodeGroups<Simd, T, kBitWidth, true>(args, groups);
  }
  DecodeGroups<Simd, T, kBitWidth, false>(args, groups);
}

#endif  // defined(__x86_64__)

template <template <typename, int> typename Kernel, typename T, int kBitWidth, typename Args>
void RunOnIsa(const Args& args, const UnitRange& groups, [[maybe_unused]] Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::kAvx512) return RunWith<avx512::Simd, T, kBitWidth>(args, groups);
  if (isa == Isa::kAvx2) return RunWith<avx2::Simd, T, kBitWidth>(args, groups);
#endif
  Kernel<T, kBitWidth>::Run(args, groups);
}

template <template <typename, int> typename Kernel, typename T, typename Args>
void RunForWidth(const Args& args, const UnitRange& groups, Isa isa) {
  switch (args.format.bit_width) {
    case 1:
      return RunOnIsa<Kernel, T, 1>(args, groups, isa);
    case 2:
      return RunOnIsa<Kernel, T, 2>(args, groups, isa);
    case 3:
      return RunOnIsa<Kernel, T, 3>(args, groups, isa);
    case 4:
      return RunOnIsa<Kernel, T, 4>(args, groups, isa);
    default:
      return RunOnIsa<Kernel, T, 8>(args, groups, isa);
  }
}

template <template <typename, int> typename Kernel, typename Args>
void RunForType(const Args& args, const UnitRange& groups, Isa isa) {
  switch (args.type) {
    case FloatType::kF32:
      return RunForWidth<Kernel, F32>(args, groups, isa);
    case FloatType::kBf16:
      return RunForWidth<Kernel, Bf16>(args, groups, isa);
    case FloatType::kF16:
      return RunForWidth<Kernel, F16>(args, groups, isa);
  }
}

}  // namespace

void EncodeOnHost(const EncodeArgs& args, UnitRange groups, Isa isa) {
  RunForType<EncodeKernel>(args, groups, isa);
}

void DecodeOnHost(const DecodeArgs& args, UnitRange groups, Isa isa) {
  RunForType<DecodeKernel>(args, groups, isa);
}

}  // namespace epmc::group_quant
