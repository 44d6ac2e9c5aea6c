# A fuzzer per codec, of its CPU kernels on every instruction set. They need clang.

option(EPMC_FUZZ "Build the fuzzers (needs clang)" OFF)
if(NOT EPMC_FUZZ)
  return()
endif()
if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  message(FATAL_ERROR "EPMC_FUZZ needs clang: -DCMAKE_CXX_COMPILER=clang++")
endif()
set(sanitizers -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all)
# -Wmaybe-uninitialized, of which GroupQuant speaks, is GCC's alone.
# To watch the operands of each comparison takes 60 % of SparseFixedRate's time, and reached
# as much of the code of PoolIndex (1767 edges either way): no number here is magic.
set(fuzz_options
  -fno-sanitize-coverage=trace-cmp
  -O2 -g1 -ffp-contract=off -Wall -Wextra -Wno-unknown-warning-option ${sanitizers})

# One library of all kernels: a codec may call another's, as SparseFixedRate does BitMask's.
add_library(fuzzed_kernels STATIC EXCLUDE_FROM_ALL common/isa.cc)
foreach(codec IN LISTS EPMC_CODECS)
  target_sources(fuzzed_kernels PRIVATE ${codec}/${codec}_cpu.cc)
endforeach()
target_include_directories(fuzzed_kernels PUBLIC ${CMAKE_CURRENT_SOURCE_DIR}/..)
target_compile_options(fuzzed_kernels PUBLIC ${fuzz_options})

add_custom_target(fuzzers)
foreach(codec IN LISTS EPMC_CODECS)
  set(name ${codec}_fuzz)
  if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/${name}.cc)
    message(WARNING "${codec} is not fuzzed: fuzz/${name}.cc is missing")
    continue()
  endif()
  add_executable(${name} EXCLUDE_FROM_ALL fuzz/${codec}_fuzz.cc)
  target_link_libraries(${name} PRIVATE fuzzed_kernels)
  target_link_options(${name} PRIVATE ${sanitizers})
  add_dependencies(fuzzers ${name})
endforeach()
