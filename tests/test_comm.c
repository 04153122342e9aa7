/* The communicator against what each collective means. */
#define _GNU_SOURCE
#include "ranks.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "mpi/comm.h"
#include "mpi/split.h"

static void test_agree_takes_the_worst(void **state)
{
    (void)state;
    int last = ranks.comm.size - 1;
    assert_int_equal(sq_comm_agree(&ranks.comm, SQ_OK), SQ_OK);
    enum sq_status mine = ranks.comm.rank == last ? SQ_ERR_IO : SQ_OK;
    assert_int_equal(sq_comm_agree(&ranks.comm, mine), SQ_ERR_IO);
    mine = ranks.comm.rank == 0 ? SQ_STOPPED : SQ_OK;
    assert_int_equal(sq_comm_agree(&ranks.comm, mine), SQ_STOPPED);
}

/* Nobody, each alone, and all from each on. */
static void test_lowest(void **state)
{
    (void)state;
    int rank = ranks.comm.rank, size = ranks.comm.size;
    bool any, is_lowest;
    CHECK(sq_comm_lowest(&ranks.comm, false, &any, &is_lowest) == SQ_OK);
    CHECK(!any && !is_lowest);
    for (int lowest = 0; lowest < size; lowest++)
        for (int all = 0; all < 2; all++) {
            bool mine = all ? rank >= lowest : rank == lowest;
            CHECK(sq_comm_lowest(&ranks.comm, mine, &any, &is_lowest) == SQ_OK);
            CHECK(any && is_lowest == (rank == lowest));
        }
    ranks_end_test();
}

/* The same on each, other texts on one rank, on several, and a longer one. */
static void test_compare(void **state)
{
    (void)state;
    int rank = ranks.comm.rank, last = ranks.comm.size - 1;
    char *first;
    CHECK(sq_comm_compare(&ranks.comm, "the same", &first) == SQ_OK);
    CHECK(first == NULL);
    for (int other = 1; other <= last; other++) {
        CHECK(sq_comm_compare(&ranks.comm, rank < other ? "first" : "another, longer one", &first) == SQ_ERR_USAGE);
        CHECK(rank == other ? first && !strcmp(first, "first") : first == NULL);
        sq_free(first);
    }
    ranks_end_test();
}

/* A step that fails on the rank `fails`; every rank that takes it adds to a list with one slot for each. */
struct step {
    int fails;
    int64_t taken[8];
};

static enum sq_status take_step(void *context)
{
    struct step *step = context;
    step->taken[ranks.comm.rank]++;
    return ranks.comm.rank == step->fails ? SQ_ERR_INPUT : SQ_OK;
}

static void test_first_rank_first(void **state)
{
    (void)state;
    for (int fails = -1; fails < ranks.comm.size; fails++) {
        struct step step = {.fails = fails};
        enum sq_status wanted = fails < 0 ? SQ_OK : SQ_ERR_INPUT;
        assert_int_equal(sq_comm_first_rank_first(&ranks.comm, take_step, &step), wanted);
        assert_int_equal(sq_comm_sum_i64(&ranks.comm, step.taken, 8), SQ_OK);
        for (int r = 0; r < ranks.comm.size; r++)
            assert_int_equal(step.taken[r], r == 0 || fails != 0);
    }
    struct sq_comm alone = {.size = 1}; /* without MPI */
    struct step step = {.fails = ranks.comm.rank};
    assert_int_equal(sq_comm_first_rank_first(&alone, take_step, &step), SQ_ERR_INPUT);
}

static void test_sums_and_maxima(void **state)
{
    (void)state;
    int64_t n = ranks.comm.size, r = ranks.comm.rank;
    int64_t values[] = {r + 1, -r, INT64_C(1) << 58};
    assert_int_equal(sq_comm_sum_i64(&ranks.comm, values, 3), SQ_OK);
    assert_int_equal(values[0], n * (n + 1) / 2);
    assert_int_equal(values[1], -n * (n - 1) / 2);
    assert_int_equal(values[2], n << 58);
    int64_t largest = r;
    assert_int_equal(sq_comm_max_i64(&ranks.comm, &largest, 1), SQ_OK);
    assert_int_equal(largest, n - 1);
    double height = -1.5 * (double)r;
    assert_int_equal(sq_comm_max_f64(&ranks.comm, &height, 1), SQ_OK);
    assert_true(height == 0);
}

static void test_reduce_to_each_root(void **state)
{
    (void)state;
    for (int root = 0; root < ranks.comm.size; root++) {
        int64_t value = ranks.comm.rank + 1;
        assert_int_equal(sq_comm_reduce_sum_i64(&ranks.comm, root, &value, 1), SQ_OK);
        if (ranks.comm.rank == root) assert_int_equal(value, ranks.comm.size * (ranks.comm.size + 1) / 2);
    }
}

static void test_broadcast_from_each_root(void **state)
{
    (void)state;
    for (int root = 0; root < ranks.comm.size; root++) {
        char text[32] = "";
        if (ranks.comm.rank == root) strcpy(text, "from the root");
        assert_int_equal(sq_comm_broadcast(&ranks.comm, root, text, sizeof text), SQ_OK);
        assert_string_equal(text, "from the root");
    }
}

/* One after the other is on its way, with an agreement between; what was never started is there. */
static void test_broadcasts_beside_the_work(void **state)
{
    (void)state;
    struct sq_comm_started started[4] = {{.request = 0}};
    static int64_t numbers[4][100000]; /* more than MPI sends without asking */
    int size = ranks.comm.size;
    CHECK(sq_comm_finish_broadcast(&started[0]) == SQ_OK);
    for (int root = 0; root < size; root++) {
        for (int64_t i = 0; i < 100000; i++)
            numbers[root][i] = root == ranks.comm.rank ? i + root : -1;
        CHECK(sq_comm_start_broadcast(&ranks.comm, root, numbers[root], sizeof numbers[root], &started[root]) == SQ_OK);
    }
    CHECK(sq_comm_agree(&ranks.comm, ranks.comm.rank == size - 1 ? SQ_ERR_IO : SQ_OK) == SQ_ERR_IO);
    for (int root = size - 1; root >= 0; root--) {
        int64_t n_wrong = 0;
        CHECK(sq_comm_finish_broadcast(&started[root]) == SQ_OK);
        CHECK(sq_comm_finish_broadcast(&started[root]) == SQ_OK); /* it is over */
        for (int64_t i = 0; i < 100000; i++)
            n_wrong += numbers[root][i] != i + root;
        CHECK(n_wrong == 0);
    }
    ranks_end_test();
}

static void test_all_gather_uneven_shares(void **state)
{
    (void)state;
    enum { TOTAL = 37 };
    unsigned char buffer[TOTAL] = {0};
    size_t *offsets = calloc((size_t)ranks.comm.size, sizeof *offsets);
    size_t *sizes = calloc((size_t)ranks.comm.size, sizeof *sizes);
    for (int r = 0; r < ranks.comm.size; r++) {
        struct sq_range share = sq_split(TOTAL, r, ranks.comm.size);
        offsets[r] = (size_t)share.first;
        sizes[r] = (size_t)share.count;
    }
    for (size_t i = 0; i < sizes[ranks.comm.rank]; i++)
        buffer[offsets[ranks.comm.rank] + i] = (unsigned char)(offsets[ranks.comm.rank] + i + 1);
    assert_int_equal(sq_comm_all_gather(&ranks.comm, buffer, offsets, sizes), SQ_OK);
    for (int i = 0; i < TOTAL; i++)
        assert_int_equal(buffer[i], i + 1);
    free(offsets);
    free(sizes);
}

/* A rank without memory for the counts of a gather: all ranks say so, none waits for it. */
static void test_all_gather_without_memory(void **state)
{
    (void)state;
    char buffer[4] = {0};
    size_t offsets[4] = {0, 1, 2, 3}, sizes[4] = {1, 1, 1, 1};
    int last = ranks.comm.size - 1;
    if (last == 0) skip(); /* alone it gathers nothing */
    ranks_listen();
    if (ranks.comm.rank == last) sq_memory_fail_at(1);
    CHECK(sq_comm_all_gather(&ranks.comm, buffer, offsets, sizes) == SQ_ERR_MEMORY);
    EXPECT_ERROR(last, "gather counts");
    CHECK(sq_comm_all_gather(&ranks.comm, buffer, offsets, sizes) == SQ_OK);
    ranks_end_test();
}

static void test_split_by_parity(void **state)
{
    (void)state;
    struct sq_comm part;
    assert_int_equal(sq_comm_split(&ranks.comm, ranks.comm.rank % 2, &part), SQ_OK);
    assert_int_equal(part.rank, ranks.comm.rank / 2);
    assert_int_equal(part.size, (ranks.comm.size + 1 - ranks.comm.rank % 2) / 2);
    sq_comm_free(&part);
    int on_node = 0;
    assert_int_equal(sq_comm_ranks_on_node(&ranks.comm, &on_node), SQ_OK);
    assert_int_equal(on_node, ranks.comm.size);
}

/* A communicator that sends nothing counts the same; a part of it counts in the same place. */
static void test_traffic(void **state)
{
    (void)state;
    struct sq_traffic real = {.is_dry = false}, dry = {.is_dry = true};
    struct sq_comm comms[2] = {ranks.comm, {.rank = ranks.comm.rank, .size = ranks.comm.size, .traffic = &dry}};
    size_t offsets[4] = {0, 100, 200, 300}, sizes[4] = {100, 100, 100, 10};
    comms[0].traffic = &real;
    for (int i = 0; i < 2; i++) {
        int64_t values[50] = {0};
        char buffer[400] = {0};
        struct sq_comm_started started;
        assert_int_equal(sq_comm_agree(&comms[i], SQ_OK), SQ_OK);
        assert_int_equal(sq_comm_max_i64(&comms[i], values, 1), SQ_OK);
        assert_int_equal(sq_comm_sum_i64(&comms[i], values, 50), SQ_OK);
        assert_int_equal(sq_comm_reduce_sum_i64(&comms[i], 0, values, 30), SQ_OK);
        assert_int_equal(sq_comm_broadcast(&comms[i], 0, buffer, 7), SQ_OK);
        assert_int_equal(sq_comm_start_broadcast(&comms[i], 0, buffer, 5, &started), SQ_OK);
        assert_int_equal(sq_comm_finish_broadcast(&started), SQ_OK);
        assert_int_equal(sq_comm_all_gather(&comms[i], buffer, offsets, sizes), SQ_OK);
    }
    int is_sent = ranks.comm.size > 1;
    assert_int_equal(real.calls[SQ_TRAFFIC_AGREE], 3 * is_sent); /* one in the gather */
    assert_int_equal(real.bytes[SQ_TRAFFIC_SUM], 400 * is_sent);
    assert_int_equal(real.bytes[SQ_TRAFFIC_REDUCE], 240 * is_sent);
    assert_int_equal(real.bytes[SQ_TRAFFIC_BROADCAST], 12 * is_sent);
    assert_int_equal(real.bytes[SQ_TRAFFIC_GATHER],
                     is_sent ? 100 * ranks.comm.size - (ranks.comm.size == 4 ? 90 : 0) : 0);
    assert_memory_equal(real.calls, dry.calls, sizeof real.calls);
    assert_memory_equal(real.bytes, dry.bytes, sizeof real.bytes);
    struct sq_comm part;
    assert_int_equal(sq_comm_split(&comms[0], 0, &part), SQ_OK);
    assert_int_equal(sq_comm_broadcast(&part, 0, offsets, 8), SQ_OK);
    assert_int_equal(real.bytes[SQ_TRAFFIC_BROADCAST], 20 * is_sent);
    sq_comm_free(&part);
}

static void test_shares_cover_everything_once(void **state)
{
    (void)state;
    for (int64_t n = 0; n < 20; n++)
        for (int64_t parts = 1; parts < 9; parts++) {
            int64_t next = 0;
            for (int64_t part = 0; part < parts; part++) {
                struct sq_range share = sq_split(n, part, parts);
                assert_int_equal(share.first, next);
                assert_true(share.count == n / parts || share.count == n / parts + 1);
                next += share.count;
            }
            assert_int_equal(next, n);
        }
}

static int run(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agree_takes_the_worst),
        cmocka_unit_test(test_lowest),
        cmocka_unit_test(test_compare),
        cmocka_unit_test(test_first_rank_first),
        cmocka_unit_test(test_sums_and_maxima),
        cmocka_unit_test(test_reduce_to_each_root),
        cmocka_unit_test(test_broadcast_from_each_root),
        cmocka_unit_test(test_broadcasts_beside_the_work),
        cmocka_unit_test(test_all_gather_uneven_shares),
        cmocka_unit_test(test_all_gather_without_memory),
        cmocka_unit_test(test_split_by_parity),
        cmocka_unit_test(test_shares_cover_everything_once),
        cmocka_unit_test(test_traffic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    return ranks_main(&argc, &argv, run);
}
