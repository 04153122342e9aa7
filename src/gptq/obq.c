/* OBQ, the greedy method that GPTQ approximates: in each row, again and again, the weight whose rounding costs least is
 * rounded and the others make up for it, outliers first (Frantar & Alistarh 2022). d^3 operations a row, in f64 on the
 * host.
 *
 * Greedy is not always good: an input channel far larger than the others makes its weight the dearest one at every
 * step, so it is rounded last, when nothing is left to make up for it. Activation order rounds it first. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "gptq/solve_tile.h"

struct obq {
    int64_t n, lanes;
    double *inverse;       /* [n, n] inverse of the damped Hessian */
    double *remaining;     /* [n, n] the same without the columns already rounded */
    double *row;           /* [n] weights as updated */
    uint8_t *done;         /* [n] */
    float *hessian;        /* [n, n] */
    float *weights;        /* [n, ROWS] */
    float *scales, *zeros; /* [groups, ROWS] */
    uint8_t *codes;        /* [n, ROWS] */
};

/* Lays the arrays out in `memory` (NULL: only counts); returns the bytes. */
static size_t obq_layout(int64_t n, int64_t groups, int64_t rows, char *memory, struct obq *o_p)
{
    size_t used = 0;
    struct obq o = {.n = n, .lanes = rows};
    o.inverse = sq_scratch_take(memory, &used, n * n, sizeof *o.inverse);
    o.remaining = sq_scratch_take(memory, &used, n * n, sizeof *o.remaining);
    o.row = sq_scratch_take(memory, &used, n, sizeof *o.row);
    o.done = sq_scratch_take(memory, &used, n, 1);
    o.hessian = sq_scratch_take(memory, &used, n * n, sizeof *o.hessian);
    o.weights = sq_scratch_take(memory, &used, n * rows, sizeof *o.weights);
    o.scales = sq_scratch_take(memory, &used, groups * rows, sizeof *o.scales);
    o.zeros = sq_scratch_take(memory, &used, groups * rows, sizeof *o.zeros);
    o.codes = sq_scratch_take(memory, &used, n * rows, 1);
    *o_p = o;
    return used;
}

size_t sq_obq_bytes(int64_t n, int64_t groups, int64_t lanes)
{
    struct obq o;
    return obq_layout(n, groups, lanes, NULL, &o);
}

static enum sq_status obq_download(const struct sq_tile *tile, struct obq *o)
{
    enum sq_status (*get)(struct sq_backend *, const void *, size_t, void *) = tile->backend->ops->download;
    struct sq_matrix hessian = tile->factor->hessian;
    size_t row_bytes = (size_t)o->n * sizeof(float), group_bytes = (size_t)(tile->groups * tile->lanes) * sizeof(float);
    for (int64_t i = 0; i < o->n; i++)
        SQ_TRY(get(tile->backend, sq_matrix_part(hessian, i, 1, 0, o->n).data, row_bytes, o->hessian + i * o->n));
    SQ_TRY(get(tile->backend, tile->weights, row_bytes * (size_t)tile->lanes, o->weights));
    SQ_TRY(get(tile->backend, tile->scales.scale, group_bytes, o->scales));
    return get(tile->backend, tile->scales.zero, group_bytes, o->zeros);
}

/* Gauss-Jordan without pivoting, which a positive definite matrix does not need: a becomes its inverse. */
static void invert(int64_t n, double *a)
{
    for (int64_t k = 0; k < n; k++) {
        double pivot = 1 / a[k * n + k];
        for (int64_t i = 0; i < n; i++) {
            if (i == k) continue;
            double factor = a[i * n + k] * pivot;
            for (int64_t j = 0; j < n; j++)
                a[i * n + j] -= j == k ? 0 : factor * a[k * n + j];
            a[i * n + k] = -factor;
        }
        for (int64_t j = 0; j < n; j++)
            a[k * n + j] *= pivot;
        a[k * n + k] = pivot;
    }
}

/* The inverse of the Hessian as it was factored: damped, or its diagonal alone. */
static void make_inverse(const struct sq_factor *factor, struct obq *o)
{
    int64_t n = o->n;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            o->inverse[i * n + j] = i == j                  ? (double)o->hessian[i * n + j] + factor->ridge
                                    : factor->diagonal_only ? 0
                                                            : (double)o->hessian[i * n + j];
    invert(n, o->inverse);
}

static double scale_at(const struct obq *o, const struct sq_grid *grid, int64_t r, int64_t j)
{
    return (double)o->scales[j / grid->group_size * o->lanes + r];
}

/* code - zero of the weight at column j of row r. */
static double round_weight(const struct obq *o, const struct sq_grid *grid, int64_t r, int64_t j)
{
    double zero = (double)o->zeros[j / grid->group_size * o->lanes + r];
    double centred = nearbyint(o->row[j] / scale_at(o, grid, r, j));
    return fmin(fmax(centred, -zero), sq_grid_max_code(grid) - zero);
}

static double rounding_error(const struct obq *o, const struct sq_grid *grid, int64_t r, int64_t j)
{
    return o->row[j] - scale_at(o, grid, r, j) * round_weight(o, grid, r, j);
}

/* The column to round next, the first one among equals. An outlier, a weight beyond its grid by more than half a step,
 * goes as soon as there is one, the worst first: it would cost most and so come last, when few others are left to make
 * up for it. Without outliers the one whose rounding costs least: argmin (w_j - q_j)^2 / inv(H)_jj. */
static int64_t next_column(const struct obq *o, const struct sq_grid *grid, int64_t r)
{
    int64_t cheapest = -1, outlier = -1;
    double lowest = 0, largest = 0;
    for (int64_t j = 0; j < o->n; j++) {
        if (o->done[j]) continue;
        double error = fabs(rounding_error(o, grid, r, j)), cost = error * error / o->remaining[j * o->n + j];
        if (cheapest < 0 || cost < lowest) {
            cheapest = j;
            lowest = cost;
        }
        if (error > largest && error > scale_at(o, grid, r, j) / 2) {
            outlier = j;
            largest = error;
        }
    }
    return outlier >= 0 ? outlier : cheapest;
}

/* Rounds column j of the row: the others move by -error inv(H)_j / inv(H)_jj, and inv(H) loses column j. */
static void eliminate(struct obq *o, const struct sq_grid *grid, int64_t r, int64_t j)
{
    int64_t n = o->n;
    const double *row = o->remaining + j * n;
    double error = rounding_error(o, grid, r, j), pivot = row[j];
    int64_t group = j / grid->group_size * o->lanes + r;
    o->codes[j * o->lanes + r] = (uint8_t)(round_weight(o, grid, r, j) + (double)o->zeros[group]);
    o->done[j] = 1;
    for (int64_t i = 0; i < n; i++) {
        if (o->done[i]) continue;
        double factor = row[i] / pivot;
        o->row[i] -= error * factor;
        for (int64_t k = 0; k < n; k++)
            o->remaining[i * n + k] -= factor * row[k];
    }
}

static void quantize_row(struct obq *o, const struct sq_grid *grid, int64_t r)
{
    memcpy(o->remaining, o->inverse, (size_t)(o->n * o->n) * sizeof *o->inverse);
    memset(o->done, 0, (size_t)o->n);
    for (int64_t j = 0; j < o->n; j++)
        o->row[j] = (double)o->weights[j * o->lanes + r];
    for (int64_t i = 0; i < o->n; i++)
        eliminate(o, grid, r, next_column(o, grid, r));
}

enum sq_status sq_tile_obq(struct sq_tile *tile)
{
    struct obq o;
    void *memory = NULL;
    SQ_TRY(sq_tile_find_scales(tile, tile->factor->diagonal.data));
    SQ_TRY(sq_alloc("the workspace of OBQ", (int64_t)sq_obq_bytes(tile->n, tile->groups, tile->lanes), 1, &memory));
    (void)obq_layout(tile->n, tile->groups, tile->lanes, memory, &o);
    enum sq_status status = obq_download(tile, &o);
    if (status != SQ_OK) goto out_free;
    make_inverse(tile->factor, &o);
    for (int64_t r = 0; r < tile->rows; r++)
        quantize_row(&o, &tile->options->grid, r);
    status = tile->backend->ops->upload(tile->backend, o.codes, (size_t)(o.n * o.lanes), tile->codes);
out_free:
    sq_free(memory);
    return status;
}
