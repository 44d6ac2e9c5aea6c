#include <cstring>
#include <type_traits>

#include "xla_ffi/common/cache_lines.h"
#include "xla_ffi/narrow/kernels.h"
#include "xla_ffi/narrow/narrow.h"
#include "xla_ffi/narrow/narrow_avx2.h"
#include "xla_ffi/narrow/narrow_avx512.h"
#include "xla_ffi/narrow/narrow_simd.h"

namespace epmc::narrow {
namespace {

// Where one or more groups are in their array and in their row.
struct GroupPlace {
  int64_t row;
  int64_t group;
  int64_t first;  // element of the row
  int64_t count;  // elements; less than group_size only in the last group of a row
  int64_t next;   // first unit behind them
};

// The group `range.first`; where groups have no scale, all of its row that are in `range`.
template <typename As>
EPMC_HD GroupPlace PlaceOf(const UnitRange& range, int64_t groups, int64_t elements,
                           int group_size) {
  const int64_t row = range.first / groups;
  const int64_t group = range.first - row * groups;
  const int64_t row_end = (row + 1) * groups;
  const int64_t last = range.last < row_end ? range.last : row_end;
  const int64_t next = As::kHasScale ? range.first + 1 : last;
  const int64_t first = group * group_size;
  const int64_t rest = elements - first;
  const int64_t whole = (next - range.first) * group_size;
  return {row, group, first, rest < whole ? rest : whole, next};
}

template <typename T>
EPMC_HD uint32_t LargestMagnitude(const T* x, int64_t count) {
  int32_t largest = 0;  // signed: SSE2 to AVX2 have no maximum, or comparison, of others
  for (int64_t i = 0; i < count; ++i) {
    const int32_t magnitude = static_cast<int32_t>(FiniteMagnitude(ToFloatBits(x[i])));
    largest = magnitude > largest ? magnitude : largest;
  }
  return static_cast<uint32_t>(largest);
}

template <typename As, typename T>
EPMC_HD void EncodeGroup(As, const T* x, int64_t count, uint8_t* values, uint8_t* exponent) {
  const int chosen = ExponentOf<As>(LargestMagnitude(x, count));
  const float inverse = InverseScale(chosen);
  for (int64_t i = 0; i < count; ++i) values[i] = EncodeOne<As>(ToFloatBits(x[i]), inverse);
  *exponent = static_cast<uint8_t>(chosen);
}

template <typename T>
EPMC_HD void EncodeGroup(AsBf16, const T* x, int64_t count, uint8_t* values, uint8_t*) {
  Bf16* out = reinterpret_cast<Bf16*>(values);
  for (int64_t i = 0; i < count; ++i) out[i] = EncodeBf16(ToFloatBits(x[i]));
}

EPMC_HD void EncodeGroup(AsBf16, const Bf16* x, int64_t count, uint8_t* values, uint8_t*) {
  memcpy(values, x, count * sizeof(Bf16));
}

template <typename As, typename T>
EPMC_HD void DecodeGroup(As, const uint8_t* values, const uint8_t* exponent, int64_t count, T* x) {
  const float scale = ScaleOf<As>(*exponent);
  for (int64_t i = 0; i < count; ++i) {
    FromFloat(BitsToFloat(DecodeOne<As>(values[i], scale, LargestFinite(T{}))), x + i);
  }
}

template <typename T>
EPMC_HD void DecodeGroup(AsBf16, const uint8_t* values, const uint8_t*, int64_t count, T* x) {
  const Bf16* from = reinterpret_cast<const Bf16*>(values);
  for (int64_t i = 0; i < count; ++i) {
    FromFloat(BitsToFloat(DecodeBf16(from[i], LargestFinite(T{}))), x + i);
  }
}

EPMC_HD void DecodeGroup(AsBf16, const uint8_t* values, const uint8_t*, int64_t count, Bf16* x) {
  memcpy(x, values, count * sizeof(Bf16));
}

// Alignment bytes are zero: equal arrays have equal rows.
EPMC_HD void ZeroPadding(uint8_t* row, const RowLayout& layout) {
  memset(row + layout.values_nbytes, 0, layout.exponents_offset - layout.values_nbytes);
  if (layout.exponents_offset == layout.nbytes) return;
  const int64_t used = layout.exponents_offset + layout.groups;
  memset(row + used, 0, layout.nbytes - used);
}

// How the groups of a kernel are coded: as everywhere.
struct AnyGroup {
  template <typename As, typename T>
  EPMC_HD static void Encode(const T* x, int64_t count, uint8_t* values, uint8_t* exponent) {
    EncodeGroup(As{}, x, count, values, exponent);
  }
  template <typename As, typename T>
  EPMC_HD static void Decode(const uint8_t* values, const uint8_t* exponent, int64_t count,
                             bool, T* x) {
    DecodeGroup(As{}, values, exponent, count, x);
  }
};

#if defined(__x86_64__)

// Whole blocks of usual numbers with intrinsics, all other groups as everywhere.
template <typename Simd>
struct SimdGroup {
  template <typename As, typename T>
  EPMC_HD static void Encode(const T* x, int64_t count, uint8_t* values, uint8_t* exponent) {
    if constexpr (As::kHasScale) {
      const int whole = count % kBlock == 0 ? static_cast<int>(count) : 0;
      const GroupRange range = Simd::Range(x, whole);
      const int chosen = range.is_finite ? ExponentOf<As>(range.largest) : 0;
      if (whole == 0 || !FlushesByRounding<As>(chosen, range.largest)) {
        return EncodeGroup(As{}, x, count, values, exponent);
      }
      Simd::template Encode<As>(x, whole, chosen, values);
      *exponent = static_cast<uint8_t>(chosen);
    } else {
      const int64_t whole = count - count % kBlock;
      Simd::EncodeBf16s(x, whole, values);
      EncodeGroup(As{}, x + whole, count - whole, values + As::kNbytes * whole, exponent);
    }
  }

  template <typename As, typename T>
  EPMC_HD static void Decode(const uint8_t* values, const uint8_t* exponent, int64_t count,
                             bool bypass, T* x) {
    if (bypass && StartsLine(x)) return DecodeTo<As, true>(values, exponent, count, x);
    DecodeTo<As, false>(values, exponent, count, x);
  }

  template <typename As, bool kBypass, typename T>
  EPMC_HD static void DecodeTo(const uint8_t* values, const uint8_t* exponent, int64_t count,
                               T* x) {
    if constexpr (As::kHasScale) {
      const int whole = count % kBlock == 0 ? static_cast<int>(count) : 0;
      if (whole == 0 || !FitsInto<As, T>(*exponent) ||
          !Simd::template AreFinite<As>(values, whole)) {
        return DecodeGroup(As{}, values, exponent, count, x);
      }
      Simd::template Decode<As, kBypass>(values, whole, *exponent, x);
    } else {
      const int64_t whole = count - count % kBlock;
      Simd::template DecodeBf16s<kBypass>(values, whole, x);
      DecodeGroup(As{}, values + As::kNbytes * whole, exponent, count - whole, x + whole);
    }
  }
};

#endif  // defined(__x86_64__)

template <typename T, typename As, typename Group>
struct EncodeKernel {
  EPMC_HD static void Run(const EncodeArgs& args, const UnitRange& range) {
    const int group_size = args.format.group_size;
    const RowLayout layout = LayoutOf(args.row_elements, As::kNbytes, group_size);
    for (int64_t unit = range.first; unit < range.last;) {
      const GroupPlace at =
          PlaceOf<As>({unit, range.last}, layout.groups, args.row_elements, group_size);
      uint8_t* row = args.rows + at.row * layout.nbytes;
      const T* x = static_cast<const T*>(args.x) + at.row * args.row_elements + at.first;
      Group::template Encode<As>(x, at.count, row + at.first * As::kNbytes,
                                 row + layout.exponents_offset + at.group);
      if (at.group == 0) ZeroPadding(row, layout);
      unit = at.next;
    }
  }
};

template <typename T, typename As, typename Group>
struct DecodeKernel {
  EPMC_HD static void Run(const DecodeArgs& args, const UnitRange& range) {
    const int group_size = args.format.group_size;
    const RowLayout layout = LayoutOf(args.row_elements, As::kNbytes, group_size);
    for (int64_t unit = range.first; unit < range.last;) {
      const GroupPlace at =
          PlaceOf<As>({unit, range.last}, layout.groups, args.row_elements, group_size);
      const uint8_t* row = args.rows + at.row * layout.nbytes;
      T* x = static_cast<T*>(args.x) + at.row * args.row_elements + at.first;
      Group::template Decode<As>(row + at.first * As::kNbytes,
                                 row + layout.exponents_offset + at.group, at.count,
                                 args.bypass_cache, x);
      unit = at.next;
    }
    if (args.bypass_cache) FinishStreaming();
  }
};

template <template <typename, typename, typename> typename Kernel, typename T, typename As,
          typename Args>
void RunOnIsa(const Args& args, const UnitRange& groups, Isa isa) {
#if defined(__x86_64__)
  // A bfloat16 that stays one is a copy.
  if constexpr (As::kHasScale || !std::is_same_v<T, Bf16>) {
    if (isa >= Isa::kAvx512) {
      return RunAvx512<Kernel<T, As, SimdGroup<avx512::Simd>>>(args, groups);
    }
    if (isa == Isa::kAvx2) return RunAvx2<Kernel<T, As, SimdGroup<avx2::Simd>>>(args, groups);
  }
#endif
  RunOn<Kernel<T, As, AnyGroup>>(isa, args, groups);
}

template <template <typename, typename, typename> typename Kernel, typename T, typename Args>
void RunForValue(const Args& args, const UnitRange& groups, Isa isa) {
  switch (args.format.value) {
    case ValueType::kBf16:
      return RunOnIsa<Kernel, T, AsBf16>(args, groups, isa);
    case ValueType::kE4m3fn:
      return RunOnIsa<Kernel, T, AsE4m3fn>(args, groups, isa);
    case ValueType::kE5m2:
      return RunOnIsa<Kernel, T, AsE5m2>(args, groups, isa);
  }
}

template <template <typename, typename, typename> typename Kernel, typename Args>
void RunForType(const Args& args, const UnitRange& groups, Isa isa) {
  switch (args.type) {
    case FloatType::kF32:
      return RunForValue<Kernel, F32>(args, groups, isa);
    case FloatType::kBf16:
      return RunForValue<Kernel, Bf16>(args, groups, isa);
    case FloatType::kF16:
      return RunForValue<Kernel, F16>(args, groups, isa);
  }
}

}  // namespace

void EncodeOnHost(const EncodeArgs& args, UnitRange groups, Isa isa) {
  RunForType<EncodeKernel>(args, groups, isa);
}

void DecodeOnHost(const DecodeArgs& args, UnitRange groups, Isa isa) {
  RunForType<DecodeKernel>(args, groups, isa);
}

}  // namespace epmc::narrow
