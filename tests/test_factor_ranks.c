/* A factorization that ranks share: the bits of one that a rank makes alone, the same rung of the damping ladder on
 * all, and no rank left waiting when another fails. */
#define _GNU_SOURCE
#include "ranks.h"

#include "gptq/cholesky.h"
#include "place_fixture.h"
#include "solve_fixture.h"

/* What sq_factor_make() gives; arrays of malloc. */
struct made {
    enum sq_status status;
    struct sq_factor figures; /* numbers alone */
    float *unit, *variance;
    int32_t *order;
};

/* h [n, n], on the ranks of comm. */
static struct made make(const struct sq_comm *comm, int64_t n, const float *h, double damping)
{
    struct sq_factor factor;
    struct made made = {.status = sq_factor_create(place.backend, n + 3, 1, &factor)};
    if (!CHECK(made.status == SQ_OK)) abort();
    factor.hessian = sq_matrix_view(factor.hessian.data, SQ_F32, n, n);
    size_t bytes = (size_t)(n * n) * sizeof *h;
    CHECK(place.backend->ops->upload(place.backend, h, bytes, factor.hessian.data) == SQ_OK);
    made.status = sq_factor_make(place.backend, comm, n, SQ_ORDER_ACTIVATION, damping, &factor);
    made.figures = factor;
    made.unit = backend_read(place.backend, factor.unit);
    made.variance = backend_read(place.backend, factor.diagonal);
    made.order = malloc((size_t)n * sizeof *made.order);
    memcpy(made.order, factor.order, (size_t)n * sizeof *made.order);
    sq_factor_destroy(place.backend, &factor);
    return made;
}

static void made_free(struct made *made)
{
    free(made->unit);
    free(made->variance);
    free(made->order);
}

static void check_same(int64_t n, const struct made *a, const struct made *b)
{
    size_t numbers = (size_t)n * sizeof(float);
    CHECK(a->status == b->status);
    CHECK(a->figures.n_rungs == b->figures.n_rungs && a->figures.diagonal_only == b->figures.diagonal_only);
    CHECK(a->figures.damping == b->figures.damping && a->figures.ridge == b->figures.ridge);
    CHECK(a->figures.n_dead == b->figures.n_dead && a->figures.min_diagonal == b->figures.min_diagonal);
    if (a->status != SQ_OK) return;
    CHECK(memcmp(a->order, b->order, (size_t)n * sizeof *a->order) == 0);
    CHECK(memcmp(a->variance, b->variance, numbers) == 0);
    for (int64_t i = 0; i < n; i++)
        if (!CHECK(memcmp(a->unit + i * n, b->unit + i * n, (size_t)(i + 1) * sizeof(float)) == 0)) break;
}

/* Alone and shared; returns the rungs of the ladder. */
static int check_matrix(int64_t n, const float *h, double damping)
{
    const struct sq_comm alone = {.size = 1};
    struct made one = make(&alone, n, h, damping), all = make(&place.comm, n, h, damping);
    int n_rungs = all.figures.n_rungs;
    check_same(n, &one, &all);
    made_free(&one);
    made_free(&all);
    return n_rungs;
}

static void test_bits(void **state)
{
    (void)state;
    const char *devices = getenv("CUDASIM_DEVICES");
    bool has_nccl = devices && atoi(devices) > 1 && place.comm.size > 1;
    CHECK(has_nccl == (place.comm.device != NULL) || (place.kind && !devices)); /* real devices: what there is */
    int64_t edge = place.backend->sizes.factor_tile;
    /* one tile and less, a column of one row at the end, fewer columns than ranks, several for each */
    const int64_t sizes[] = {1, edge, edge + 1, 3 * edge - 1, 6 * edge + edge / 2};
    for (int s = 0; s < 5; s++) {
        int64_t n = sizes[s];
        struct layer layer = fixture_layer(1, n, 40, n > 20 ? n - 3 : -1, 7);
        CHECK(check_matrix(n, layer.hessian, 0.01) == 0);
        layer_free(&layer);
    }
    ranks_end_test();
}

/* I, but for [[1, c], [c, 1]] at column j: its eigenvalue 1 - c shows when the factorization comes there. */
static int check_rungs(int64_t n, int64_t j, double c)
{
    float *h = calloc((size_t)(n * n), sizeof *h);
    for (int64_t i = 0; i < n; i++)
        h[i * n + i] = 1;
    h[j * n + j + 1] = h[(j + 1) * n + j] = (float)c;
    int n_rungs = check_matrix(n, h, 0.01);
    free(h);
    return n_rungs;
}

/* Each column of tiles finds out in its turn: of one tile and of fewer than there are ranks, too, and of a ragged last
 * one. */
static void test_ladder(void **state)
{
    (void)state;
    int64_t edge = place.backend->sizes.factor_tile, ragged = 5;
    const int64_t tiles[] = {1, 2, place.comm.size + 2};
    for (int i = 0; i < 3; i++)
        for (int64_t tile = 0; tile < tiles[i]; tile++)
            CHECK(check_rungs((tiles[i] - 1) * edge + ragged, tile * edge + 2, 1.05) == 1);
    CHECK(check_rungs(3 * edge, edge + 2, 3) == 3); /* the diagonal alone */
    ranks_end_test();
}

/* On the diagonal it is an error, elsewhere whatever it is for a rank alone: the same everywhere, and nobody waits. */
static void test_no_numbers(void **state)
{
    (void)state;
    int64_t n = 3 * place.backend->sizes.factor_tile;
    struct layer layer = fixture_layer(1, n, 40, -1, 3);
    layer.hessian[(n - 2) * n + 5] = layer.hessian[5 * n + n - 2] = NAN;
    check_matrix(n, layer.hessian, 0.01);
    layer.hessian[7 * n + 7] = NAN;
    ranks_listen();
    struct made all = make(&place.comm, n, layer.hessian, 0.01);
    CHECK(strstr(capture_stop(&ranks.capture), "diagonal entry 7 is nan") != NULL);
    CHECK(all.status == SQ_ERR_NUMERIC);
    made_free(&all);
    layer_free(&layer);
    ranks_end_test();
}

/* --- one rank fails ----------------------------------------------------------------------------------------------- */

/* The n-th operation on a tile fails on this rank, by a copy of the backend's table. */
static struct {
    const struct sq_backend_ops *real;
    int left; /* calls until one fails */
} faults;

static bool fails(void)
{
    return __atomic_sub_fetch(&faults.left, 1, __ATOMIC_SEQ_CST) == 0; /* workers call it */
}

static enum sq_status failing_potrf(struct sq_backend *backend, struct sq_matrix a)
{
    return fails() ? SQ_ERR_LIBRARY : faults.real->potrf(backend, a);
}

static enum sq_status failing_trsm(struct sq_backend *backend, struct sq_matrix l, struct sq_matrix b)
{
    return fails() ? SQ_ERR_LIBRARY : faults.real->trsm(backend, l, b);
}

static enum sq_status failing_update(struct sq_backend *backend, struct sq_matrix a, struct sq_matrix b,
                                     struct sq_matrix c)
{
    return fails() ? SQ_ERR_LIBRARY : faults.real->update(backend, a, b, c);
}

static enum sq_status failing_copy_parts(struct sq_backend *backend, int64_t count, int64_t width, struct sq_matrix x,
                                         int64_t x_step, struct sq_matrix y, int64_t y_step)
{
    return fails() ? SQ_ERR_LIBRARY : faults.real->copy_parts(backend, count, width, x, x_step, y, y_step);
}

static enum sq_status make_with_fault(int64_t n, const float *h, int rank, int call)
{
    struct sq_backend_ops ops = *place.backend->ops;
    faults.real = place.backend->ops;
    faults.left = place.comm.rank == rank ? call : 0;
    ops.potrf = failing_potrf;
    ops.trsm = failing_trsm;
    ops.update = failing_update;
    ops.copy_parts = failing_copy_parts;
    place.backend->ops = &ops;
    struct made made = make(&place.comm, n, h, 0.01);
    place.backend->ops = faults.real;
    made_free(&made);
    return made.status;
}

/* Each rank fails in everything that it does, in turn: packing, unpacking, the last update. */
static void test_faults(void **state)
{
    (void)state;
    int64_t n = (place.comm.size + 1) * place.backend->sizes.factor_tile + 1;
    struct layer layer = fixture_layer(1, n, 40, -1, 3);
    for (int rank = 0; rank < place.comm.size; rank++) {
        int call = 1;
        while (make_with_fault(n, layer.hessian, rank, call) == SQ_ERR_LIBRARY)
            call++;
        CHECK(call > place.comm.size + 2); /* a tile of each column at least */
        CHECK(make_with_fault(n, layer.hessian, rank, call) == SQ_OK);
    }
    layer_free(&layer);
    ranks_end_test();
}

static void test_no_memory(void **state)
{
    (void)state;
    int64_t n = 2 * place.backend->sizes.factor_tile;
    struct layer layer = fixture_layer(1, n, 40, -1, 3);
    struct sq_factor factor;
    CHECK(sq_factor_create(place.backend, n, 1, &factor) == SQ_OK);
    fixture_set_hessian(place.backend, &layer, &factor);
    ranks_listen();
    sq_memory_fail_at(place.comm.rank == place.comm.size - 1 ? 1 : 0);
    enum sq_status status = sq_factor_make(place.backend, &place.comm, n, SQ_ORDER_ACTIVATION, 0.01, &factor);
    sq_memory_fail_at(0);
    EXPECT_ERROR(place.comm.size - 1, "cannot allocate", "a diagonal", NULL);
    CHECK(status == SQ_ERR_MEMORY);
    sq_factor_destroy(place.backend, &factor);
    layer_free(&layer);
    ranks_end_test();
}

/* --- what is sent ------------------------------------------------------------------------------------------------- */

static void test_traffic(void **state)
{
    (void)state;
    int64_t edge = place.backend->sizes.factor_tile, n = 2 * edge + 1;
    struct layer layer = fixture_layer(1, n, 40, -1, 3);
    struct sq_traffic traffic = {.is_dry = false};
    struct sq_comm comm = place.comm;
    comm.traffic = &traffic;
    struct made made = make(&comm, n, layer.hessian, 0.01);
    int64_t numbers = n * edge + (n - edge) * edge + 1, is_sent = comm.size > 1;
    CHECK(made.status == SQ_OK);
    CHECK(traffic.calls[SQ_TRAFFIC_MEMORY] == 3 * is_sent);
    CHECK(traffic.bytes[SQ_TRAFFIC_MEMORY] == 4 * numbers * is_sent);
    CHECK(traffic.calls[SQ_TRAFFIC_BROADCAST] == 3 * is_sent); /* statuses */
    CHECK(traffic.bytes[SQ_TRAFFIC_BROADCAST] == 3 * (int64_t)sizeof(enum sq_status) * is_sent);
    made_free(&made);
    layer_free(&layer);
    ranks_end_test();
}

static int run(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits),   cmocka_unit_test(test_ladder),    cmocka_unit_test(test_no_numbers),
        cmocka_unit_test(test_faults), cmocka_unit_test(test_no_memory), cmocka_unit_test(test_traffic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    return place_main(&argc, &argv, run);
}
