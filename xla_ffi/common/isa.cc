#include "xla_ffi/common/isa.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>

namespace epmc {
namespace {

Isa SupportedIsa() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2");
  if (has_avx2 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq")) {
    return Isa::kAvx512;
  }
  if (has_avx2) return Isa::kAvx2;
#endif
  return Isa::kBaseline;
}

// EPMC_ISA = scalar, avx2 or avx512 asks for less than the processor has, for tests.
Isa ChosenIsa() {
  const Isa supported = SupportedIsa();
  const char* wish = std::getenv("EPMC_ISA");
  if (wish == nullptr) return supported;
  const std::string_view name = wish;
  const Isa wished = name == "scalar" ? Isa::kBaseline
                     : name == "avx2" ? Isa::kAvx2
                                      : Isa::kAvx512;
  return std::min(wished, supported);
}

}  // namespace

Isa BestIsa() {
  static const Isa isa = ChosenIsa();
  return isa;
}

}  // namespace epmc
