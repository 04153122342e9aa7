# src/tensor/kernels/*.c are compiled once per instruction set with SQ_KERNEL_VARIANT naming it; a table in
# src/tensor/cpu_backend.c picks one at run time. On other processors only `generic` exists.
file(GLOB kernel_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/src/tensor/kernels/*.c)
set(variants generic)
set(flags_generic "")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  list(APPEND variants avx2 avx512 avx512bf16)
  set(flags_generic -march=x86-64) # whatever the flags from outside say, as those of Spack and EasyBuild do
endif()
set(flags_avx2 -march=x86-64 -mavx2 -mfma -mf16c)
set(flags_avx512 -march=x86-64-v4 -mprefer-vector-width=512)
set(flags_avx512bf16 ${flags_avx512} -mavx512bf16)
# clang warns of a loop it was asked to vectorise and could not; under the sanitizers that is every one of them
set(kernel_flags -O3 -fno-trapping-math -fopenmp-simd $<$<C_COMPILER_ID:Clang>:-Wno-pass-failed>)
foreach(variant ${variants})
  add_library(sq_kernels_${variant} OBJECT ${kernel_sources})
  target_link_libraries(sq_kernels_${variant} PUBLIC shardq_flags)
  target_compile_options(sq_kernels_${variant} PRIVATE ${kernel_flags} ${flags_${variant}})
  target_compile_definitions(sq_kernels_${variant} PRIVATE SQ_KERNEL_VARIANT=${variant})
  target_link_libraries(sq_tensor PUBLIC $<TARGET_OBJECTS:sq_kernels_${variant}>)
endforeach()
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  target_compile_definitions(sq_tensor PRIVATE SQ_X86_KERNELS)
endif()
