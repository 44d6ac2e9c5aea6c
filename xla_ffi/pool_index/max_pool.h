// The forward pass of PoolIndex on the host: maxima, and which elements of the windows they are.
#ifndef EPMC_POOL_INDEX_MAX_POOL_H_
#define EPMC_POOL_INDEX_MAX_POOL_H_

#include <cstdint>
#include <cstring>

#include "xla_ffi/common/byte_plane.h"
#include "xla_ffi/common/cache_lines.h"
#include "xla_ffi/pool_index/pool_index.h"

namespace epmc::pool_index {

// Results that are worked on together. Long runs of channels are read one window place
// after the other: short ones jump too often for the processor to load ahead.
constexpr int kRun = 8 * kBlock;

struct Selection {
  alignas(64) float best[kRun];
  alignas(64) float y[kRun];
  alignas(64) int32_t index[kRun];
};

// A place in a row of results. It moves on without a division: there are five in finding it.
struct Cursor {
  int64_t at[kAxes];
  int64_t channel;
};

EPMC_HD Cursor CursorAt(const PoolShape& shape, int64_t element) {
  const int64_t pixel = element / shape.channels;
  const int64_t out_b = shape.axes[1].out;
  const int64_t out_c = shape.axes[2].out;
  return {{pixel / out_c / out_b, pixel / out_c % out_b, pixel % out_c},
          element - pixel * shape.channels};
}

// `count` does not lead beyond the channels of the pixel.
EPMC_HD void Advance(const PoolShape& shape, int count, Cursor* cursor) {
  cursor->channel += count;
  if (cursor->channel < shape.channels) return;
  cursor->channel = 0;
  if (++cursor->at[2] < shape.axes[2].out) return;
  cursor->at[2] = 0;
  if (++cursor->at[1] < shape.axes[1].out) return;
  cursor->at[1] = 0;
  ++cursor->at[0];
}

template <typename T>
EPMC_HD void ConsiderRun(const T* x, int count, int32_t place, Selection* run) {
  for (int i = 0; i < count; ++i) {
    Consider(BitsToFloat(ToFloatBits(x[i])), place, run->best + i, run->y + i, run->index + i);
  }
}

// The pixels that the window of one pixel of results covers.
struct Places {
  int count;
  int32_t index[kMaxWindow];
  int64_t offset[kMaxWindow];  // elements of the operand, behind `start`
  int64_t start;
  Interval inside;  // of the last axis
};

EPMC_HD void FindPlaces(const PoolShape& shape, const Cursor& cursor, Places* places) {
  const Axis* axes = shape.axes;
  Interval inside[kAxes];
  int64_t start[kAxes];
  for (int i = 0; i < kAxes; ++i) {
    inside[i] = InsideWindow(axes[i], cursor.at[i]);
    start[i] = cursor.at[i] * axes[i].stride - axes[i].pad;
  }
  places->count = 0;
  places->start = start[2] * shape.channels;
  places->inside = inside[2];
  for (int64_t i = inside[0].first; i < inside[0].last; ++i) {
    for (int64_t j = inside[1].first; j < inside[1].last; ++j) {
      const int64_t line = ((start[0] + i) * axes[1].in + start[1] + j) * axes[2].in;
      const int64_t number = (i * axes[1].window + j) * axes[2].window;
      for (int64_t k = inside[2].first; k < inside[2].last; ++k) {
        const int at = places->count++;
        places->index[at] = static_cast<int32_t>(number + k);
        places->offset[at] = (line + k) * shape.channels;
      }
    }
  }
}

// To the next pixel of results, `cursor`: most are a step away from the one before.
EPMC_HD void MovePlaces(const PoolShape& shape, const Cursor& cursor, Places* places) {
  const Interval inside = InsideWindow(shape.axes[2], cursor.at[2]);
  const bool is_step = cursor.at[2] > 0 && inside.first == places->inside.first &&
                       inside.last == places->inside.last;
  if (!is_step) return FindPlaces(shape, cursor, places);
  places->start += shape.axes[2].stride * shape.channels;
}

// `count` results, channels of one pixel from `channel` on.
template <typename T>
EPMC_HD void SelectRun(const T* x, const Places& places, int64_t channel, int count,
                       Selection* run) {
  const int64_t start = places.start + channel;
  for (int i = 0; i < count; ++i) {
    // NaN is replaced by the first candidate, whatever it is.
    run->best[i] = BitsToFloat(kQuietNan);
    run->y[i] = kNegativeInfinity;
    run->index[i] = 0;
  }
  for (int i = 0; i < places.count; ++i) {
    ConsiderRun(x + (start + places.offset[i]), count, places.index[i], run);
  }
}

// How blocks of results are found: `count` of them in `y`, and the planes of their indices.
struct AnyBlocks {
  template <typename T>
  EPMC_HD static void Pool(const T* x, const PoolShape& shape, int count, int bit_width,
                           Cursor* cursor, T* y, uint8_t* words) {
    Places places;
    FindPlaces(shape, *cursor, &places);
    Selection run;
    alignas(64) uint8_t index[kRun] = {};
    for (int done = 0; done < count;) {
      const int64_t rest = shape.channels - cursor->channel;
      const int length = static_cast<int>(rest < count - done ? rest : count - done);
      SelectRun(x, places, cursor->channel, length, &run);
      for (int i = 0; i < length; ++i) index[done + i] = static_cast<uint8_t>(run.index[i]);
      for (int i = 0; i < length; ++i) FromFloat(run.y[i], y + done + i);
      Advance(shape, length, cursor);
      if (cursor->channel == 0) MovePlaces(shape, *cursor, &places);
      done += length;
    }
    for (int block = 0; block * kBlock < count; ++block) {
      for (int plane = 0; plane < bit_width; ++plane) {
        const uint32_t word = BytePlane(index + block * kBlock, plane);
        memcpy(words + 4 * (block * bit_width + plane), &word, 4);
      }
    }
  }
};

// Halves are compared as integers, in the order of their values. Some are not: NaNs, and of
// bfloat16, whose numbers are compared as floats, the subnormal ones, which the processor may
// take for 0.
template <typename Half>
struct Ordered;

template <>
struct Ordered<F16> {
  static constexpr int16_t kLargest = 0x7c00;  // magnitude
  static constexpr int16_t kSmallest = 1;      // magnitude that is not 0
};

template <>
struct Ordered<Bf16> {
  static constexpr int16_t kLargest = 0x7f80;
  static constexpr int16_t kSmallest = 0x80;
};

// The bits of a word from bit `lane` on; those in front of it are there.
EPMC_HD void PutBits(uint32_t bits, int lane, uint8_t* word) {
  uint32_t others = 0;
  if (lane > 0) memcpy(&others, word, 4);
  bits = others | bits << lane;
  memcpy(word, &bits, 4);
}

// Vectors of channels of one pixel each: the channels are a multiple of Simd::kLanes.
template <typename Simd>
struct VectorBlocks {
  template <typename T>
  EPMC_HD static void Pool(const T* x, const PoolShape& shape, int count, int bit_width,
                           Cursor* cursor, T* y, uint8_t* words) {
    Places places;
    FindPlaces(shape, *cursor, &places);
    for (int block = 0; block * kBlock < count; ++block, words += 4 * bit_width) {
      const int rest = count - block * kBlock;
      for (int lane = 0; lane < kBlock && lane < rest; lane += Simd::kLanes) {
        const int64_t channel = cursor->channel;
        if (!Simd::Pool(x, places, channel, bit_width, lane, y, words)) {
          PoolAnyNumbers(x, places, channel, bit_width, lane, y, words);
        }
        y += Simd::kLanes;
        Advance(shape, Simd::kLanes, cursor);
        if (cursor->channel == 0) MovePlaces(shape, *cursor, &places);
      }
    }
  }

  template <typename T>
  EPMC_HD static void PoolAnyNumbers(const T* x, const Places& places, int64_t channel,
                                     int bit_width, int lane, T* y, uint8_t* words) {
    Selection run;
    SelectRun(x, places, channel, Simd::kLanes, &run);
    for (int i = 0; i < Simd::kLanes; ++i) FromFloat(run.y[i], y + i);
    for (int plane = 0; plane < bit_width; ++plane) {
      uint32_t bits = 0;
      for (int i = 0; i < Simd::kLanes; ++i) {
        bits |= (static_cast<uint32_t>(run.index[i]) >> plane & 1u) << i;
      }
      PutBits(bits, lane, words + 4 * plane);
    }
  }
};

}  // namespace epmc::pool_index

#endif  // EPMC_POOL_INDEX_MAX_POOL_H_
