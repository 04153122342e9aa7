#include "gptq/solve_tile.h"

/* Columns of one product. A few fixed lengths keep the number of distinct shapes small, and with it what a backend has
 * to prepare for each shape. */
#define PANEL 1024

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

void *sq_scratch_take(char *scratch, size_t *used, int64_t count, size_t size)
{
    void *memory = scratch ? scratch + *used : NULL;
    *used += (size_t)sq_aligned(count * (int64_t)size);
    return memory;
}

size_t sq_tile_layout(const struct sq_sizes *sizes, const struct sq_solve_options *options, int64_t n, char *scratch,
                      struct sq_tile *tile_p)
{
    int64_t groups = sq_grid_n_groups(&options->grid, n), rows = sizes->solve_rows;
    size_t used = 0;
    struct sq_tile t = {.options = options, .n = n, .groups = groups, .lanes = rows, .reach = sizes->solve_columns};
    bool is_refined = options->refine > 0 && options->solver != SQ_SOLVER_RTN;
    t.width = larger(SQ_SOLVE_COLUMNS, smaller(larger(options->grid.group_size, t.reach), n));
    t.weights = sq_scratch_take(scratch, &used, n * rows, sizeof(float));
    t.errors = sq_scratch_take(scratch, &used, n * rows, sizeof(float));
    if (is_refined) t.weight_products = sq_scratch_take(scratch, &used, n * rows, sizeof(float));
    t.codes = sq_scratch_take(scratch, &used, n * rows, 1);
    t.old_codes = sq_scratch_take(scratch, &used, n * rows, 1);
    t.scales.scale = sq_scratch_take(scratch, &used, groups * rows, sizeof(float));
    t.scales.inverse = sq_scratch_take(scratch, &used, groups * rows, sizeof(float));
    t.scales.zero = sq_scratch_take(scratch, &used, groups * rows, sizeof(float));
    t.old_scale = sq_scratch_take(scratch, &used, groups * rows, sizeof(float));
    for (int i = 0; i < 4; i++)
        t.parts[i] = sq_scratch_take(scratch, &used, t.width * rows, sizeof(float));
    t.centred = sq_scratch_take(scratch, &used, SQ_SOLVE_COLUMNS * rows, sizeof(float));
    double **figures[] = {&t.error, &t.error_rtn, &t.norm, &t.before};
    for (int i = 0; i < 4; i++)
        *figures[i] = sq_scratch_take(scratch, &used, rows, sizeof(double));
    t.row_codes = sq_scratch_take(scratch, &used, rows * n, 1);
    t.row_zeros = sq_scratch_take(scratch, &used, rows * groups, 1);
    t.row_scales = sq_scratch_take(scratch, &used, rows * groups, sizeof(float));
    t.row_figures = sq_scratch_take(scratch, &used, 3 * rows, sizeof(double));
    *tile_p = t;
    return used;
}

typedef enum sq_status product_fn(struct sq_backend *backend, struct sq_matrix a, struct sq_matrix b, bool accumulate,
                                  struct sq_matrix c);

/* As sq_tile_product(), by this operation of the backend's. */
static enum sq_status multiply(const struct sq_tile *tile, product_fn *product, struct sq_matrix a, float *x,
                               bool accumulate, float *out)
{
    const struct sq_backend_ops *ops = tile->backend->ops;
    struct sq_matrix y = sq_matrix_view(out, SQ_F32, a.rows, tile->lanes);
    if (a.cols == 0 && !accumulate) return ops->clear(tile->backend, out, (size_t)(a.rows * tile->lanes) * sizeof *out);
    for (int64_t k = 0; k < a.cols; k += PANEL) {
        int64_t columns = a.cols - k < PANEL ? a.cols - k : PANEL;
        struct sq_matrix panel = sq_matrix_part(a, 0, a.rows, k, columns);
        struct sq_matrix part = sq_matrix_view(sq_tile_columns(tile, x, k), SQ_F32, columns, tile->lanes);
        SQ_TRY(product(tile->backend, panel, part, accumulate || k > 0, y));
    }
    return SQ_OK;
}

enum sq_status sq_tile_product(const struct sq_tile *tile, struct sq_matrix a, float *x, bool accumulate, float *out)
{
    return multiply(tile, tile->backend->ops->matmul, a, x, accumulate, out);
}

struct sq_tile_span sq_tile_span_at(const struct sq_tile *tile, int64_t j)
{
    int64_t group_size = tile->options->grid.group_size, first = j / group_size * group_size;
    int64_t end = smaller(first + group_size, tile->n);
    bool is_group = end - first <= SQ_SOLVE_COLUMNS;
    return (struct sq_tile_span){.columns = is_group ? end - j : smaller(end - j, SQ_SOLVE_BLOCK),
                                 .is_group = is_group};
}

int64_t sq_tile_spans_end(const struct sq_tile *tile, int64_t j)
{
    int64_t end = j + sq_tile_span_at(tile, j).columns;
    while (end < tile->n && end + sq_tile_span_at(tile, end).columns <= j + tile->reach)
        end += sq_tile_span_at(tile, end).columns;
    return end;
}

/* A quadratic form x H x' in work, which is reported: no code depends on it but by way of own_products. */
struct form {
    float *x;            /* [n, ROWS] */
    float *own_products; /* or NULL */
    double *sums;
};

/* Columns [j, j + columns), with before = what the columns before them add to x H. */
static enum sq_status add_block(const struct sq_tile *tile, const struct form *form, int64_t j, int64_t columns,
                                const float *before)
{
    const struct sq_solve_ops *solve = tile->backend->ops->solve;
    struct sq_matrix hessian = sq_matrix_part(tile->factor->hessian, j, columns, j, columns);
    float *block = sq_tile_columns(tile, form->x, j);
    float *own = form->own_products ? sq_tile_columns(tile, form->own_products, j) : tile->parts[1];
    product_fn *product = form->own_products ? tile->backend->ops->matmul : tile->backend->ops->matmul_split;
    SQ_TRY(multiply(tile, product, hessian, block, false, own));
    SQ_TRY(solve->dot(tile->backend, columns, block, before, 2, form->sums));
    return solve->dot(tile->backend, columns, block, own, 1, form->sums);
}

/* Columns [first, end): span by span, or one block. */
static enum sq_status add_blocks(const struct sq_tile *tile, const struct form *form, int64_t first, int64_t end)
{
    struct sq_matrix rows = sq_matrix_part(tile->factor->hessian, first, end - first, 0, end);
    float *x = sq_tile_columns(tile, form->x, first);
    SQ_TRY(multiply(tile, tile->backend->ops->matmul_split, sq_matrix_part(rows, 0, end - first, 0, first), form->x,
                    false, tile->parts[0]));
    for (int64_t j = first, columns; j < end; j += columns) {
        columns = form->own_products ? sq_tile_span_at(tile, j).columns : end - j;
        float *before = sq_tile_columns(tile, tile->parts[0], j - first);
        SQ_TRY(sq_tile_product(tile, sq_matrix_part(rows, j - first, columns, first, j - first), x, true, before));
        SQ_TRY(add_block(tile, form, j, columns, before));
    }
    return SQ_OK;
}

enum sq_status sq_tile_form(const struct sq_tile *tile, float *x, float *own_products, double *sums)
{
    const struct form form = {x, own_products, sums};
    SQ_TRY(tile->backend->ops->clear(tile->backend, sums, (size_t)tile->lanes * sizeof *sums));
    for (int64_t j = 0, end; j < tile->n; j = end) {
        end = own_products ? sq_tile_spans_end(tile, j) : smaller(tile->n, j + larger(tile->reach, SQ_SOLVE_BLOCK));
        SQ_TRY(add_blocks(tile, &form, j, end));
    }
    return SQ_OK;
}

enum sq_scale_rule sq_tile_scale_rule(const struct sq_tile *tile)
{
    static const enum sq_scale_rule rules[] = {[SQ_GRID_SEARCH] = SQ_SCALE_SEARCH,
                                               [SQ_GRID_REFERENCE] = SQ_SCALE_REFERENCE,
                                               [SQ_GRID_ABSMAX] = SQ_SCALE_ABSMAX};
    return rules[tile->options->grid_kind];
}

enum sq_status sq_tile_find_scales(struct sq_tile *tile, const float *importance)
{
    return tile->backend->ops->solve->find_scales(tile->backend, &tile->options->grid, sq_tile_scale_rule(tile),
                                                  tile->n, tile->weights, importance, tile->scales);
}

enum sq_status sq_tile_residual(struct sq_tile *tile)
{
    return tile->backend->ops->solve->residual(tile->backend, &tile->options->grid, tile->n, tile->weights,
                                               tile->scales, tile->codes, tile->errors);
}
