#include "gptq/factor.h"

#include <math.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"

#define FIRST_RAISE 0.01 /* the rung above no damping at all */

/* --- memory ------------------------------------------------------------------------------------------------------ */

size_t sq_factor_bytes(int64_t n_max)
{
    size_t n = (size_t)n_max;
    return n * n * sizeof(float) + 2 * n * sizeof(float) + n * (sizeof(int32_t) + 1);
}

size_t sq_factor_host_bytes(int64_t n_max)
{
    return (size_t)n_max * (sizeof(int32_t) + 1);
}

enum sq_status sq_factor_create(struct sq_backend *backend, int64_t n_max, struct sq_factor *factor_p)
{
    const struct sq_backend_ops *ops = backend->ops;
    struct sq_factor factor = {.n = n_max};
    size_t n = (size_t)n_max;
    void *order = NULL, *dead = NULL;
    enum sq_status status = ops->alloc(backend, "a Hessian", n * n * sizeof(float), &factor.hessian.data);
    if (status == SQ_OK) status = ops->alloc(backend, "a factor", n * n * sizeof(float), &factor.unit.data);
    if (status == SQ_OK) status = ops->alloc(backend, "pivots", 2 * n * sizeof(float), &factor.diagonal.data);
    if (status == SQ_OK) status = ops->alloc(backend, "the order", n * sizeof(int32_t), &factor.backend_order);
    if (status == SQ_OK) status = ops->alloc(backend, "dead inputs", n, &factor.backend_dead);
    if (status == SQ_OK) status = sq_alloc("the order", n_max, sizeof(int32_t), &order);
    if (status == SQ_OK) status = sq_alloc("dead inputs", n_max, 1, &dead);
    factor.order = order;
    factor.dead = dead;
    if (status != SQ_OK) {
        sq_factor_destroy(backend, &factor);
        return status;
    }
    factor.hessian = sq_matrix_view(factor.hessian.data, SQ_F32, n_max, n_max);
    *factor_p = factor;
    return SQ_OK;
}

void sq_factor_destroy(struct sq_backend *backend, struct sq_factor *factor)
{
    void *memories[] = {factor->hessian.data, factor->unit.data, factor->diagonal.data, factor->backend_order,
                        factor->backend_dead};
    for (size_t i = 0; i < sizeof memories / sizeof *memories; i++)
        if (memories[i]) backend->ops->free(backend, memories[i]);
    sq_free(factor->order);
    sq_free(factor->dead);
    *factor = (struct sq_factor){0};
}

/* --- dead inputs and order --------------------------------------------------------------------------------------- */

/* Marks dead inputs, and takes the mean over the others; 1 when all are dead. */
static enum sq_status find_dead(struct sq_factor *factor, float *diagonal, double *mean_p)
{
    double sum = 0;
    factor->n_dead = 0;
    for (int64_t j = 0; j < factor->n; j++) {
        if (!isfinite(diagonal[j]) || diagonal[j] < 0) {
            sq_error("the Hessian's diagonal entry %lld is %g: it must be finite and not negative", (long long)j,
                     (double)diagonal[j]);
            return SQ_ERR_NUMERIC;
        }
        factor->dead[j] = diagonal[j] == 0;
        factor->n_dead += factor->dead[j];
        sum += (double)diagonal[j];
        if (factor->dead[j]) diagonal[j] = 1;
    }
    int64_t n_live = factor->n - factor->n_dead;
    *mean_p = n_live > 0 ? sum / (double)n_live : 1;
    return SQ_OK;
}

struct ranked {
    float value;
    int32_t column;
};

/* Largest first; equal ones in plain order. */
static int compare_ranked(const void *left, const void *right)
{
    const struct ranked *a = left, *b = right;
    if (a->value != b->value) return a->value > b->value ? -1 : 1;
    return (a->column > b->column) - (a->column < b->column);
}

static enum sq_status find_order(enum sq_order order, const float *diagonal, struct sq_factor *factor)
{
    for (int64_t j = 0; j < factor->n; j++)
        factor->order[j] = (int32_t)j;
    if (order == SQ_ORDER_NATURAL) return SQ_OK;
    void *memory = NULL;
    SQ_TRY(sq_alloc("columns to sort", factor->n, sizeof(struct ranked), &memory));
    struct ranked *ranked = memory;
    for (int64_t j = 0; j < factor->n; j++)
        ranked[j] = (struct ranked){diagonal[j], (int32_t)j};
    qsort(ranked, (size_t)factor->n, sizeof *ranked, compare_ranked);
    for (int64_t j = 0; j < factor->n; j++)
        factor->order[j] = ranked[j].column;
    sq_free(ranked);
    return SQ_OK;
}

/* --- tile Cholesky ----------------------------------------------------------------------------------------------- */

struct cholesky {
    struct sq_backend *backend;
    const struct sq_factor *factor;
    int64_t edge;        /* of a tile */
    const float *pivots; /* L's diagonal, in the backend's memory */
    int64_t step;        /* the tile column in work */
};

static int64_t n_tiles(const struct cholesky *c)
{
    return (c->factor->n + c->edge - 1) / c->edge;
}

static int64_t tile_end(const struct cholesky *c, int64_t tile)
{
    return (tile + 1) * c->edge < c->factor->n ? (tile + 1) * c->edge : c->factor->n;
}

static struct sq_matrix tile_of(const struct cholesky *c, int64_t i, int64_t j)
{
    int64_t row = i * c->edge, col = j * c->edge;
    return sq_matrix_part(c->factor->unit, row, tile_end(c, i) - row, col, tile_end(c, j) - col);
}

static enum sq_status arrange_item(void *context, int64_t index, int worker)
{
    (void)worker;
    const struct cholesky *c = context;
    const struct sq_factor *factor = c->factor;
    int64_t row = index * c->edge;
    return c->backend->ops->solve->arrange(c->backend, factor->hessian, factor->backend_order, (float)factor->ridge,
                                           !factor->diagonal_only, row, tile_end(c, index) - row, factor->unit);
}

static enum sq_status panel_item(void *context, int64_t index, int worker)
{
    (void)worker;
    const struct cholesky *c = context;
    return c->backend->ops->trsm(c->backend, tile_of(c, c->step, c->step), tile_of(c, c->step + 1 + index, c->step));
}

/* index counts the tiles (i, j), step < j <= i, row by row. */
static enum sq_status update_item(void *context, int64_t index, int worker)
{
    (void)worker;
    const struct cholesky *c = context;
    int64_t i = 0;
    for (; index > i; i++)
        index -= i + 1;
    int64_t row = c->step + 1 + i, col = c->step + 1 + index;
    return c->backend->ops->update(c->backend, tile_of(c, row, c->step), tile_of(c, col, c->step),
                                   tile_of(c, row, col));
}

/* factor->unit: the arranged matrix becomes its Cholesky factor. SQ_ERR_NUMERIC when it is not positive definite. */
static enum sq_status factorize(struct cholesky *c)
{
    const struct sq_backend_ops *ops = c->backend->ops;
    int64_t tiles = n_tiles(c);
    SQ_TRY(ops->parallel(c->backend, tiles, arrange_item, c));
    for (c->step = 0; c->step < tiles; c->step++) {
        int64_t below = tiles - 1 - c->step;
        SQ_TRY(ops->potrf(c->backend, tile_of(c, c->step, c->step)));
        SQ_TRY(ops->parallel(c->backend, below, panel_item, c));
        SQ_TRY(ops->parallel(c->backend, below * (below + 1) / 2, update_item, c));
    }
    return SQ_OK;
}

/* The ladder: damping x 10 up to 1, then diagonal only, until the factorization succeeds. */
static enum sq_status climb(struct cholesky *c, double damping, double mean, struct sq_factor *factor)
{
    factor->damping = damping;
    factor->n_rungs = 0;
    factor->diagonal_only = false;
    for (;;) {
        factor->ridge = factor->damping * mean;
        enum sq_status status = factorize(c);
        if (status != SQ_ERR_NUMERIC || factor->diagonal_only) return status;
        factor->n_rungs++;
        factor->diagonal_only = factor->damping >= 1;
        if (!factor->diagonal_only) factor->damping = factor->damping > 0 ? fmin(factor->damping * 10, 1) : FIRST_RAISE;
    }
}

/* --- unit form --------------------------------------------------------------------------------------------------- */

static enum sq_status unit_item(void *context, int64_t index, int worker)
{
    (void)worker;
    const struct cholesky *c = context;
    int64_t row = index * c->edge;
    return c->backend->ops->solve->unit_form(c->backend, c->pivots, row, tile_end(c, index) - row, c->factor->unit);
}

/* pivots: host memory for n numbers. */
static enum sq_status make_unit(struct cholesky *c, float *pivots, struct sq_factor *factor)
{
    const struct sq_backend_ops *ops = c->backend->ops;
    int64_t n = factor->n;
    size_t bytes = (size_t)n * sizeof *pivots;
    SQ_TRY(ops->solve->diagonal(c->backend, factor->unit, pivots));
    float *backend_pivots = (float *)factor->diagonal.data + n;
    SQ_TRY(ops->upload(c->backend, pivots, bytes, backend_pivots));
    c->pivots = backend_pivots;
    SQ_TRY(ops->parallel(c->backend, n_tiles(c), unit_item, c));
    float *variances = pivots + n;
    for (int64_t p = 0; p < n; p++)
        variances[factor->order[p]] = pivots[n - 1 - p] * pivots[n - 1 - p];
    return ops->upload(c->backend, variances, bytes, factor->diagonal.data);
}

enum sq_status sq_factor_make(struct sq_backend *backend, int64_t n, enum sq_order order, double damping,
                              struct sq_factor *factor)
{
    const struct sq_backend_ops *ops = backend->ops;
    struct cholesky cholesky = {.backend = backend, .factor = factor, .edge = backend->sizes.factor_tile};
    void *memory = NULL;
    double mean = 0;
    factor->n = n;
    factor->hessian = sq_matrix_part(factor->hessian, 0, n, 0, n);
    factor->unit = sq_matrix_view(factor->unit.data, SQ_F32, n, n);
    factor->diagonal = sq_matrix_view(factor->diagonal.data, SQ_F32, 1, n);
    SQ_TRY(sq_alloc("a diagonal", 2 * n, sizeof(float), &memory));
    float *diagonal = memory;
    enum sq_status status = ops->solve->diagonal(backend, factor->hessian, diagonal);
    if (status == SQ_OK) status = find_dead(factor, diagonal, &mean);
    if (status == SQ_OK) status = find_order(order, diagonal, factor);
    if (status == SQ_OK)
        status = ops->upload(backend, factor->order, (size_t)n * sizeof *factor->order, factor->backend_order);
    if (status == SQ_OK) status = ops->upload(backend, factor->dead, (size_t)n, factor->backend_dead);
    if (status == SQ_OK && factor->n_dead > 0)
        status = ops->solve->set_dead(backend, factor->backend_dead, factor->hessian);
    if (status == SQ_OK) status = climb(&cholesky, damping, mean, factor);
    if (status == SQ_OK) status = make_unit(&cholesky, diagonal, factor);
    sq_free(diagonal);
    return status;
}
