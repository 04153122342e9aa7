/* A rank whose products fail in any slice of a Hessian, on the stand-in for CUDA, while the sum of the slice before is
 * on its way: all ranks hear of it and end together, and the next Hessian is as it should be. */
#define _GNU_SOURCE
#include "place_fixture.h"

#include <cudasim.h>

#include "gptq/hessian_private.h"
#include "mpi/comm_memory.h"

enum { PANEL = 16, N = 5 * PANEL, LENGTH = 3, SHARDS = 4 };

struct making {
    struct sq_shards shards;
    struct sq_hessian_workspace workspace;
    struct sq_matrix x, hessian; /* on the device */
};

/* Four slices, each sum but the last beside the products of the next. */
static void open_making(struct making *m)
{
    struct sq_backend *backend = place.backend;
    static float values[SHARDS * LENGTH * N];
    const struct sq_hessian_rooms none = {0};
    backend->sizes.hessian_panel = PANEL;
    backend->sizes.hessian_slice = 2 * PANEL * N;
    struct sq_panels panels = sq_panels_make(&backend->sizes, N, &none);
    CHECK(sq_comm_memory_sum_is_beside(&place.comm, backend) && sq_panels_halve(&panels));
    m->shards = sq_shards_make(SHARDS, SHARDS, ranks.comm.rank, ranks.comm.size);
    int64_t rows = m->shards.samples.count * LENGTH;
    for (int64_t i = 0; i < rows * N; i++)
        values[i] = (float)((m->shards.samples.first * LENGTH * N + i) * 7919 % 101) - 50;
    m->x = sq_matrix_view(backend_give(backend, values, (size_t)(rows * N) * sizeof *values), SQ_F32, rows, N);
    if (backend->ops->alloc(backend, "H", N * N * sizeof(float), &m->hessian.data) != SQ_OK) abort();
    m->hessian = sq_matrix_view(m->hessian.data, SQ_F32, N, N);
    if (sq_hessian_create(backend, N, &none, &m->workspace) != SQ_OK) abort();
}

static void close_making(struct making *m)
{
    sq_hessian_destroy(place.backend, &m->workspace);
    backend_free(place.backend, m->x.data);
    backend_free(place.backend, m->hessian.data);
}

/* A rank that gets none has zeros. */
static enum sq_status make(struct making *m, int root)
{
    const struct sq_hessian_inputs inputs = {&m->shards, LENGTH, m->x, false};
    if (place.backend->ops->clear(place.backend, m->hessian.data, N * N * sizeof(float)) != SQ_OK) abort();
    return sq_hessian_make(place.backend, &place.comm, root, "a layer", &inputs, &m->workspace, m->hessian);
}

/* The n-th call of this kind fails on the last rank, for n = 1, 2, 3 ... until all are there. */
static void check_kind(const char *kind, int root, int64_t fewest)
{
    struct making m;
    int64_t n_failed = 0;
    open_making(&m);
    CHECK(make(&m, root) == SQ_OK);
    float *good = backend_read(place.backend, m.hessian);
    for (bool fails = true; fails; n_failed += fails) {
        if (ranks.comm.rank == ranks.comm.size - 1) cudasim_fail(kind, n_failed + 1);
        ranks_listen();
        enum sq_status status = make(&m, root);
        const char *text = capture_stop(&ranks.capture);
        fails = status != SQ_OK;
        bool is_speaker = fails && ranks.comm.rank == ranks.comm.size - 1;
        CHECK((status == SQ_OK || status == SQ_ERR_LIBRARY) && (strstr(text, "shardq: error: ") != NULL) == is_speaker);
    }
    cudasim_fail(kind, 0);
    CHECK(n_failed >= fewest);
    float *again = backend_read(place.backend, m.hessian);
    CHECK(memcmp(good, again, N * N * sizeof *good) == 0);
    free(good);
    free(again);
    close_making(&m);
}

/* Each panel has a product at least, by a library and by kernels, for each shard of the rank; and rows of H. */
static void test_failures(void **state)
{
    (void)state;
    for (int root = -1; root < ranks.comm.size; root += ranks.comm.size) {
        check_kind("blas", root, N / PANEL);
        check_kind("launch", root, 2 * N / PANEL);
    }
    ranks_end_test();
}

static int run(void)
{
    static const struct CMUnitTest tests[] = {cmocka_unit_test(test_failures)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    setenv("CUDASIM_DEVICES", "3", 1); /* one for each rank */
    setenv("SHARDQ_TEST_BACKEND", "cuda", 1);
    return place_main(&argc, &argv, run);
}
