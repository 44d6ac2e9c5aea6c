# A fuzzer per codec, of its CPU kernels on every instruction set. They need clang.

option(EPMC_FUZZ "Build the fuzzers (needs clang)" OFF)
if(NOT EPMC_FUZZ)
  return()
endif()
if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  message(FATAL_ERROR "EPMC_FUZZ needs clang: -DCMAKE_CXX_COMPILER=clang++")
endif()
add_custom_target(fuzzers)
foreach(codec IN LISTS EPMC_CODECS)
  set(name ${codec}_fuzz)
  if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/${name}.cc)
    message(WARNING "${codec} is not fuzzed: fuzz/${name}.cc is missing")
    continue()
  endif()
  add_executable(${name} EXCLUDE_FROM_ALL
    fuzz/${codec}_fuzz.cc ${codec}/${codec}_cpu.cc ${EPMC_CALLED_BY_${codec}} common/isa.cc)
  target_include_directories(${name} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/..)
  set(sanitizers -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all)
  # -Wmaybe-uninitialized, of which GroupQuant speaks, is GCC's alone.
  target_compile_options(${name} PRIVATE
    -O2 -g1 -ffp-contract=off -Wall -Wextra -Wno-unknown-warning-option ${sanitizers})
  target_link_options(${name} PRIVATE ${sanitizers})
  add_dependencies(fuzzers ${name})
endforeach()
