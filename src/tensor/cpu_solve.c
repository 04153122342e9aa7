/* The solver's operations on the CPU: tiles in host memory, inner loops from kernels/. */
#include <string.h>

#include "tensor/cpu_private.h"
#include "tensor/kernels/solve.h"

#define EDGE 32 /* edge of the squares in which strided copies are done, so that both sides stay in cache */

static const struct sq_solve_kernels *kernels(struct sq_backend *backend)
{
    return ((struct sq_cpu *)backend)->solve;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static float *row_of(struct sq_matrix m, int64_t row)
{
    return (float *)m.data + row * m.stride;
}

/* --- factor ------------------------------------------------------------------------------------------------------ */

static enum sq_status diagonal(struct sq_backend *backend, struct sq_matrix m, float *diagonal)
{
    (void)backend;
    for (int64_t i = 0; i < m.rows; i++)
        diagonal[i] = row_of(m, i)[i];
    return SQ_OK;
}

static enum sq_status set_dead(struct sq_backend *backend, const uint8_t *dead, struct sq_matrix hessian)
{
    (void)backend;
    for (int64_t i = 0; i < hessian.rows; i++) {
        float *row = row_of(hessian, i);
        for (int64_t j = 0; j < hessian.cols; j++)
            if (dead[i] || dead[j]) row[j] = i == j ? 1.0f : 0.0f;
    }
    return SQ_OK;
}

static enum sq_status arrange(struct sq_backend *backend, struct sq_matrix hessian, const int32_t *order, float ridge,
                              bool off_diagonal, int64_t row, int64_t rows, struct sq_matrix out)
{
    (void)backend;
    int64_t n = hessian.rows;
    for (int64_t r = row; r < row + rows; r++) {
        const float *source = row_of(hessian, order[n - 1 - r]);
        float *target = row_of(out, r);
        for (int64_t c = 0; c < r; c++)
            target[c] = off_diagonal ? source[order[n - 1 - c]] : 0.0f;
        target[r] = source[order[n - 1 - r]] + ridge;
    }
    return SQ_OK;
}

/* Row r of the square that starts at column col: (r, c) and its mirror image (n-1-c, n-1-r) change places. */
static void mirror_row(const float *pivots, int64_t r, int64_t col, struct sq_matrix m)
{
    int64_t n = m.rows, end = smaller(col + EDGE, smaller(r, n - 1 - r) + 1);
    float *row = row_of(m, r);
    for (int64_t c = col; c < end; c++) {
        float *image = row_of(m, n - 1 - c) + (n - 1 - r);
        float here = row[c], there = *image;
        *image = here / pivots[c];
        row[c] = there / pivots[n - 1 - r];
    }
}

static enum sq_status unit_form(struct sq_backend *backend, const float *pivots, int64_t row, int64_t rows,
                                struct sq_matrix m)
{
    (void)backend;
    for (int64_t r0 = row; r0 < row + rows; r0 += EDGE)
        for (int64_t col = 0; col < smaller(r0 + EDGE, m.rows - r0); col += EDGE)
            for (int64_t r = r0; r < smaller(r0 + EDGE, row + rows); r++)
                mirror_row(pivots, r, col, m);
    return SQ_OK;
}

/* --- into and out of tiles --------------------------------------------------------------------------------------- */

static enum sq_status load(struct sq_backend *backend, struct sq_matrix weights, const uint8_t *dead, float *tile)
{
    (void)backend;
    memset(tile, 0, (size_t)(weights.cols * SQ_SOLVE_ROWS) * sizeof *tile);
    for (int64_t j0 = 0; j0 < weights.cols; j0 += EDGE)
        for (int64_t r = 0; r < weights.rows; r++)
            for (int64_t j = j0; j < smaller(j0 + EDGE, weights.cols); j++)
                tile[j * SQ_SOLVE_ROWS + r] = dead[j] ? 0.0f : row_of(weights, r)[j];
    return SQ_OK;
}

static enum sq_status unload(struct sq_backend *backend, int64_t rows, int64_t n, int64_t groups,
                             const uint8_t *tile_codes, struct sq_tile_scales scales, uint8_t *codes, float *scales_out,
                             uint8_t *zeros)
{
    (void)backend;
    for (int64_t j0 = 0; j0 < n; j0 += EDGE)
        for (int64_t r = 0; r < rows; r++)
            for (int64_t j = j0; j < smaller(j0 + EDGE, n); j++)
                codes[r * n + j] = tile_codes[j * SQ_SOLVE_ROWS + r];
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t g = 0; g < groups; g++) {
            scales_out[r * groups + g] = scales.scale[g * SQ_SOLVE_ROWS + r];
            zeros[r * groups + g] = (uint8_t)scales.zero[g * SQ_SOLVE_ROWS + r];
        }
    }
    return SQ_OK;
}

static enum sq_status dequantize(struct sq_backend *backend, const struct sq_grid *grid, const uint8_t *codes,
                                 const float *scales, const uint8_t *zeros, struct sq_matrix weights)
{
    (void)backend;
    sq_grid_dequantize(grid, weights.rows, weights.cols, codes, scales, zeros, weights.data);
    return SQ_OK;
}

/* --- grids and codes --------------------------------------------------------------------------------------------- */

static struct sq_tile_scales group_scales(struct sq_tile_scales scales, int64_t group)
{
    int64_t at = group * SQ_SOLVE_ROWS;
    return (struct sq_tile_scales){scales.scale + at, scales.inverse + at, scales.zero + at};
}

static enum sq_status find_scales(struct sq_backend *backend, const struct sq_grid *grid, enum sq_scale_rule rule,
                                  int64_t columns, const float *weights, const float *importance,
                                  struct sq_tile_scales scales)
{
    for (int64_t j = 0, g = 0; j < columns; j += grid->group_size, g++)
        kernels(backend)->find_scales(grid, rule, smaller(grid->group_size, columns - j), weights + j * SQ_SOLVE_ROWS,
                                      importance ? importance + j : NULL, group_scales(scales, g));
    return SQ_OK;
}

static enum sq_status settle(struct sq_backend *backend, int64_t columns, const float *unit, int64_t unit_stride,
                             const float *products, const float *weights, float *updated)
{
    kernels(backend)->settle(columns, unit, unit_stride, products, weights, updated);
    return SQ_OK;
}

static enum sq_status quantize(struct sq_backend *backend, const struct sq_column_block *block)
{
    kernels(backend)->quantize(block);
    return SQ_OK;
}

static enum sq_status nearest(struct sq_backend *backend, const struct sq_grid *grid, int64_t columns,
                              const float *weights, struct sq_tile_scales scales, uint8_t *codes)
{
    for (int64_t j = 0, g = 0; j < columns; j += grid->group_size, g++)
        kernels(backend)->nearest(smaller(grid->group_size, columns - j), weights + j * SQ_SOLVE_ROWS,
                                  group_scales(scales, g), sq_grid_max_code(grid), codes + j * SQ_SOLVE_ROWS);
    return SQ_OK;
}

static enum sq_status residual(struct sq_backend *backend, const struct sq_grid *grid, int64_t columns,
                               const float *weights, struct sq_tile_scales scales, const uint8_t *codes, float *errors)
{
    for (int64_t j = 0, g = 0; j < columns; j += grid->group_size, g++)
        kernels(backend)->residual(smaller(grid->group_size, columns - j), weights + j * SQ_SOLVE_ROWS,
                                   group_scales(scales, g), codes + j * SQ_SOLVE_ROWS, errors + j * SQ_SOLVE_ROWS);
    return SQ_OK;
}

/* --- refinement -------------------------------------------------------------------------------------------------- */

static enum sq_status centre(struct sq_backend *backend, int64_t columns, const uint8_t *codes, const float *zero,
                             float *centred)
{
    kernels(backend)->centre(columns, codes, zero, centred);
    return SQ_OK;
}

static enum sq_status dot(struct sq_backend *backend, int64_t columns, const float *x, const float *y, double factor,
                          double *sums)
{
    for (int64_t j = 0; j < columns; j += SQ_SOLVE_COLUMNS)
        kernels(backend)->dot(smaller(SQ_SOLVE_COLUMNS, columns - j), x + j * SQ_SOLVE_ROWS, y + j * SQ_SOLVE_ROWS,
                              factor, sums);
    return SQ_OK;
}

static enum sq_status descend(struct sq_backend *backend, const struct sq_descent *descent)
{
    kernels(backend)->descend(descent);
    return SQ_OK;
}

static enum sq_status keep_better(struct sq_backend *backend, int64_t n, int64_t groups, const double *before,
                                  const uint8_t *old_codes, const float *old_scale, double *after, uint8_t *codes,
                                  struct sq_tile_scales scales)
{
    (void)backend;
    for (int64_t r = 0; r < SQ_SOLVE_ROWS; r++) {
        if (after[r] < before[r]) continue;
        after[r] = before[r];
        for (int64_t at = r; at < n * SQ_SOLVE_ROWS; at += SQ_SOLVE_ROWS)
            codes[at] = old_codes[at];
        for (int64_t at = r; at < groups * SQ_SOLVE_ROWS; at += SQ_SOLVE_ROWS) {
            scales.scale[at] = old_scale[at];
            scales.inverse[at] = 1.0f / old_scale[at];
        }
    }
    return SQ_OK;
}

const struct sq_solve_ops sq_cpu_solve_ops = {
    .diagonal = diagonal,
    .set_dead = set_dead,
    .arrange = arrange,
    .unit_form = unit_form,
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
