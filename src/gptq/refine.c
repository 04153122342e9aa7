/* Refinement of codes and scales after the solve, in the same file format: block coordinate descent on e H e', group by
 * group. A round takes each group in turn: e H for its columns, afresh from all errors as they are; the best scale for
 * the codes; a pass over the codes; both once more. Groups too wide for that get their scales before the round instead
 * (refit.c), at the price of another 2 n^2 operations a row. A round costs 2 n^2 operations a row, all in large
 * products, and its two halves (columns before and after the group) give e H e' before and after the round as a
 * by-product. */
#include "gptq/solve_tile.h"

/* A round that gains less than this share of the tile's error is the last one. */
#define WORTH_ANOTHER 0.02

/* x H for rows of H, of the errors in columns [from, to) alone. */
static enum sq_status products_of(const struct sq_tile *tile, struct sq_matrix rows, int64_t from, int64_t to,
                                  bool accumulate, float *out)
{
    struct sq_matrix part = sq_matrix_part(rows, 0, rows.rows, from, to - from);
    return sq_tile_product(tile, part, sq_tile_columns(tile, tile->errors, from), accumulate, out);
}

/* The span that begins at column j; left and right: the parts of e H that come from columns before and after it. A
 * group that is too wide to be one has had its scale refitted. */
static enum sq_status descend_span(struct sq_tile *tile, int64_t j, struct sq_tile_span span, float *left, float *right)
{
    const struct sq_solve_ops *solve = tile->backend->ops->solve;
    int64_t columns = span.columns;
    struct sq_matrix rows = sq_matrix_part(tile->factor->hessian, j, columns, 0, tile->n);
    struct sq_matrix own = sq_matrix_part(rows, 0, columns, j, columns);
    int64_t group = j / tile->options->grid.group_size * tile->lanes;
    struct sq_descent descent = {.columns = columns,
                                 .hessian = own.data,
                                 .hessian_stride = own.stride,
                                 .left = left,
                                 .own = tile->parts[1],
                                 .right = right,
                                 .weight_products = sq_tile_columns(tile, tile->weight_products, j),
                                 .centred = tile->centred,
                                 .weights = sq_tile_columns(tile, tile->weights, j),
                                 .errors = sq_tile_columns(tile, tile->errors, j),
                                 .codes = tile->codes + j * tile->lanes,
                                 .scale = tile->scales.scale + group,
                                 .inverse = tile->scales.inverse + group,
                                 .zero = tile->scales.zero + group,
                                 .max_code = sq_grid_max_code(&tile->options->grid),
                                 .scale_dtype = tile->options->grid.scale_dtype,
                                 .refit_scale = span.is_group,
                                 .before = tile->before,
                                 .after = tile->error};
    SQ_TRY(products_of(tile, rows, j, j + columns, false, descent.own));
    SQ_TRY(solve->centre(tile->backend, columns, descent.codes, descent.zero, descent.centred));
    return solve->descend(tile->backend, &descent);
}

/* The spans of columns [first, end) in turn. What comes from outside of them is one product for all. */
static enum sq_status descend_spans(struct sq_tile *tile, int64_t first, int64_t end)
{
    struct sq_matrix rows = sq_matrix_part(tile->factor->hessian, first, end - first, 0, tile->n);
    SQ_TRY(products_of(tile, rows, 0, first, false, tile->parts[0]));
    SQ_TRY(products_of(tile, rows, end, tile->n, false, tile->parts[2]));
    struct sq_tile_span span;
    for (int64_t j = first; j < end; j += span.columns) {
        span = sq_tile_span_at(tile, j);
        struct sq_matrix own = sq_matrix_part(rows, j - first, span.columns, 0, tile->n);
        float *left = sq_tile_columns(tile, tile->parts[0], j - first);
        float *right = sq_tile_columns(tile, tile->parts[2], j - first);
        SQ_TRY(products_of(tile, own, first, j, true, left));
        SQ_TRY(products_of(tile, own, j + span.columns, end, true, right));
        SQ_TRY(descend_span(tile, j, span, left, right));
    }
    return SQ_OK;
}

/* The share of the tile's error that a round took away: `gained` by wide groups' scales, the rest after them. */
static enum sq_status round_gain(const struct sq_tile *tile, double gained, double *gain_p)
{
    const struct sq_backend_ops *ops = tile->backend->ops;
    double before[SQ_SOLVE_ROWS_MAX], after[SQ_SOLVE_ROWS_MAX], sum_before = gained, sum_after = 0;
    size_t bytes = (size_t)tile->lanes * sizeof *before;
    SQ_TRY(ops->download(tile->backend, tile->before, bytes, before));
    SQ_TRY(ops->download(tile->backend, tile->error, bytes, after));
    for (int64_t r = 0; r < tile->lanes; r++) {
        sum_before += before[r];
        sum_after += after[r];
    }
    *gain_p = sum_before > 0 ? 1 - sum_after / sum_before : 0;
    return SQ_OK;
}

/* One round over all groups; rows whose codes it made no better are put back. */
static enum sq_status refine_round(struct sq_tile *tile, double *gain_p)
{
    const struct sq_solve_ops *solve = tile->backend->ops->solve;
    size_t code_bytes = (size_t)(tile->n * tile->lanes);
    size_t scale_bytes = (size_t)(tile->groups * tile->lanes) * sizeof(float);
    double gained = 0;
    SQ_TRY(sq_tile_refit_wide(tile, &gained));
    SQ_TRY(tile->backend->ops->copy(tile->backend, tile->codes, code_bytes, tile->old_codes));
    SQ_TRY(tile->backend->ops->copy(tile->backend, tile->scales.scale, scale_bytes, tile->old_scale));
    SQ_TRY(tile->backend->ops->clear(tile->backend, tile->before, (size_t)tile->lanes * sizeof(double)));
    SQ_TRY(tile->backend->ops->clear(tile->backend, tile->error, (size_t)tile->lanes * sizeof(double)));
    for (int64_t j = 0, end; j < tile->n; j = end) {
        end = sq_tile_spans_end(tile, j);
        SQ_TRY(descend_spans(tile, j, end));
    }
    SQ_TRY(solve->keep_better(tile->backend, tile->n, tile->groups, tile->before, tile->old_codes, tile->old_scale,
                              tile->error, tile->codes, tile->scales));
    SQ_TRY(sq_tile_residual(tile));
    return round_gain(tile, gained, gain_p);
}

enum sq_status sq_tile_refine(struct sq_tile *tile)
{
    double gain = 1;
    for (int round = 0; round < tile->options->refine && gain >= WORTH_ANOTHER; round++, tile->n_rounds++)
        SQ_TRY(refine_round(tile, &gain));
    return SQ_OK;
}
