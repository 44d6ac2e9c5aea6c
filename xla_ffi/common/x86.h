// The vector intrinsics of x86-64, without the warnings of GCC 12's own header.
#ifndef EPMC_COMMON_X86_H_
#define EPMC_COMMON_X86_H_

#if defined(__x86_64__)
#if defined(__clang__)
#include <immintrin.h>
#else
// GCC 12 takes the deliberately undefined registers of its header for mistakes.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif
#endif

#endif  // EPMC_COMMON_X86_H_
