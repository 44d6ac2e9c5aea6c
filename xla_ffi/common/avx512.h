// Elements of arrays as floats in AVX-512 registers, 16 at a time: the conversions of
// float_types.h. Lanes that are not in the mask are neither read nor written.
#ifndef EPMC_COMMON_AVX512_H_
#define EPMC_COMMON_AVX512_H_

#if defined(__x86_64__)

#include "xla_ffi/common/float_types.h"
#include "xla_ffi/common/isa.h"
#include "xla_ffi/common/x86.h"

namespace epmc::avx512 {

EPMC_AVX512 inline __m512 Load(const F32* x, __mmask16 lanes) {
  return _mm512_maskz_loadu_ps(lanes, x);
}

EPMC_AVX512 inline __m512 Load(const Bf16* x, __mmask16 lanes) {
  const __m512i half = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, x));
  return _mm512_castsi512_ps(_mm512_slli_epi32(half, 16));
}

// The instruction quietens a NaN, which ToFloatBits does not; nothing else differs, in no
// mode of the processor.
EPMC_AVX512 inline __m512 Load(const F16* x, __mmask16 lanes) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes, x));
}

EPMC_AVX512 inline __m512 Load(const F32* x) {
  return _mm512_loadu_ps(reinterpret_cast<const float*>(x));
}

EPMC_AVX512 inline __m512 Load(const Bf16* x) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

EPMC_AVX512 inline __m512 Load(const F16* x) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
}

// 64 bytes, a whole cache line if they bypass the cache.
template <bool kBypass>
EPMC_AVX512 inline void StoreLine(__m512i x, void* out) {
  if (kBypass) {
    _mm512_stream_si512(static_cast<__m512i*>(out), x);
  } else {
    _mm512_storeu_si512(out, x);
  }
}

// Rounds to nearest, ties to even; a NaN stays one: FromFloat of bfloat16.
EPMC_AVX512 inline __m512i BfloatBits(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i upper = _mm512_srli_epi32(bits, 16);
  const __m512i odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
  const __m512i half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
  const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, half), 16);
  const __mmask16 is_nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  return _mm512_mask_or_epi32(rounded, is_nan, upper, _mm512_set1_epi32(0x40));
}

EPMC_AVX512 inline __m256i HalfBits(__m512 x) {
  return _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

// A masked store of 16-bit elements is microcode on Zen 4; most masks are full.
EPMC_AVX512 inline void StoreHalves(__m256i x, __mmask16 lanes, void* out) {
  if (lanes == 0xffff) {
    _mm256_storeu_si256(static_cast<__m256i*>(out), x);
  } else {
    _mm256_mask_storeu_epi16(out, lanes, x);
  }
}

EPMC_AVX512 inline void Store(__m512 x, __mmask16 lanes, F32* out) {
  _mm512_mask_storeu_ps(out, lanes, x);
}

EPMC_AVX512 inline void Store(__m512 x, __mmask16 lanes, Bf16* out) {
  StoreHalves(_mm512_cvtepi32_epi16(BfloatBits(x)), lanes, out);
}

EPMC_AVX512 inline void Store(__m512 x, __mmask16 lanes, F16* out) {
  StoreHalves(HalfBits(x), lanes, out);
}

// `x` as it is after being stored as the type of the second argument.
EPMC_AVX512 inline __m512 Round(__m512 x, F32) { return x; }

EPMC_AVX512 inline __m512 Round(__m512 x, Bf16) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(BfloatBits(x), 16));
}

EPMC_AVX512 inline __m512 Round(__m512 x, F16) { return _mm512_cvtph_ps(HalfBits(x)); }

}  // namespace epmc::avx512

#endif  // defined(__x86_64__)
#endif  // EPMC_COMMON_AVX512_H_
