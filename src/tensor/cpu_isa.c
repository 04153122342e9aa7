#define _GNU_SOURCE /* syscall */
#include "tensor/cpu_isa.h"

#ifdef SQ_X86_KERNELS

#include <cpuid.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512cd");
}

static bool has_avx512bf16(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512bf16");
}

/* Linux gives the 8 KiB of tile registers only to a process that asks; all of its threads then have them. */
static bool may_use_tiles(void)
{
#if defined(__linux__) && defined(SYS_arch_prctl)
    enum { REQUEST_STATE = 0x1023, TILE_DATA = 18 }; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */
    return syscall(SYS_arch_prctl, REQUEST_STATE, TILE_DATA) == 0;
#else
    return false;
#endif
}

/* By cpuid itself: compilers learnt these names later than the instructions. */
static bool has_amx(void)
{
    enum { FEATURES = 7, AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24 };
    unsigned a, b, c, d;
    return has_avx512bf16() && __get_cpuid_count(FEATURES, 0, &a, &b, &c, &d) && (d & AMX_BF16) && (d & AMX_TILE) &&
           may_use_tiles();
}

bool sq_cpu_has(enum sq_isa isa)
{
    switch (isa) {
    case SQ_ISA_AMX:
        return has_amx();
    case SQ_ISA_AVX512BF16:
        return has_avx512bf16();
    case SQ_ISA_AVX512:
        return has_avx512();
    case SQ_ISA_AVX2:
        return has_avx2();
    default:
        return true;
    }
}

/* Intel's cores since Sapphire Rapids multiply bf16 in their tile registers; where these are not to be had (a virtual
 * machine may hide them), the vector instruction VDPBF16PS has half the speed of f32: 166 and 304 GFLOP/s of two cores
 * (tests/bench/peak.c, Emerald Rapids without AMX). On AMD's it has twice that of f32. Cooper Lake had no tiles. */
bool sq_cpu_bf16_is_faster(enum sq_isa isa)
{
    if (isa == SQ_ISA_AMX) return true;
    return isa == SQ_ISA_AVX512BF16 && (!__builtin_cpu_is("intel") || __builtin_cpu_is("cooperlake"));
}

#else

bool sq_cpu_bf16_is_faster(enum sq_isa isa)
{
    (void)isa;
    return false;
}

bool sq_cpu_has(enum sq_isa isa)
{
    return isa == SQ_ISA_GENERIC;
}

#endif
