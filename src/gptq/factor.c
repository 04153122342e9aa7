#include "gptq/factor.h"

#include <math.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "gptq/cholesky.h"

#define FIRST_RAISE 0.01 /* the rung above no damping at all */

/* --- memory ------------------------------------------------------------------------------------------------------ */

size_t sq_factor_bytes(const struct sq_sizes *sizes, int64_t n_max, int64_t spread_from)
{
    size_t n = (size_t)n_max;
    size_t bytes = n * n * sizeof(float) + 2 * n * sizeof(float) + n * (sizeof(int32_t) + 1);
    return n_max < spread_from ? bytes : bytes + sq_cholesky_panel_bytes(sizes, n_max);
}

size_t sq_factor_host_bytes(int64_t n_max)
{
    return (size_t)n_max * (sizeof(int32_t) + 1);
}

enum sq_status sq_factor_create(struct sq_backend *backend, int64_t n_max, int64_t spread_from,
                                struct sq_factor *factor_p)
{
    const struct sq_backend_ops *ops = backend->ops;
    struct sq_factor factor = {.n = n_max, .spread_from = spread_from};
    size_t n = (size_t)n_max;
    void *order = NULL, *dead = NULL;
    enum sq_status status = ops->alloc(backend, "a Hessian", n * n * sizeof(float), &factor.hessian.data);
    if (status == SQ_OK) status = ops->alloc(backend, "a factor", n * n * sizeof(float), &factor.unit.data);
    if (status == SQ_OK) status = ops->alloc(backend, "pivots", 2 * n * sizeof(float), &factor.diagonal.data);
    if (status == SQ_OK) status = ops->alloc(backend, "the order", n * sizeof(int32_t), &factor.backend_order);
    if (status == SQ_OK) status = ops->alloc(backend, "dead inputs", n, &factor.backend_dead);
    if (status == SQ_OK && n_max >= spread_from)
        status =
            ops->alloc(backend, "columns of a factor", sq_cholesky_panel_bytes(&backend->sizes, n_max), &factor.panel);
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
    void *memories[] = {factor->hessian.data,  factor->unit.data,    factor->diagonal.data,
                        factor->backend_order, factor->backend_dead, factor->panel};
    for (size_t i = 0; i < sizeof memories / sizeof *memories; i++)
        if (memories[i]) backend->ops->free(backend, memories[i]);
    sq_free(factor->order);
    sq_free(factor->dead);
    *factor = (struct sq_factor){0};
}

/* --- dead inputs and order --------------------------------------------------------------------------------------- */

/* Marks dead inputs, and takes the mean and the smallest of the others; 1 when all are dead. */
static enum sq_status find_dead(struct sq_factor *factor, float *diagonal, double *mean_p)
{
    double sum = 0, smallest = INFINITY;
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
        if (factor->dead[j])
            diagonal[j] = 1;
        else
            smallest = fmin(smallest, (double)diagonal[j]);
    }
    int64_t n_live = factor->n - factor->n_dead;
    factor->min_diagonal = n_live > 0 ? smallest : 1;
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

/* --- the damping ladder ------------------------------------------------------------------------------------------ */

struct factoring {
    struct sq_backend *backend;
    const struct sq_comm *comm; /* ranks that share the factorization */
    struct sq_factor *factor;
    const float *pivots; /* L's diagonal, in the backend's memory */
};

/* Rows are taken in strips. */
static int64_t n_strips(const struct factoring *f)
{
    int64_t edge = f->backend->sizes.factor_tile;
    return (f->factor->n + edge - 1) / edge;
}

static int64_t strip_rows(const struct factoring *f, int64_t row)
{
    int64_t edge = f->backend->sizes.factor_tile;
    return f->factor->n - row < edge ? f->factor->n - row : edge;
}

static enum sq_status arrange_item(void *context, int64_t index, int worker)
{
    (void)worker;
    const struct factoring *f = context;
    const struct sq_factor *factor = f->factor;
    int64_t row = index * f->backend->sizes.factor_tile;
    return f->backend->ops->solve->arrange(f->backend, factor->hessian, factor->backend_order, (float)factor->ridge,
                                           !factor->diagonal_only, row, strip_rows(f, row), factor->unit);
}

/* factor->unit: the arranged matrix becomes its Cholesky factor. */
static enum sq_status factorize(struct factoring *f)
{
    SQ_TRY(sq_comm_agree(f->comm, f->backend->ops->parallel(f->backend, n_strips(f), arrange_item, f)));
    return sq_cholesky_make(f->backend, f->comm, f->factor->panel, f->factor->unit);
}

/* Damping x 10 up to 1, then diagonal only, until the factorization succeeds. */
static enum sq_status climb(struct factoring *f, double damping, double mean)
{
    struct sq_factor *factor = f->factor;
    factor->damping = damping;
    factor->n_rungs = 0;
    factor->diagonal_only = false;
    for (;;) {
        factor->ridge = factor->damping * mean;
        enum sq_status status = factorize(f);
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
    const struct factoring *f = context;
    int64_t row = index * f->backend->sizes.factor_tile;
    return f->backend->ops->solve->unit_form(f->backend, f->pivots, row, strip_rows(f, row), f->factor->unit);
}

/* pivots: host memory for n numbers, and n more. */
static enum sq_status make_unit(struct factoring *f, float *pivots)
{
    const struct sq_backend_ops *ops = f->backend->ops;
    struct sq_factor *factor = f->factor;
    int64_t n = factor->n;
    size_t bytes = (size_t)n * sizeof *pivots;
    SQ_TRY(ops->solve->diagonal(f->backend, factor->unit, pivots));
    float *backend_pivots = (float *)factor->diagonal.data + n;
    SQ_TRY(ops->upload(f->backend, pivots, bytes, backend_pivots));
    f->pivots = backend_pivots;
    SQ_TRY(ops->parallel(f->backend, n_strips(f), unit_item, f));
    float *variances = pivots + n;
    for (int64_t p = 0; p < n; p++)
        variances[factor->order[p]] = pivots[n - 1 - p] * pivots[n - 1 - p];
    return ops->upload(f->backend, variances, bytes, factor->diagonal.data);
}

/* Dead inputs and order, from the Hessian's diagonal. */
static enum sq_status look_at_diagonal(struct sq_backend *backend, enum sq_order order, float *diagonal,
                                       struct sq_factor *factor, double *mean_p)
{
    const struct sq_backend_ops *ops = backend->ops;
    size_t n = (size_t)factor->n;
    SQ_TRY(ops->solve->diagonal(backend, factor->hessian, diagonal));
    SQ_TRY(find_dead(factor, diagonal, mean_p));
    SQ_TRY(find_order(order, diagonal, factor));
    SQ_TRY(ops->upload(backend, factor->order, n * sizeof *factor->order, factor->backend_order));
    SQ_TRY(ops->upload(backend, factor->dead, n, factor->backend_dead));
    return factor->n_dead > 0 ? ops->solve->set_dead(backend, factor->backend_dead, factor->hessian) : SQ_OK;
}

enum sq_status sq_factor_make(struct sq_backend *backend, const struct sq_comm *comm, int64_t n, enum sq_order order,
                              double damping, struct sq_factor *factor)
{
    const struct sq_comm alone = {.size = 1};
    struct factoring factoring = {
        .backend = backend, .comm = n >= factor->spread_from ? comm : &alone, .factor = factor};
    void *memory = NULL;
    double mean = 0;
    factor->n = n;
    factor->hessian = sq_matrix_part(factor->hessian, 0, n, 0, n);
    factor->unit = sq_matrix_view(factor->unit.data, SQ_F32, n, n);
    factor->diagonal = sq_matrix_view(factor->diagonal.data, SQ_F32, 1, n);
    enum sq_status status = sq_alloc("a diagonal", 2 * n, sizeof(float), &memory);
    float *diagonal = memory;
    if (status == SQ_OK) status = look_at_diagonal(backend, order, diagonal, factor, &mean);
    status = sq_comm_agree(factoring.comm, status);
    if (status == SQ_OK) status = climb(&factoring, damping, mean);
    if (status == SQ_OK) status = make_unit(&factoring, diagonal);
    sq_free(diagonal);
    return status;
}
