/* A layer made of seeded noise, its Hessian from inputs that resemble a model's (correlated, some channels far larger
 * than others), and a run of all its tiles through the program. For cmocka tests of factor, solve and refinement. */
#ifndef SQ_TESTS_SOLVE_FIXTURE_H
#define SQ_TESTS_SOLVE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends.h"
#include "base/memory.h"
#include "gptq/factor.h"
#include "oracle.h"

/* Columns that one product of fixture_solve() serves; 0: the backend's own. */
static int64_t fixture_solve_columns;

struct layer {
    int64_t rows, n;
    float *weights; /* [rows, n] */
    float *hessian; /* [n, n] */
};

#define FIXTURE_ARRAYS 7 /* of struct sq_solve_result, in its order */

/* What a run gives; arrays of malloc. */
struct solved {
    int64_t groups;
    void *arrays[FIXTURE_ARRAYS];
    struct sq_solve_result result; /* those */
    double damping, ridge;
    int n_rungs;
    bool diagonal_only;
    int64_t n_dead;
    int32_t *order; /* [n] */
    uint8_t *dead;  /* [n] */
};

static inline double fixture_uniform(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(*state >> 11) * 0x1p-53;
}

/* Roughly normal: the sum of uniform numbers. */
static inline double fixture_normal(uint64_t *state)
{
    double sum = 0;
    for (int i = 0; i < 12; i++)
        sum += fixture_uniform(state);
    return sum - 6;
}

/* H = 2/T X'X of `samples` inputs; every 31st channel is 8 times as large, channel `dead` (or -1) is always zero. */
static inline void fixture_hessian(int64_t n, int64_t samples, int64_t dead, uint64_t *state, float *hessian)
{
    double *x = malloc((size_t)(samples * n) * sizeof *x);
    for (int64_t t = 0; t < samples; t++) {
        double common = fixture_normal(state), previous = 0;
        for (int64_t j = 0; j < n; j++) {
            previous = 0.7 * previous + fixture_normal(state);
            x[t * n + j] = j == dead ? 0 : (previous + 0.5 * common) * (j % 31 == 5 ? 8 : 1);
        }
    }
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j <= i; j++) {
            double sum = 0;
            for (int64_t t = 0; t < samples; t++)
                sum += x[t * n + i] * x[t * n + j];
            hessian[i * n + j] = hessian[j * n + i] = (float)(2 * sum / (double)samples);
        }
    }
    free(x);
}

static inline struct layer fixture_layer(int64_t rows, int64_t n, int64_t samples, int64_t dead, uint64_t seed)
{
    struct layer layer = {rows, n, malloc((size_t)(rows * n) * sizeof(float)), malloc((size_t)(n * n) * sizeof(float))};
    uint64_t state = seed;
    fixture_hessian(n, samples, dead, &state, layer.hessian);
    for (int64_t i = 0; i < rows * n; i++)
        layer.weights[i] = (float)(0.05 * fixture_normal(&state) * (i % 97 == 3 ? 4 : 1));
    return layer;
}

static inline void layer_free(struct layer *layer)
{
    free(layer->weights);
    free(layer->hessian);
}

static inline void solved_free(struct solved *solved)
{
    for (int i = 0; i < FIXTURE_ARRAYS; i++)
        free(solved->arrays[i]);
    free(solved->order);
    free(solved->dead);
}

/* result: what tiles write to, memory of alloc_host. */
struct fixture_run {
    struct sq_backend *backend;
    const struct sq_factor *factor;
    const struct sq_solve_options *options;
    const struct layer *layer;
    int64_t groups;
    struct sq_solve_result result;
};

static inline enum sq_status fixture_tile(void *context, int64_t index, int worker)
{
    (void)worker;
    const struct fixture_run *run = context;
    int64_t most = run->backend->sizes.solve_rows;
    int64_t row = index * most, n = run->layer->n, groups = run->groups;
    int64_t rows = run->layer->rows - row < most ? run->layer->rows - row : most;
    size_t scratch_bytes = (sq_solve_scratch_bytes(&run->backend->sizes, run->options, n) + 63) / 64 * 64;
    void *nan = malloc(scratch_bytes);
    memset(nan, 0xff, scratch_bytes); /* all NaN: nothing may be read before it is written */
    void *scratch = backend_give(run->backend, nan, scratch_bytes);
    void *weight_rows = backend_give(run->backend, run->layer->weights + row * n, (size_t)(rows * n) * sizeof(float));
    free(nan);
    const struct sq_solve_result *all = &run->result;
    struct sq_solve_result result = {all->codes + row * n, all->scales + row * groups, all->zeros + row * groups,
                                     all->error + row,     all->error_rtn + row,       all->norm + row,
                                     all->n_rounds + index};
    struct sq_matrix weights = sq_matrix_view(weight_rows, SQ_F32, rows, n);
    enum sq_status status = sq_solve_tile(run->backend, run->factor, run->options, weights, scratch, &result);
    backend_free(run->backend, weight_rows);
    backend_free(run->backend, scratch);
    return status;
}

static inline void fixture_result_bytes(const struct layer *layer, int64_t groups, size_t bytes[FIXTURE_ARRAYS])
{
    size_t rows = (size_t)layer->rows, cells = rows * (size_t)groups, figures = rows * sizeof(double);
    const size_t all[] = {rows * (size_t)layer->n, cells * sizeof(float), cells, figures, figures, figures,
                          rows * sizeof(int64_t)}; /* one of each tile */
    memcpy(bytes, all, sizeof all);
}

static inline struct sq_solve_result fixture_result(void *const arrays[FIXTURE_ARRAYS])
{
    return (struct sq_solve_result){arrays[0], arrays[1], arrays[2], arrays[3], arrays[4], arrays[5], arrays[6]};
}

static inline void fixture_allocate(const struct layer *layer, int64_t groups, struct solved *solved)
{
    size_t bytes[FIXTURE_ARRAYS], n = (size_t)layer->n;
    *solved = (struct solved){.groups = groups, .order = malloc(n * sizeof(int32_t)), .dead = malloc(n)};
    fixture_result_bytes(layer, groups, bytes);
    for (int i = 0; i < FIXTURE_ARRAYS; i++)
        solved->arrays[i] = malloc(bytes[i]);
    solved->result = fixture_result(solved->arrays);
}

static inline void fixture_set_hessian(struct sq_backend *backend, const struct layer *layer, struct sq_factor *factor)
{
    assert_int_equal(backend->ops->upload(backend, layer->hessian, (size_t)(layer->n * layer->n) * sizeof(float),
                                          factor->hessian.data),
                     SQ_OK);
}

/* All tiles, by way of memory that results go out to beside the work. */
static inline enum sq_status fixture_tiles(struct fixture_run *run, struct solved *solved)
{
    const struct sq_backend_ops *ops = run->backend->ops;
    int64_t most = run->backend->sizes.solve_rows;
    size_t bytes[FIXTURE_ARRAYS];
    void *arrays[FIXTURE_ARRAYS];
    fixture_result_bytes(run->layer, run->groups, bytes);
    for (int i = 0; i < FIXTURE_ARRAYS; i++)
        assert_int_equal(ops->alloc_host(run->backend, "results", bytes[i], &arrays[i]), SQ_OK);
    run->result = fixture_result(arrays);
    enum sq_status status = ops->parallel(run->backend, (run->layer->rows + most - 1) / most, fixture_tile, run);
    for (int i = 0; i < FIXTURE_ARRAYS; i++) {
        if (status == SQ_OK) memcpy(solved->arrays[i], arrays[i], bytes[i]);
        ops->free_host(run->backend, arrays[i]);
    }
    return status;
}

/* Factor and all tiles, on n_threads workers. */
static inline enum sq_status fixture_solve(const struct layer *layer, const struct sq_solve_options *options,
                                           double damping, int n_threads, struct solved *solved)
{
    struct sq_backend *backend;
    struct sq_factor factor;
    fixture_allocate(layer, sq_grid_n_groups(&options->grid, layer->n), solved);
    assert_int_equal(backend_create(n_threads, &backend), SQ_OK);
    if (fixture_solve_columns > 0) backend->sizes.solve_columns = fixture_solve_columns;
    assert_int_equal(sq_factor_create(backend, layer->n, SQ_FACTOR_ALONE, &factor), SQ_OK);
    fixture_set_hessian(backend, layer, &factor);
    struct fixture_run run = {backend, &factor, options, layer, solved->groups, {0}};
    enum sq_status status =
        sq_factor_make(backend, &(struct sq_comm){.size = 1}, layer->n, options->order, damping, &factor);
    if (status == SQ_OK) status = fixture_tiles(&run, solved);
    solved->damping = factor.damping;
    solved->ridge = factor.ridge;
    solved->n_rungs = factor.n_rungs;
    solved->diagonal_only = factor.diagonal_only;
    solved->n_dead = factor.n_dead;
    memcpy(solved->order, factor.order, (size_t)layer->n * sizeof *factor.order);
    memcpy(solved->dead, factor.dead, (size_t)layer->n);
    sq_factor_destroy(backend, &factor);
    backend->ops->destroy(backend);
    return status;
}

/* The Hessian in double, dead inputs as the factor leaves them. */
static inline double *fixture_exact_hessian(const struct layer *layer)
{
    int64_t n = layer->n;
    double *h = malloc((size_t)(n * n) * sizeof *h);
    for (int64_t i = 0; i < n * n; i++)
        h[i] = (double)layer->hessian[i];
    for (int64_t j = 0; j < n; j++)
        if (h[j * n + j] == 0) h[j * n + j] = 1;
    return h;
}

/* (w - q) H (w - q)' of one row from the codes as written, without dead inputs. */
static inline double fixture_row_error(const struct layer *layer, const struct sq_grid *grid, const double *h,
                                       const struct solved *solved, int64_t row)
{
    int64_t n = layer->n, groups = solved->groups;
    float *q = malloc((size_t)n * sizeof *q);
    double *e = malloc((size_t)n * sizeof *e);
    const struct sq_solve_result *result = &solved->result;
    sq_grid_dequantize(grid, 1, n, result->codes + row * n, result->scales + row * groups, result->zeros + row * groups,
                       q);
    for (int64_t j = 0; j < n; j++)
        e[j] = solved->dead[j] ? 0 : (double)layer->weights[row * n + j] - (double)q[j];
    double form = oracle_form(n, h, e);
    free(q);
    free(e);
    return form;
}

#endif
