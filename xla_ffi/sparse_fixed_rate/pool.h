// Where a pool is in its array and in its row, for host and device.
#ifndef EPMC_SPARSE_FIXED_RATE_POOL_H_
#define EPMC_SPARSE_FIXED_RATE_POOL_H_

#include <cstdint>
#include <cstring>

#include "xla_ffi/common/float_types.h"
#include "xla_ffi/sparse_fixed_rate/sparse_fixed_rate.h"

namespace epmc::sparse_fixed_rate {

struct Place {
  int64_t first;  // element of the array
  int elements;
  int groups;
  int words;  // of payload
  int64_t first_group;  // of the row
  int64_t group_number;  // of its first group, through the whole array
  int64_t bitmap, lo, step, values;  // offsets in `rows`
};

// Divisions of 32 bits: those of 64 cost a GPU thread more than all else here.
EPMC_HD Place PlaceOf(int64_t row, int64_t pool, int64_t row_elements, const Format& format,
                      const RowLayout& layout) {
  const int64_t rest = row_elements - pool * kPool;
  Place place;
  place.first = row * row_elements + pool * kPool;
  place.elements = static_cast<int>(rest < kPool ? rest : kPool);
  place.groups = (place.elements + format.group_size - 1) / format.group_size;
  place.words = static_cast<int>(PayloadNbytes(format, place.elements) / 4);
  place.first_group = pool * (kPool / format.group_size);
  place.group_number = row * layout.groups + place.first_group;
  const int64_t start = row * layout.nbytes;
  place.bitmap = start + pool * kPool / 8;
  place.lo = start + layout.lo_offset + 4 * place.first_group;
  place.step = start + layout.step_offset + 4 * place.first_group;
  place.values = start + layout.values_offset + pool * format.payload_nbytes;
  return place;
}

// `unit`: a pool, numbered through all rows.
EPMC_HD Place PlaceOf(int64_t unit, int64_t row_elements, const Format& format,
                      const RowLayout& layout) {
  const int64_t row = unit / layout.pools;
  return PlaceOf(row, unit - row * layout.pools, row_elements, format, layout);
}

EPMC_HD int ElementsOf(const Place& place, int group, int group_size) {
  const int rest = place.elements - group * group_size;
  return rest < group_size ? rest : group_size;
}

EPMC_HD void StoreWord(uint8_t* to, uint32_t word) { memcpy(to, &word, 4); }

EPMC_HD uint32_t LoadWord(const uint8_t* from) {
  uint32_t word;
  memcpy(&word, from, 4);
  return word;
}

EPMC_HD uint32_t RawBits(F32 x) { return FloatBits(x.value); }
EPMC_HD uint32_t RawBits(Bf16 x) { return x.bits; }
EPMC_HD uint32_t RawBits(F16 x) { return x.bits; }

template <typename T>
EPMC_HD bool IsNonzero(T x) {
  return (RawBits(x) << (33 - 8 * sizeof(T))) != 0;
}

EPMC_HD int BlockCount(int elements, int block) {
  const int rest = elements - block * kBlock;
  return rest < kBlock ? rest : kBlock;
}

}  // namespace epmc::sparse_fixed_rate

#endif  // EPMC_SPARSE_FIXED_RATE_POOL_H_
