/* Scales of groups that are too wide for descend(), which refits those of the others. With all else as it is, the best
 * scale is s + e H c' / c H c', where c = code - zero in the group's columns and 0 elsewhere. The products H c' of all
 * columns give both forms: 2 n^2 operations a row for all groups together. */
#include "gptq/solve_tile.h"

/* The group in work: columns [first, end). */
struct wide_group {
    int64_t index, first, end;
    float *centred;            /* [end - first, ROWS] c */
    double *slope, *curvature; /* [ROWS] e H c', c H c' */
};

/* What columns [from, to), which lie all inside the group or all outside, add to the group's forms. */
static enum sq_status add_columns(struct sq_tile *tile, const struct wide_group *group, int64_t from, int64_t to)
{
    const struct sq_solve_ops *solve = tile->backend->ops->solve;
    float *products = tile->parts[0];
    bool inside = from >= group->first && to <= group->end;
    for (int64_t j = from; j < to; j += SQ_SOLVE_COLUMNS) {
        int64_t columns = to - j < SQ_SOLVE_COLUMNS ? to - j : SQ_SOLVE_COLUMNS;
        struct sq_matrix part =
            sq_matrix_part(tile->factor->hessian, j, columns, group->first, group->end - group->first);
        SQ_TRY(sq_tile_product(tile, part, group->centred, false, products));
        SQ_TRY(solve->dot(tile->backend, columns, sq_tile_columns(tile, tile->errors, j), products, 1, group->slope));
        if (!inside) continue;
        float *centred = sq_tile_columns(tile, group->centred, j - group->first);
        SQ_TRY(solve->dot(tile->backend, columns, centred, products, 1, group->curvature));
    }
    return SQ_OK;
}

static enum sq_status measure(struct sq_tile *tile, const struct wide_group *group)
{
    const struct sq_solve_ops *solve = tile->backend->ops->solve;
    size_t bytes = (size_t)tile->lanes * sizeof(double);
    SQ_TRY(tile->backend->ops->clear(tile->backend, group->slope, bytes));
    SQ_TRY(tile->backend->ops->clear(tile->backend, group->curvature, bytes));
    SQ_TRY(solve->centre(tile->backend, group->end - group->first, tile->codes + group->first * tile->lanes,
                         tile->scales.zero + group->index * tile->lanes, group->centred));
    SQ_TRY(add_columns(tile, group, 0, group->first));
    SQ_TRY(add_columns(tile, group, group->first, group->end));
    return add_columns(tile, group, group->end, tile->n);
}

/* Replaces a row's scale by the best one as stored, where that is better; returns what this takes off e H e'. A scale
 * at most halves or doubles, as in descend(). */
static double step_scale(enum sq_dtype dtype, double slope, double curvature, float *scale)
{
    if (!(curvature > 0)) return 0;
    double old = (double)*scale, best = old + slope / curvature;
    best = best > old / 2 ? best : old / 2;
    best = best < old * 2 ? best : old * 2;
    float proposed = sq_grid_round_scale(dtype, (float)best);
    double step = (double)proposed - old, gain = step * (2 * slope - step * curvature);
    if (!(gain > 0)) return 0;
    *scale = proposed;
    return gain;
}

/* The step is taken on the host: it is a few numbers a row. */
static enum sq_status step_scales(struct sq_tile *tile, const struct wide_group *group, double *gained)
{
    const struct sq_backend_ops *ops = tile->backend->ops;
    int64_t at = group->index * tile->lanes;
    double slope[SQ_SOLVE_ROWS_MAX], curvature[SQ_SOLVE_ROWS_MAX];
    float scale[SQ_SOLVE_ROWS_MAX], inverse[SQ_SOLVE_ROWS_MAX];
    size_t figure_bytes = (size_t)tile->lanes * sizeof *slope, scale_bytes = (size_t)tile->lanes * sizeof *scale;
    SQ_TRY(ops->download(tile->backend, group->slope, figure_bytes, slope));
    SQ_TRY(ops->download(tile->backend, group->curvature, figure_bytes, curvature));
    SQ_TRY(ops->download(tile->backend, tile->scales.scale + at, scale_bytes, scale));
    for (int64_t r = 0; r < tile->lanes; r++) {
        *gained += step_scale(tile->options->grid.scale_dtype, slope[r], curvature[r], &scale[r]);
        inverse[r] = 1.0f / scale[r];
    }
    SQ_TRY(ops->upload(tile->backend, scale, scale_bytes, tile->scales.scale + at));
    return ops->upload(tile->backend, inverse, scale_bytes, tile->scales.inverse + at);
}

static enum sq_status refit_group(struct sq_tile *tile, const struct wide_group *group, double *gained)
{
    int64_t at = group->index * tile->lanes;
    struct sq_tile_scales scales = {tile->scales.scale + at, tile->scales.inverse + at, tile->scales.zero + at};
    SQ_TRY(measure(tile, group));
    SQ_TRY(step_scales(tile, group, gained));
    return tile->backend->ops->solve->residual(tile->backend, &tile->options->grid, group->end - group->first,
                                               sq_tile_columns(tile, tile->weights, group->first), scales,
                                               tile->codes + group->first * tile->lanes,
                                               sq_tile_columns(tile, tile->errors, group->first));
}

enum sq_status sq_tile_refit_wide(struct sq_tile *tile, double *gained_p)
{
    int64_t group_size = tile->options->grid.group_size;
    double gained = 0;
    for (int64_t j = 0, index = 0; j < tile->n; j += group_size, index++) {
        int64_t end = j + group_size < tile->n ? j + group_size : tile->n;
        if (end - j <= SQ_SOLVE_COLUMNS) continue;
        /* between rounds nobody needs the figures `before` and `error` */
        struct wide_group group = {index, j, end, tile->parts[3], tile->before, tile->error};
        SQ_TRY(refit_group(tile, &group, &gained));
    }
    *gained_p = gained;
    return SQ_OK;
}
