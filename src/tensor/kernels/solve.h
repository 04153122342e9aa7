/* The solver's inner loops over tiles; what each does is said in tensor/solve_ops.h. */
#ifndef SQ_TENSOR_KERNELS_SOLVE_H
#define SQ_TENSOR_KERNELS_SOLVE_H

#include "tensor/kernels/kernels.h"
#include "tensor/solve_ops.h"

/* c [rows, ROWS] = a b, or c += a b; a [rows, depth], b [depth, ROWS], depth at least 1. */
struct sq_tile_factors {
    const float *a;
    int64_t stride; /* of a */
    int64_t rows, depth;
    const float *b;
    bool accumulate;
    float *c;
};

struct sq_solve_kernels {
    void (*multiply)(const struct sq_tile_factors *factors);
    /* One group: columns of weights, its own importance (or NULL) and grid [ROWS]. */
    void (*find_scales)(const struct sq_grid *grid, enum sq_scale_rule rule, int64_t columns, const float *weights,
                        const float *importance, struct sq_tile_scales scales);
    void (*settle)(int64_t columns, const float *unit, int64_t unit_stride, const float *products, const float *weights,
                   float *updated);
    void (*quantize)(const struct sq_column_block *block);
    /* One group. */
    void (*nearest)(int64_t columns, const float *weights, struct sq_tile_scales scales, int max_code, uint8_t *codes);
    void (*residual)(int64_t columns, const float *weights, struct sq_tile_scales scales, const uint8_t *codes,
                     float *errors);
    void (*centre)(int64_t columns, const uint8_t *codes, const float *zero, float *centred);
    void (*dot)(int64_t columns, const float *x, const float *y, double factor, double *sums);
    void (*descend)(const struct sq_descent *descent);
};

/* The parts of the table that have files of their own. */
void SQ_KERNEL(sq_find_scales)(const struct sq_grid *grid, enum sq_scale_rule rule, int64_t columns,
                               const float *weights, const float *importance, struct sq_tile_scales scales);
void SQ_KERNEL(sq_descend)(const struct sq_descent *descent);
void SQ_KERNEL(sq_multiply_tile)(const struct sq_tile_factors *factors);

#endif
