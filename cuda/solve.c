/* The solver's operations on tiles: each one kernel, or a few. */
#include "cuda/cuda_private.h"
#include "cuda/kernels/kernels.h"

static cudaStream_t stream_of(struct sq_backend *backend)
{
    return sq_cuda_worker(backend)->stream;
}

/* --- into and out of tiles ---------------------------------------------------------------------------------------- */

static enum sq_status load(struct sq_backend *backend, struct sq_matrix weights, const uint8_t *dead, float *tile)
{
    return sq_cuda_checked(sq_kernel_load(stream_of(backend), backend->sizes.solve_rows, weights, dead, tile),
                           "loading a tile");
}

static enum sq_status unload(struct sq_backend *backend, int64_t rows, int64_t n, int64_t groups,
                             const uint8_t *tile_codes, struct sq_tile_scales scales, uint8_t *codes, float *scales_out,
                             uint8_t *zeros)
{
    return sq_cuda_checked(sq_kernel_unload(stream_of(backend), backend->sizes.solve_rows, rows, n, groups, tile_codes,
                                            scales, codes, scales_out, zeros),
                           "unloading a tile");
}

static enum sq_status dequantize(struct sq_backend *backend, const struct sq_grid *grid, const uint8_t *codes,
                                 const float *scales, const uint8_t *zeros, struct sq_matrix weights)
{
    return sq_cuda_checked(sq_kernel_dequantize(stream_of(backend), grid->group_size, codes, scales, zeros, weights),
                           "dequantizing");
}

/* --- grids and codes ---------------------------------------------------------------------------------------------- */

static enum sq_status find_scales(struct sq_backend *backend, const struct sq_grid *grid, enum sq_scale_rule rule,
                                  int64_t columns, const float *weights, const float *importance,
                                  struct sq_tile_scales scales)
{
    return sq_cuda_checked(sq_kernel_find_scales(stream_of(backend), backend->sizes.solve_rows, grid, rule, columns,
                                                 weights, importance, scales),
                           "finding scales");
}

static enum sq_status settle(struct sq_backend *backend, int64_t columns, const float *unit, int64_t unit_stride,
                             const float *products, const float *weights, float *updated)
{
    return sq_cuda_checked(sq_kernel_settle(stream_of(backend), backend->sizes.solve_rows, columns, unit, unit_stride,
                                            products, weights, updated),
                           "settling a group");
}

static enum sq_status quantize(struct sq_backend *backend, const struct sq_column_block *block)
{
    return sq_cuda_checked(sq_kernel_quantize(stream_of(backend), backend->sizes.solve_rows, block),
                           "quantizing columns");
}

static enum sq_status nearest(struct sq_backend *backend, const struct sq_grid *grid, int64_t columns,
                              const float *weights, struct sq_tile_scales scales, uint8_t *codes)
{
    return sq_cuda_checked(sq_kernel_nearest(stream_of(backend), backend->sizes.solve_rows, grid->group_size,
                                             sq_grid_max_code(grid), columns, weights, scales, codes),
                           "rounding");
}

static enum sq_status residual(struct sq_backend *backend, const struct sq_grid *grid, int64_t columns,
                               const float *weights, struct sq_tile_scales scales, const uint8_t *codes, float *errors)
{
    return sq_cuda_checked(sq_kernel_residual(stream_of(backend), backend->sizes.solve_rows, grid->group_size, columns,
                                              weights, scales, codes, errors),
                           "errors of a tile");
}

/* --- refinement --------------------------------------------------------------------------------------------------- */

static enum sq_status centre(struct sq_backend *backend, int64_t columns, const uint8_t *codes, const float *zero,
                             float *centred)
{
    return sq_cuda_checked(
        sq_kernel_centre(stream_of(backend), backend->sizes.solve_rows, columns, codes, zero, centred), "centring");
}

static enum sq_status dot(struct sq_backend *backend, int64_t columns, const float *x, const float *y, double factor,
                          double *sums)
{
    return sq_cuda_checked(sq_kernel_dot(stream_of(backend), backend->sizes.solve_rows, columns, x, y, factor, sums),
                           "a product of rows");
}

static enum sq_status descend(struct sq_backend *backend, const struct sq_descent *descent)
{
    return sq_cuda_checked(sq_kernel_descend(stream_of(backend), backend->sizes.solve_rows, descent), "refining");
}

static enum sq_status keep_better(struct sq_backend *backend, int64_t n, int64_t groups, const double *before,
                                  const uint8_t *old_codes, const float *old_scale, double *after, uint8_t *codes,
                                  struct sq_tile_scales scales)
{
    return sq_cuda_checked(sq_kernel_keep_better(stream_of(backend), backend->sizes.solve_rows, n, groups, before,
                                                 old_codes, old_scale, after, codes, scales),
                           "keeping the better rows");
}

const struct sq_solve_ops sq_cuda_solve_ops = {
    .diagonal = sq_cuda_diagonal,
    .set_dead = sq_cuda_set_dead,
    .arrange = sq_cuda_arrange,
    .unit_form = sq_cuda_unit_form,
    .load = load,
    .unload = unload,
    .dequantize = dequantize,
    .find_scales = find_scales,
    .settle = settle,
    .quantize = quantize,
    .nearest = nearest,
    .residual = residual,
    .centre = centre,
    .dot = dot,
    .descend = descend,
    .keep_better = keep_better,
};
