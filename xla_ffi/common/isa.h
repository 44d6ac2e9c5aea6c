// Instruction sets: each kernel is compiled for several, the processor decides at run time.
#ifndef EPMC_COMMON_ISA_H_
#define EPMC_COMMON_ISA_H_

#include <optional>
#include <string_view>

namespace epmc {

// In ascending order: a processor that has one of them has those before it.
// kAvx512Vbmi2 has GFNI too.
enum class Isa { kBaseline, kAvx2, kAvx512, kAvx512Vbmi2 };

// What EPMC_ISA may be: scalar, avx2, avx512 or vbmi2.
std::optional<Isa> IsaNamed(std::string_view name);

// The best instruction set of this processor, or what EPMC_ISA asks for below that. Any other
// value of EPMC_ISA is reported on stderr, once, and has no effect. kBaseline is SSE2 on
// x86-64, NEON on aarch64.
Isa BestIsa();

#define EPMC_AVX2_FEATURES "avx2,bmi,bmi2,popcnt,f16c,fma"
#if defined(__clang__)  // ignores the attribute whole if it does not know one word of it
#define EPMC_WIDE_VECTORS ""
#else
#define EPMC_WIDE_VECTORS ",prefer-vector-width=512"
#endif
#define EPMC_AVX512_FEATURES \
  EPMC_AVX2_FEATURES ",avx512f,avx512bw,avx512vl,avx512dq" EPMC_WIDE_VECTORS

#if defined(__x86_64__)
#define EPMC_AVX2 __attribute__((target(EPMC_AVX2_FEATURES)))
#define EPMC_AVX512 __attribute__((target(EPMC_AVX512_FEATURES)))
#define EPMC_VBMI2 __attribute__((target(EPMC_AVX512_FEATURES ",avx512vbmi,avx512vbmi2,gfni")))
#else
#define EPMC_AVX2
#define EPMC_AVX512
#define EPMC_VBMI2
#endif

template <typename Kernel, typename... Args>
EPMC_VBMI2 void RunVbmi2(const Args&... args) {
  Kernel::Run(args...);
}

template <typename Kernel, typename... Args>
EPMC_AVX512 void RunAvx512(const Args&... args) {
  Kernel::Run(args...);
}

template <typename Kernel, typename... Args>
EPMC_AVX2 void RunAvx2(const Args&... args) {
  Kernel::Run(args...);
}

// Calls `Kernel::Run(args...)` compiled for `isa`; Run and what it calls must be EPMC_HD. The
// compiler makes nothing of VBMI2 by itself: a kernel that uses it is started with RunVbmi2.
template <typename Kernel, typename... Args>
void RunOn(Isa isa, const Args&... args) {
  switch (isa) {
    case Isa::kAvx512Vbmi2:
    case Isa::kAvx512:
      return RunAvx512<Kernel>(args...);
    case Isa::kAvx2:
      return RunAvx2<Kernel>(args...);
    case Isa::kBaseline:
      return Kernel::Run(args...);
  }
}

}  // namespace epmc

#endif  // EPMC_COMMON_ISA_H_
