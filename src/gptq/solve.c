#include "gptq/solve.h"

#include "base/log.h"
#include "gptq/solve_tile.h"

/* Up to this multiple of the smallest H_jj the ridge leaves it four digits: the factor is of H_jj + ridge in f32, and
 * GPTQ's loss takes the ridge off again. */
#define MOST_RIDGE 1000

size_t sq_solve_scratch_bytes(const struct sq_sizes *sizes, const struct sq_solve_options *options, int64_t n)
{
    struct sq_tile tile;
    return sq_tile_layout(sizes, options, n, NULL, &tile);
}

size_t sq_solve_host_bytes(const struct sq_sizes *sizes, const struct sq_solve_options *options, int64_t n)
{
    if (options->solver != SQ_SOLVER_OBQ) return 0;
    return sq_obq_bytes(n, sq_grid_n_groups(&options->grid, n), sizes->solve_rows);
}

static enum sq_status load_weights(struct sq_tile *tile, struct sq_matrix weights)
{
    const struct sq_backend_ops *ops = tile->backend->ops;
    bool finite = false;
    SQ_TRY(ops->all_finite(tile->backend, weights, &finite));
    if (!finite) {
        sq_error("the weights to quantize hold a NaN or an infinity");
        return SQ_ERR_NUMERIC;
    }
    return ops->solve->load(tile->backend, weights, tile->factor->backend_dead, tile->weights);
}

/* What the weights and plain rounding would give: norm and error_rtn; codes and scales are those of plain rounding. */
static enum sq_status measure_rounding(struct sq_tile *tile)
{
    SQ_TRY(sq_tile_form(tile, tile->weights, tile->weight_products, tile->norm));
    SQ_TRY(sq_tile_rtn(tile));
    SQ_TRY(sq_tile_residual(tile));
    return sq_tile_form(tile, tile->errors, NULL, tile->error_rtn);
}

/* Whether what GPTQ loses tells the error: by a factor of the whole Hessian that the ridge does not drown. */
static bool loss_is_error(const struct sq_tile *tile)
{
    const struct sq_factor *factor = tile->factor;
    return !factor->diagonal_only && factor->ridge <= MOST_RIDGE * factor->min_diagonal;
}

/* GPTQ alone: what it loses is the error, and no product is made for that. */
static enum sq_status solve_measured(struct sq_tile *tile)
{
    SQ_TRY(tile->backend->ops->clear(tile->backend, tile->error, (size_t)tile->lanes * sizeof *tile->error));
    tile->loss = tile->error;
    return sq_tile_gptq(tile);
}

static enum sq_status solve(struct sq_tile *tile)
{
    /* a Hessian that no damping makes positive definite has no minimum to descend to */
    bool is_whole = !tile->factor->diagonal_only, is_refined = is_whole && tile->options->refine > 0;
    bool is_obq = tile->options->solver == SQ_SOLVER_OBQ;
    if (!is_refined && !is_obq && loss_is_error(tile)) return solve_measured(tile);
    SQ_TRY(is_obq ? sq_tile_obq(tile) : sq_tile_gptq(tile));
    SQ_TRY(sq_tile_residual(tile));
    return is_refined ? sq_tile_refine(tile) : sq_tile_form(tile, tile->errors, NULL, tile->error);
}

/* Takes everything out of what the next tile's solve writes to. */
static enum sq_status collect(const struct sq_tile *tile)
{
    const struct sq_backend_ops *ops = tile->backend->ops;
    const double *error = tile->options->solver == SQ_SOLVER_RTN ? tile->error_rtn : tile->error;
    const double *figures[] = {error, tile->error_rtn, tile->norm};
    SQ_TRY(ops->solve->unload(tile->backend, tile->rows, tile->n, tile->groups, tile->codes, tile->scales,
                              tile->row_codes, tile->row_scales, tile->row_zeros));
    for (int i = 0; i < 3; i++)
        SQ_TRY(ops->copy(tile->backend, figures[i], (size_t)tile->rows * sizeof(double),
                         tile->row_figures + i * tile->lanes));
    return SQ_OK;
}

/* The results go out while the worker begins with its next tile. */
static enum sq_status fetch(const struct sq_tile *tile, const struct sq_solve_result *result)
{
    const struct sq_backend_ops *ops = tile->backend->ops;
    double *const figures[] = {result->error, result->error_rtn, result->norm};
    size_t cells = (size_t)(tile->rows * tile->groups);
    SQ_TRY(ops->settle(tile->backend));
    SQ_TRY(collect(tile));
    SQ_TRY(ops->fetch(tile->backend, tile->row_codes, (size_t)(tile->rows * tile->n), result->codes));
    SQ_TRY(ops->fetch(tile->backend, tile->row_scales, cells * sizeof(float), result->scales));
    SQ_TRY(ops->fetch(tile->backend, tile->row_zeros, cells, result->zeros));
    for (int i = 0; i < 3; i++)
        SQ_TRY(ops->fetch(tile->backend, tile->row_figures + i * tile->lanes, (size_t)tile->rows * sizeof(double),
                          figures[i]));
    return SQ_OK;
}

enum sq_status sq_solve_tile(struct sq_backend *backend, const struct sq_factor *factor,
                             const struct sq_solve_options *options, struct sq_matrix weights, void *scratch,
                             struct sq_solve_result *result)
{
    struct sq_tile tile;
    sq_tile_layout(&backend->sizes, options, factor->n, scratch, &tile);
    tile.backend = backend;
    tile.factor = factor;
    tile.rows = weights.rows;
    SQ_TRY(load_weights(&tile, weights));
    SQ_TRY(measure_rounding(&tile));
    if (options->solver != SQ_SOLVER_RTN) SQ_TRY(solve(&tile));
    if (result->n_rounds) *result->n_rounds = tile.n_rounds;
    return fetch(&tile, result);
}
