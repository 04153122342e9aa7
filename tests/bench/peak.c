/* sq_peak [THREADS [BACKEND [EDGE]]]: the rates of the backend's dense products with all workers busy at once, one JSON
 * object a line.
 *
 * Each worker multiplies matrices of its own for a fixed time, as the program's parallel items do; a rate is the
 * operations of all workers over the wall time of all, the best of a few rounds. Shapes: square ones, where the library
 * is at its best, and those of the program: 512 tokens through layers, 32 rows of the solver; with EDGE square ones of
 * this edge alone. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "tensor/backend.h"
#ifdef SQ_HAS_CUDA
#include "cuda/cuda_backend.h"
#endif

#define ROUNDS 3
#define ROUND_SECONDS 0.4

enum operation { LINEAR, MATMUL };

struct shape {
    enum operation operation;
    enum sq_dtype dtype;
    int64_t m, n, k; /* of c[m, n] = sum over k */
};

static const char *const operation_names[] = {[LINEAR] = "linear", [MATMUL] = "matmul"};

static const struct shape shapes[] = {
    {LINEAR, SQ_BF16, 1024, 1024, 1024}, {LINEAR, SQ_BF16, 2048, 2048, 2048}, {LINEAR, SQ_BF16, 512, 576, 576},
    {LINEAR, SQ_BF16, 512, 1536, 576},   {LINEAR, SQ_BF16, 512, 576, 1536},   {LINEAR, SQ_F32, 1024, 1024, 1024},
    {LINEAR, SQ_F32, 2048, 2048, 2048},  {LINEAR, SQ_F32, 512, 1536, 576},    {MATMUL, SQ_F32, 1024, 1024, 1024},
    {MATMUL, SQ_F32, 32, 576, 576},      {MATMUL, SQ_F32, 32, 1536, 1536},    {MATMUL, SQ_F32, 32, 128, 1536},
    {MATMUL, SQ_F32, 32, 4096, 4096},
};

/* With an edge given: n, m and k are its. */
static const struct shape squares[] = {
    {LINEAR, SQ_BF16, 0, 0, 0}, {LINEAR, SQ_F32, 0, 0, 0}, {MATMUL, SQ_F32, 0, 0, 0}};

struct measurement {
    struct sq_backend *backend;
    const struct shape *shape;
    struct sq_matrix *matrices; /* [workers, 3]: both factors and the product */
    int64_t *counts;            /* [workers]: products made in this round */
    double until;
};

/* One product, and one number of it: a device would else be given products for longer than the round lasts. */
static enum sq_status multiply(struct sq_backend *backend, enum operation operation, const struct sq_matrix *m)
{
    uint16_t number;
    SQ_TRY(operation == LINEAR ? backend->ops->linear(backend, m[0], m[1], NULL, m[2])
                               : backend->ops->matmul(backend, m[0], m[1], false, m[2]));
    return backend->ops->download(backend, m[2].data, sizeof number, &number);
}

static enum sq_status multiply_for_a_while(void *context, int64_t index, int worker)
{
    const struct measurement *measurement = context;
    (void)worker; /* an item lasts the whole round: each worker takes one */
    do {
        SQ_TRY(multiply(measurement->backend, measurement->shape->operation, measurement->matrices + 3 * index));
        measurement->counts[index]++;
    } while (sq_seconds() < measurement->until);
    return SQ_OK;
}

/* One round; operations per second of all workers together. */
static enum sq_status run_round(struct measurement *measurement, double seconds, double *rate_p)
{
    const struct shape *shape = measurement->shape;
    int n_workers = measurement->backend->n_workers;
    double started = sq_seconds(), count = 0;
    memset(measurement->counts, 0, (size_t)n_workers * sizeof *measurement->counts);
    measurement->until = started + seconds;
    SQ_TRY(measurement->backend->ops->parallel(measurement->backend, n_workers, multiply_for_a_while, measurement));
    for (int w = 0; w < n_workers; w++)
        count += (double)measurement->counts[w];
    *rate_p = 2.0 * (double)shape->m * (double)shape->n * (double)shape->k * count / (sq_seconds() - started);
    return SQ_OK;
}

static enum sq_status measure_shape(struct measurement *measurement)
{
    const struct shape *shape = measurement->shape;
    double rate, best = 0;
    SQ_TRY(run_round(measurement, 0, &rate)); /* makes the library's kernels */
    for (int round = 0; round < ROUNDS; round++) {
        SQ_TRY(run_round(measurement, ROUND_SECONDS, &rate));
        if (rate > best) best = rate;
    }
    printf("{\"device\":\"%s, %s\",\"operation\":\"%s\",\"dtype\":\"%s\",\"m\":%lld,\"n\":%lld,\"k\":%lld,"
           "\"threads\":%d,\"gflops\":%.4g}\n",
           measurement->backend->ops->name, measurement->backend->isa, operation_names[shape->operation],
           sq_dtype_name(shape->dtype), (long long)shape->m, (long long)shape->n, (long long)shape->k,
           measurement->backend->n_workers, 1e-9 * best);
    return SQ_OK;
}

/* --- matrices --------------------------------------------------------------------------------------------------------
 */

/* Small values that differ: all zeros would take less power, and so run at a higher clock, than real data. */
static enum sq_status make_matrix(struct sq_backend *backend, enum sq_dtype dtype, int64_t rows, int64_t cols,
                                  struct sq_matrix *matrix_p)
{
    void *data = NULL, *memory = NULL;
    size_t bytes = (size_t)(rows * cols) * sq_dtype_size(dtype);
    SQ_TRY(backend->ops->alloc(backend, "a matrix", bytes, &memory));
    *matrix_p = sq_matrix_view(memory, dtype, rows, cols);
    SQ_TRY(sq_alloc("values of a matrix", rows * cols, sq_dtype_size(dtype), &data));
    for (int64_t i = 0; i < rows * cols; i++) {
        float value = (float)(((uint32_t)i * 2654435761u) >> 8) / 8388608.0f - 1;
        sq_dtype_from_f32(&value, 1, dtype, (char *)data + (size_t)i * sq_dtype_size(dtype));
    }
    enum sq_status status = backend->ops->upload(backend, data, bytes, memory);
    sq_free(data);
    return status;
}

static enum sq_status make_matrices(struct sq_backend *backend, const struct shape *shape, struct sq_matrix *m)
{
    int64_t b_rows = shape->operation == LINEAR ? shape->n : shape->k, b_cols = shape->n + shape->k - b_rows;
    enum sq_dtype out = shape->operation == LINEAR ? shape->dtype : SQ_F32;
    SQ_TRY(make_matrix(backend, shape->dtype, shape->m, shape->k, &m[0]));
    SQ_TRY(make_matrix(backend, shape->dtype, b_rows, b_cols, &m[1]));
    return make_matrix(backend, out, shape->m, shape->n, &m[2]);
}

static enum sq_status run_shape(struct measurement *measurement)
{
    int n_matrices = 3 * measurement->backend->n_workers;
    enum sq_status status = SQ_OK;
    memset(measurement->matrices, 0, (size_t)n_matrices * sizeof *measurement->matrices);
    for (int w = 0; w < measurement->backend->n_workers && status == SQ_OK; w++)
        status = make_matrices(measurement->backend, measurement->shape, measurement->matrices + 3 * w);
    if (status == SQ_OK) status = measure_shape(measurement);
    for (int i = 0; i < n_matrices; i++)
        measurement->backend->ops->free(measurement->backend, measurement->matrices[i].data);
    return status;
}

static enum sq_status run(struct sq_backend *backend, const struct shape *list, int n_shapes, int64_t edge)
{
    void *matrices = NULL, *counts = NULL;
    enum sq_status status = sq_alloc("matrices", 3 * backend->n_workers, sizeof(struct sq_matrix), &matrices);
    if (status == SQ_OK) status = sq_alloc("counts", backend->n_workers, sizeof(int64_t), &counts);
    for (int i = 0; i < n_shapes && status == SQ_OK; i++) {
        struct shape shape = list[i];
        struct measurement measurement = {.backend = backend, .shape = &shape, .matrices = matrices, .counts = counts};
        if (shape.dtype == SQ_BF16 && !backend->has_bf16) continue;
        if (edge > 0) shape.m = shape.n = shape.k = edge;
        status = run_shape(&measurement);
    }
    sq_free(counts);
    sq_free(matrices);
    return status;
}

static enum sq_status create_backend(const char *name, int n_threads, struct sq_backend **backend_p)
{
    if (!strcmp(name, "cpu")) return sq_backend_create_cpu(n_threads, SQ_ISA_BEST, backend_p);
#ifdef SQ_HAS_CUDA
    if (!strcmp(name, "cuda")) return sq_backend_create_cuda(0, n_threads, backend_p);
#endif
    fprintf(stderr, "sq_peak: built without backend %s\n", name);
    return SQ_ERR_USAGE;
}

int main(int argc, char **argv)
{
    struct sq_backend *backend = NULL;
    int n_threads = argc > 1 ? atoi(argv[1]) : 0, edge = argc > 3 ? atoi(argv[3]) : 0;
    if (argc > 4 || n_threads < 0 || edge < 0) {
        fprintf(stderr, "usage: sq_peak [THREADS [BACKEND [EDGE]]]\n");
        return 2;
    }
    enum sq_status status = create_backend(argc > 2 ? argv[2] : "cpu", n_threads, &backend);
    if (status != SQ_OK) return 1;
    status = edge > 0 ? run(backend, squares, sizeof squares / sizeof *squares, edge)
                      : run(backend, shapes, sizeof shapes / sizeof *shapes, 0);
    backend->ops->destroy(backend);
    return status == SQ_OK ? 0 : 1;
}
