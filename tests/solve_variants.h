/* Runs a check of a kernel of the solver in every variant that this processor has; noise and grids to check it on. */
#ifndef SQ_TESTS_SOLVE_VARIANTS_H
#define SQ_TESTS_SOLVE_VARIANTS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "oracle.h"
#include "tensor/cpu_isa.h"
#include "tensor/kernels/solve.h"

enum { ROWS = SQ_SOLVE_ROWS, MOST = SQ_SOLVE_COLUMNS };

/* Column counts: fewer than a kernel's unrolling, between, a whole group, one more, about a block, and the most. */
static const int64_t counts[] = {1, 3, 4, 7, 33, 64, 65, 127, 128, 129, SQ_SOLVE_COLUMNS};
enum { N_COUNTS = sizeof counts / sizeof *counts };

static uint64_t random_state;

static inline float noise(void)
{
    double sum = 0;
    for (int i = 0; i < 6; i++) {
        random_state = random_state * 6364136223846793005u + 1442695040888963407u;
        sum += (double)(random_state >> 11) * 0x1p-53 - 0.5;
    }
    return (float)sum;
}

static inline void fill(float *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        values[i] = noise();
}

/* Runs the check on each variant that this processor has. */
static inline void for_each_variant(void (*check)(const struct sq_solve_kernels *kernels, int64_t columns))
{
    const struct sq_solve_kernels *variants[5] = {&sq_solve_kernels_generic};
    int n_variants = 1;
#if defined(__x86_64__)
    if (sq_cpu_has(SQ_ISA_AVX2)) variants[n_variants++] = &sq_solve_kernels_avx2;
    if (sq_cpu_has(SQ_ISA_AVX512)) variants[n_variants++] = &sq_solve_kernels_avx512;
    if (sq_cpu_has(SQ_ISA_AVX512BF16)) variants[n_variants++] = &sq_solve_kernels_avx512bf16;
    if (sq_cpu_has(SQ_ISA_AMX)) variants[n_variants++] = &sq_solve_kernels_amx;
#endif
    for (int v = 0; v < n_variants; v++) {
        for (int c = 0; c < N_COUNTS; c++) {
            random_state = (uint64_t)counts[c];
            check(variants[v], counts[c]);
        }
    }
}

/* A grid of one group with different scales in each row. */
struct grid_rows {
    float scale[ROWS], inverse[ROWS], zero[ROWS];
};

static inline struct sq_tile_scales make_scales(struct grid_rows *rows, float zero)
{
    for (int r = 0; r < ROWS; r++) {
        rows->scale[r] = 0.05f + 0.01f * (float)r;
        rows->inverse[r] = 1.0f / rows->scale[r];
        rows->zero[r] = zero;
    }
    return (struct sq_tile_scales){rows->scale, rows->inverse, rows->zero};
}

#endif
