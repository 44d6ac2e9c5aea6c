// Instruction sets: each kernel is compiled for several, the processor decides at run time.
#ifndef EPMC_COMMON_ISA_H_
#define EPMC_COMMON_ISA_H_

namespace epmc {

enum class Isa { kBaseline, kAvx2, kAvx512 };

// The best instruction set of this processor, or what EPMC_ISA (scalar, avx2, avx512) asks
// for below that. kBaseline is SSE2 on x86-64, NEON on aarch64.
Isa BestIsa();

#if defined(__x86_64__)
#define EPMC_AVX2 __attribute__((target("avx2,bmi,bmi2,popcnt,f16c")))
#if defined(__clang__)  // ignores the attribute whole if it does not know one word of it
#define EPMC_WIDE_VECTORS ""
#else
#define EPMC_WIDE_VECTORS ",prefer-vector-width=512"
#endif
#define EPMC_AVX512                                                                    \
  __attribute__((target("avx2,bmi,bmi2,popcnt,f16c,avx512f,avx512bw,avx512vl,avx512dq" \
                        EPMC_WIDE_VECTORS)))
#else
#define EPMC_AVX2
#define EPMC_AVX512
#endif

template <typename Kernel, typename... Args>
EPMC_AVX512 void RunAvx512(const Args&... args) {
  Kernel::Run(args...);
}

template <typename Kernel, typename... Args>
EPMC_AVX2 void RunAvx2(const Args&... args) {
  Kernel::Run(args...);
}

// Calls `Kernel::Run(args...)` compiled for `isa`; Run and what it calls must be EPMC_HD.
template <typename Kernel, typename... Args>
void RunOn(Isa isa, const Args&... args) {
  switch (isa) {
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
