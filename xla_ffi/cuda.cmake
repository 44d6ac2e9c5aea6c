# The CUDA kernels, twice from the same sources: _epmc_cuda.so by nvcc, where there is one,
# and _epmc_cuda_emulated.so by the C++ compiler, for tests on machines without a GPU.

set(EPMC_CUDA AUTO CACHE STRING "Build the CUDA library: AUTO (where nvcc is found), ON, OFF")
set(EPMC_CUDA_ARCHITECTURES "80-real;90-real;100-real;120" CACHE STRING
    "GPU architectures; the last is also kept as PTX, for newer GPUs")
option(EPMC_EMULATOR "Build the CUDA kernels for the CPU (tests only)" OFF)

set(EPMC_CUDA_CODECS bit_mask csr group_quant int_pack narrow pool_index sparse_fixed_rate)
set(epmc_cuda_sources ffi/pin_ffi_cuda.cc)
foreach(codec IN LISTS EPMC_CUDA_CODECS)
  list(APPEND epmc_cuda_kernels ${codec}/${codec}_cuda.cu)
  list(APPEND epmc_cuda_sources ${codec}/${codec}_ffi_cuda.cc)
endforeach()

if(EPMC_EMULATOR)
  set(epmc_emulated_sources emulator/collectives.cc emulator/launch.cc)
  # A source has one language: the emulator's copies are C++ files that include the kernels.
  foreach(kernel IN LISTS epmc_cuda_kernels)
    get_filename_component(name ${kernel} NAME_WE)
    file(CONFIGURE OUTPUT ${name}_emulated.cc CONTENT "#include \"xla_ffi/${kernel}\"\n")
    list(APPEND epmc_emulated_sources ${CMAKE_CURRENT_BINARY_DIR}/${name}_emulated.cc)
  endforeach()
  function(epmc_emulate target)
    target_compile_definitions(${target} PRIVATE EPMC_EMULATED)
    target_include_directories(${target} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/..)
    target_include_directories(${target} SYSTEM PRIVATE ${XLA_FFI_INCLUDE})
    target_compile_options(${target} PRIVATE
      -ffp-contract=off -Wall -Wextra -Wno-unknown-pragmas ${ARGN})
    target_link_options(${target} PRIVATE ${ARGN})
  endfunction()

  add_library(_epmc_cuda_emulated MODULE ${epmc_cuda_sources} ${epmc_emulated_sources})
  epmc_emulate(_epmc_cuda_emulated -O1)
  set_target_properties(_epmc_cuda_emulated PROPERTIES PREFIX "" SUFFIX ".so")

  # Each test twice: <test> finds accesses out of bounds, <test>_races lanes that race. The
  # CPU kernels that they compare with are as they are: the fuzzers watch those.
  function(epmc_emulated_test name)
    foreach(suffix IN ITEMS "" _races)
      add_executable(${name}${suffix} ${ARGN} emulator/collectives.cc emulator/launch.cc)
    endforeach()
    epmc_emulate(${name} -O1 -fsanitize=address,undefined -fno-sanitize-recover=all)
    epmc_emulate(${name}_races -O1 -g1 -fsanitize=thread)
    target_link_libraries(${name} PRIVATE epmc_kernels)
    target_link_libraries(${name}_races PRIVATE epmc_kernels)
  endfunction()
  foreach(codec IN LISTS EPMC_CUDA_CODECS)
    epmc_emulated_test(${codec}_emulated_test ${codec}/${codec}_emulated_test.cc
      ${CMAKE_CURRENT_BINARY_DIR}/${codec}_cuda_emulated.cc)
  endforeach()
  epmc_emulated_test(planted_bugs emulator/planted_bugs.cc)
endif()

if(EPMC_CUDA STREQUAL "OFF")
  return()
endif()
include(CheckLanguage)
set(CMAKE_CUDA_ARCHITECTURES ${EPMC_CUDA_ARCHITECTURES})
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  if(EPMC_CUDA STREQUAL "ON")
    message(FATAL_ERROR "EPMC_CUDA is ON, but there is no nvcc: put it into PATH, or CUDACXX")
  endif()
  message(STATUS "epmc: no nvcc, so no CUDA library")
  return()
endif()
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
# Apart from the handlers: where the headers of another jaxlib are found, they stay as built.
add_library(epmc_cuda_kernels OBJECT ${epmc_cuda_kernels})
target_include_directories(epmc_cuda_kernels PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/..)
target_compile_options(epmc_cuda_kernels PRIVATE -fmad=false --threads=0)
add_library(_epmc_cuda MODULE ${epmc_cuda_sources})
target_link_libraries(_epmc_cuda PRIVATE epmc_cuda_kernels)
target_include_directories(_epmc_cuda PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/..)
target_include_directories(_epmc_cuda SYSTEM PRIVATE
  ${XLA_FFI_INCLUDE} ${CUDAToolkit_INCLUDE_DIRS})
target_compile_options(_epmc_cuda PRIVATE -Wall -Wextra)
# Static: the library loads where there is no driver, and does not care which CUDA jax has.
set_target_properties(_epmc_cuda PROPERTIES
  PREFIX "" SUFFIX ".so" CUDA_RUNTIME_LIBRARY Static)
install(TARGETS _epmc_cuda LIBRARY DESTINATION epmc_jax)
message(STATUS "epmc: CUDA ${CMAKE_CUDA_COMPILER_VERSION} for ${CMAKE_CUDA_ARCHITECTURES}")
