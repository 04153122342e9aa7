/* When the columns of a factorization that ranks share come, by the clock of a backend that computes nothing: a column
 * is made, and travels, beside what the one before it does to the others. */
#define _GNU_SOURCE
#include "fixed_links.h"

#include "gptq/cholesky.h"
#include "tensor/dry.h"

#define EDGE 2.0 /* of a tile; operations of potrf, trsm and update on it: */
#define POTRF (EDGE * EDGE * EDGE / 3)
#define TRSM (EDGE * EDGE * EDGE)
#define UPDATE (2 * EDGE * EDGE * EDGE)

struct times {
    double backend, link; /* seconds */
    int64_t n_columns;
};

/* Of so many tiles along an edge on so many ranks; one operation a second, copies take no time. */
static struct times factor(int64_t tiles, int n_ranks, double column)
{
    const struct fixed_links links = {{fixed_link_seconds}, 1u << SQ_TRAFFIC_MEMORY, column};
    struct sq_traffic traffic = {.is_dry = true, .links = &links.base};
    const struct sq_comm comm = {.size = n_ranks, .traffic = &traffic};
    struct sq_backend_traits traits = sq_cpu_traits;
    struct sq_rates rates = {.operation_seconds = 0};
    struct sq_backend *backend;
    traits.sizes.factor_tile = traits.sizes.factor_rows = (int64_t)EDGE;
    for (int i = 0; i < SQ_N_WORK; i++)
        rates.of[i].per_second = i == SQ_WORK_FACTOR ? 1 : 1e30;
    assert_int_equal(sq_backend_create_dry(&traits, 1, &rates, &backend), SQ_OK);
    int64_t n = tiles * (int64_t)EDGE;
    float *nowhere = NULL;
    assert_int_equal(backend->ops->alloc(backend, "a matrix", (size_t)(n * n) * sizeof *nowhere, (void **)&nowhere),
                     SQ_OK);
    assert_int_equal(sq_cholesky_make(backend, &comm, nowhere, sq_matrix_view(nowhere, SQ_F32, n, n)), SQ_OK);
    struct times times = {.backend = sq_dry_seconds(backend), .n_columns = traffic.calls[SQ_TRAFFIC_MEMORY]};
    times.link = column * (double)times.n_columns - traffic.seconds_beside;
    backend->ops->free(backend, nowhere);
    backend->ops->destroy(backend);
    return times;
}

static void check(struct times times, double backend, double link)
{
    assert_float_equal(times.backend, backend, 1e-6);
    assert_float_equal(times.link, link, 1e-6);
}

static void test_alone(void **state)
{
    (void)state;
    check(factor(3, 1, 100), 3 * POTRF + 3 * TRSM + 4 * UPDATE, 0);
}

/* Nothing goes on beside: the second column waits for the first. */
static void test_two_columns(void **state)
{
    (void)state;
    check(factor(2, 2, 100), 2 * POTRF + TRSM + UPDATE, 200);
    check(factor(2, 4, 100), 2 * POTRF + TRSM + UPDATE, 200);
}

/* While the other rank makes the second one, this one takes the first off the third. */
static void test_three_columns(void **state)
{
    (void)state;
    check(factor(3, 2, 0), 3 * POTRF + 3 * TRSM + 3 * UPDATE, 0);
    check(factor(3, 2, 100), 3 * POTRF + 3 * TRSM + 3 * UPDATE, 300);
}

/* Many columns on two ranks, which take half of the time. Of a column with m tiles the other rank has m updates and m -
 * 1 trsm, of half an update each, to do, and it travels for one; beside it this rank has m^2 / 4 updates: nobody waits
 * for links but for the first column and the last seven. */
static void test_many_columns(void **state)
{
    (void)state;
    struct times alone = factor(64, 1, 0), two = factor(64, 2, 0), sent = factor(64, 2, UPDATE);
    assert_int_equal(sent.n_columns, 64);
    assert_true(sent.link > UPDATE && sent.link < 8 * UPDATE);
    assert_float_equal(two.backend, alone.backend / 2, 0.01 * alone.backend / 2); /* shares are not quite even */
    assert_true(sent.backend + sent.link < two.backend + 8 * UPDATE);
}

/* With a rank for each column all wait for what makes them, or, where links take longer, for these. */
static void test_many_ranks(void **state)
{
    (void)state;
    double panels = 8 * POTRF + 28 * TRSM, first_updates = 28 * UPDATE; /* of each column by the one before */
    check(factor(8, 8, 0), panels + first_updates, 0);
    check(factor(8, 8, 1000), panels + first_updates, 8000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_alone), cmocka_unit_test(test_two_columns),
                                       cmocka_unit_test(test_three_columns), cmocka_unit_test(test_many_columns),
                                       cmocka_unit_test(test_many_ranks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
