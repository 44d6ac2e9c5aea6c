#include "xla_ffi/common/isa.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace epmc {
namespace {

#if defined(__x86_64__)

bool HasAvx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") &&
         __builtin_cpu_supports("fma");
}

bool HasAvx512() {
  return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512dq");
}

bool HasVbmi2() {
  return __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2") &&
         __builtin_cpu_supports("gfni");
}

Isa SupportedIsa() {
  __builtin_cpu_init();
  if (!HasAvx2()) return Isa::kBaseline;
  if (!HasAvx512()) return Isa::kAvx2;
  return HasVbmi2() ? Isa::kAvx512Vbmi2 : Isa::kAvx512;
}

#else

Isa SupportedIsa() { return Isa::kBaseline; }

#endif

Isa ChosenIsa() {
  const Isa supported = SupportedIsa();
  const char* wish = std::getenv("EPMC_ISA");
  if (wish == nullptr) return supported;
  const std::optional<Isa> wished = IsaNamed(wish);
  if (!wished) {
    std::fprintf(stderr,
                 "epmc: EPMC_ISA is \"%s\", expected scalar, avx2, avx512 or vbmi2; it has no "
                 "effect. Unset it to use the best instruction set of this processor.\n",
                 wish);
  }
  return std::min(wished.value_or(supported), supported);
}

}  // namespace

std::optional<Isa> IsaNamed(std::string_view name) {
  if (name == "scalar") return Isa::kBaseline;
  if (name == "avx2") return Isa::kAvx2;
  if (name == "avx512") return Isa::kAvx512;
  if (name == "vbmi2") return Isa::kAvx512Vbmi2;
  return std::nullopt;
}

Isa BestIsa() {
  static const Isa isa = ChosenIsa();
  return isa;
}

}  // namespace epmc
