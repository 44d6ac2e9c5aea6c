#include <cstring>

#include "xla_ffi/bit_mask/kernels.h"
#include "xla_ffi/common/cache_lines.h"
#include "xla_ffi/sparse_fixed_rate/kernels.h"
#include "xla_ffi/sparse_fixed_rate/pool_decoder.h"
#include "xla_ffi/sparse_fixed_rate/pool_encoder.h"
#include "xla_ffi/sparse_fixed_rate/sparse_fixed_rate_avx2.h"
#include "xla_ffi/sparse_fixed_rate/sparse_fixed_rate_avx512.h"
#include "xla_ffi/sparse_fixed_rate/sparse_fixed_rate_vbmi2.h"

namespace epmc::sparse_fixed_rate {
namespace {

// Alignment bytes are zero: equal arrays have equal rows.
void ZeroPadding(uint8_t* row, int64_t elements, const RowLayout& layout) {
  const int64_t bitmap = 4 * NumBlocks(elements);
  const int64_t scales = 4 * layout.groups;
  memset(row + bitmap, 0, layout.lo_offset - bitmap);
  memset(row + layout.lo_offset + scales, 0, layout.step_offset - layout.lo_offset - scales);
  memset(row + layout.step_offset + scales, 0,
         layout.values_offset - layout.step_offset - scales);
}

template <typename Steps, typename T>
void Encode(const EncodeArgs& args, const UnitRange& pools) {
  const RowLayout layout = LayoutOf(args.row_elements, args.format);
  WaitingValues<T> waiting(args.row_elements, args.format.group_size);
  PoolScanner<Steps, T> scanners[2];
  Workspace work;
  const auto start = [&](int64_t unit) {
    PoolScanner<Steps, T>* scanner = &scanners[unit % 2];
    scanner->Start(args, PlaceOf(unit, args.row_elements, args.format, layout), &waiting);
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
  if (kBypass) FinishStreaming();
}

template <typename Steps, typename T>
void Decode(const DecodeArgs& args, const UnitRange& pools) {
  // Streaming stores need whole cache lines: rows that start at multiples of 64 bytes.
  const bool is_aligned =
      StartsLine(args.x) && args.row_elements * sizeof(T) % kLineNbytes == 0;
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
  if (isa == Isa::kAvx512Vbmi2) return run(vbmi2::Steps{});
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
