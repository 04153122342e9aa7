/* The dry backend's kernels for factor and solve: tiles have all their rows, whatever the layer has left. */
#include "tensor/dry_private.h"
#include "tensor/solve_ops.h"

static double lanes(const struct sq_backend *backend)
{
    return (double)backend->sizes.solve_rows;
}

static enum sq_status pass(struct sq_backend *backend, double columns)
{
    return sq_dry_do(backend, SQ_WORK_CELLS, columns * lanes(backend), 0);
}

/* --- factor ------------------------------------------------------------------------------------------------------- */

/* No input is dead. */
static enum sq_status dry_diagonal(struct sq_backend *backend, struct sq_matrix m, float *diagonal)
{
    for (int64_t i = 0; i < m.rows; i++)
        diagonal[i] = 1.0f;
    return sq_dry_do(backend, SQ_WORK_COPY, (double)m.rows * sizeof(float), 0);
}

static enum sq_status dry_set_dead(struct sq_backend *backend, const uint8_t *dead, struct sq_matrix hessian)
{
    (void)dead;
    return sq_dry_do(backend, SQ_WORK_STREAM, (double)hessian.rows * (double)hessian.cols * sizeof(float), 0);
}

static enum sq_status dry_arrange(struct sq_backend *backend, struct sq_matrix hessian, const int32_t *order,
                                  float ridge, bool off_diagonal, int64_t row, int64_t rows, struct sq_matrix out)
{
    (void)hessian;
    (void)order;
    (void)ridge;
    (void)off_diagonal;
    (void)out;
    return sq_dry_do(backend, SQ_WORK_TURN, (double)rows * ((double)row + 0.5 * (double)rows), 0);
}

static enum sq_status dry_unit_form(struct sq_backend *backend, const float *pivots, int64_t row, int64_t rows,
                                    struct sq_matrix m)
{
    (void)pivots;
    (void)m;
    return sq_dry_do(backend, SQ_WORK_TURN, (double)rows * ((double)row + 0.5 * (double)rows), 0);
}

/* --- tiles -------------------------------------------------------------------------------------------------------- */

static enum sq_status dry_load(struct sq_backend *backend, struct sq_matrix weights, const uint8_t *dead, float *tile)
{
    (void)dead;
    (void)tile;
    return pass(backend, (double)weights.cols);
}

static enum sq_status dry_unload(struct sq_backend *backend, int64_t rows, int64_t n, int64_t groups,
                                 const uint8_t *tile_codes, struct sq_tile_scales scales, uint8_t *codes,
                                 float *scales_out, uint8_t *zeros)
{
    (void)rows;
    (void)groups;
    (void)tile_codes;
    (void)scales;
    (void)codes;
    (void)scales_out;
    (void)zeros;
    return pass(backend, (double)n);
}

static enum sq_status dry_dequantize(struct sq_backend *backend, const struct sq_grid *grid, const uint8_t *codes,
                                     const float *scales, const uint8_t *zeros, struct sq_matrix weights)
{
    (void)grid;
    (void)codes;
    (void)scales;
    (void)zeros;
    return sq_dry_do(backend, SQ_WORK_STREAM, 5 * (double)weights.rows * (double)weights.cols, 0);
}

static enum sq_status dry_find_scales(struct sq_backend *backend, const struct sq_grid *grid, enum sq_scale_rule rule,
                                      int64_t columns, const float *weights, const float *importance,
                                      struct sq_tile_scales scales)
{
    (void)grid;
    (void)weights;
    (void)importance;
    (void)scales;
    if (rule != SQ_SCALE_SEARCH) return pass(backend, (double)columns);
    return sq_dry_do(backend, SQ_WORK_SEARCH, (double)columns * lanes(backend), 0);
}

static enum sq_status dry_settle(struct sq_backend *backend, int64_t columns, const float *unit, int64_t unit_stride,
                                 const float *products, const float *weights, float *updated)
{
    (void)unit;
    (void)unit_stride;
    (void)products;
    (void)weights;
    (void)updated;
    return sq_dry_do(backend, SQ_WORK_QUANTIZE, (double)columns * lanes(backend), 0);
}

static enum sq_status dry_quantize(struct sq_backend *backend, const struct sq_column_block *block)
{
    return sq_dry_do(backend, SQ_WORK_QUANTIZE, (double)block->columns * lanes(backend), 0);
}

static enum sq_status dry_nearest(struct sq_backend *backend, const struct sq_grid *grid, int64_t columns,
                                  const float *weights, struct sq_tile_scales scales, uint8_t *codes)
{
    (void)grid;
    (void)weights;
    (void)scales;
    (void)codes;
    return pass(backend, (double)columns);
}

static enum sq_status dry_residual(struct sq_backend *backend, const struct sq_grid *grid, int64_t columns,
                                   const float *weights, struct sq_tile_scales scales, const uint8_t *codes,
                                   float *errors)
{
    (void)grid;
    (void)weights;
    (void)scales;
    (void)codes;
    (void)errors;
    return pass(backend, (double)columns);
}

static enum sq_status dry_centre(struct sq_backend *backend, int64_t columns, const uint8_t *codes, const float *zero,
                                 float *centred)
{
    (void)codes;
    (void)zero;
    (void)centred;
    return pass(backend, (double)columns);
}

static enum sq_status dry_dot(struct sq_backend *backend, int64_t columns, const float *x, const float *y,
                              double factor, double *sums)
{
    (void)x;
    (void)y;
    (void)factor;
    (void)sums;
    return pass(backend, (double)columns);
}

static enum sq_status dry_descend(struct sq_backend *backend, const struct sq_descent *descent)
{
    double columns = (double)descent->columns;
    return sq_dry_do(backend, SQ_WORK_DESCENT, 4 * columns * columns * lanes(backend), descent->columns);
}

static enum sq_status dry_keep_better(struct sq_backend *backend, int64_t n, int64_t groups, const double *before,
                                      const uint8_t *old_codes, const float *old_scale, double *after, uint8_t *codes,
                                      struct sq_tile_scales scales)
{
    (void)groups;
    (void)before;
    (void)old_codes;
    (void)old_scale;
    (void)after;
    (void)codes;
    (void)scales;
    return pass(backend, (double)n);
}

const struct sq_solve_ops sq_dry_solve_ops = {
    .diagonal = dry_diagonal,
    .set_dead = dry_set_dead,
    .arrange = dry_arrange,
    .unit_form = dry_unit_form,
    .load = dry_load,
    .unload = dry_unload,
    .dequantize = dry_dequantize,
    .find_scales = dry_find_scales,
    .settle = dry_settle,
    .quantize = dry_quantize,
    .nearest = dry_nearest,
    .residual = dry_residual,
    .centre = dry_centre,
    .dot = dry_dot,
    .descend = dry_descend,
    .keep_better = dry_keep_better,
};
