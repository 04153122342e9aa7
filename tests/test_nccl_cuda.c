/* Collectives of devices, on the stand-in for CUDA. What a failure does is in nccl_failures.c. */
#define _GNU_SOURCE
#include "ranks.h"

#include <cudasim.h>

#include "base/trace.h"
#include "cuda/cuda_backend.h"
#include "cuda/nccl.h"
#include "mpi/comm_memory.h"

/* --- gathers beside the work -------------------------------------------------------------------------------------- */

#define PART 1000 /* bytes of each rank's part of a gather */

struct gathers {
    struct sq_backend *backend;
    struct sq_comm comm;
    unsigned char *buffers[SQ_COMM_GATHERS]; /* backend memory, [ranks, PART] */
    int64_t *sum;
    size_t shares[8]; /* offsets, then sizes */
};

static unsigned char value_of(int lane, int rank)
{
    return (unsigned char)(10 * lane + rank + 1);
}

static void open_gathers(struct gathers *g)
{
    const int64_t one = 1;
    g->comm = ranks.comm;
    if (sq_backend_create_cuda(g->comm.rank, 1, &g->backend) != SQ_OK) abort();
    if (sq_nccl_attach(&g->comm, g->backend) != SQ_OK) abort();
    const struct sq_backend_ops *ops = g->backend->ops;
    for (int rank = 0; rank < g->comm.size; rank++) {
        g->shares[rank] = (size_t)rank * PART;
        g->shares[g->comm.size + rank] = PART;
    }
    for (int lane = 0; lane < SQ_COMM_GATHERS; lane++) {
        unsigned char part[PART];
        memset(part, value_of(lane, g->comm.rank), PART);
        if (ops->alloc(g->backend, "a buffer", (size_t)g->comm.size * PART, (void **)&g->buffers[lane]) != SQ_OK)
            abort();
        CHECK(ops->upload(g->backend, part, PART, g->buffers[lane] + g->shares[g->comm.rank]) == SQ_OK);
    }
    if (ops->alloc(g->backend, "a sum", sizeof one, (void **)&g->sum) != SQ_OK) abort();
    CHECK(ops->upload(g->backend, &one, sizeof one, g->sum) == SQ_OK);
}

static void close_gathers(struct gathers *g)
{
    ranks_barrier();
    g->comm.device->destroy(g->comm.device);
    for (int lane = 0; lane < SQ_COMM_GATHERS; lane++)
        g->backend->ops->free(g->backend, g->buffers[lane]);
    g->backend->ops->free(g->backend, g->sum);
    g->backend->ops->destroy(g->backend);
    ranks_end_test();
}

static enum sq_status start(struct gathers *g, int lane)
{
    return sq_comm_memory_start_gather(&g->comm, g->backend, lane, g->buffers[lane], g->shares,
                                       g->shares + g->comm.size);
}

static void check_gathered(const struct gathers *g, int lane)
{
    unsigned char all[4 * PART];
    CHECK(g->backend->ops->download(g->backend, g->buffers[lane], (size_t)g->comm.size * PART, all) == SQ_OK);
    for (int rank = 0; rank < g->comm.size; rank++)
        for (int i = 0; i < PART; i++)
            if (!CHECK(all[rank * PART + i] == value_of(lane, rank))) return;
}

/* Two on their way, and a sum that is waited for between their start and their end. */
static void test_gathers(void **state)
{
    (void)state;
    struct gathers g;
    int64_t sum = 0;
    open_gathers(&g);
    for (int lane = 0; lane < SQ_COMM_GATHERS; lane++)
        CHECK(start(&g, lane) == SQ_OK);
    CHECK(sq_comm_memory_finish_gather(&g.comm, 0) == SQ_OK);
    check_gathered(&g, 0);
    CHECK(sq_comm_memory_sum_i64(&g.comm, g.backend, g.sum, 1) == SQ_OK);
    CHECK(g.backend->ops->download(g.backend, g.sum, sizeof sum, &sum) == SQ_OK && sum == g.comm.size);
    CHECK(sq_comm_memory_finish_gather(&g.comm, 1) == SQ_OK);
    check_gathered(&g, 1);
    close_gathers(&g);
}

/* --- sums beside the work ----------------------------------------------------------------------------------------- */

/* On root, -1: on all ranks, values that were 1 and lane + 2 on each. */
static void check_summed(const struct gathers *g, int lane, int root, const int64_t *memory)
{
    int64_t values[2];
    CHECK(sq_comm_memory_finish_sum(&g->comm, lane) == SQ_OK);
    CHECK(g->backend->ops->download(g->backend, memory, sizeof values, values) == SQ_OK);
    if (root >= 0 && root != g->comm.rank) return;
    CHECK(values[0] == g->comm.size && values[1] == (lane + 2) * g->comm.size);
}

/* Two on their way, on all ranks and on each in turn, with a gather and a sum that are waited for in between. */
static void test_sums(void **state)
{
    (void)state;
    struct gathers g;
    open_gathers(&g);
    CHECK(sq_comm_memory_sum_is_beside(&g.comm, g.backend) && !sq_comm_memory_sum_is_beside(&ranks.comm, g.backend));
    for (int lane = 0; lane < SQ_COMM_SUMS; lane++) /* nothing is on its way */
        CHECK(sq_comm_memory_finish_sum(&g.comm, lane) == SQ_OK);
    for (int root = -1; root < g.comm.size; root++) {
        int64_t *memory = (int64_t *)(void *)g.buffers[0];
        for (int lane = 0; lane < SQ_COMM_SUMS; lane++) {
            const int64_t values[2] = {1, lane + 2};
            CHECK(g.backend->ops->upload(g.backend, values, sizeof values, memory + 2 * lane) == SQ_OK);
            CHECK(sq_comm_memory_start_sum_i64(&g.comm, g.backend, lane, lane ? root : -1, memory + 2 * lane, 2) ==
                  SQ_OK);
        }
        check_summed(&g, 0, -1, memory);
        CHECK(start(&g, 1) == SQ_OK && sq_comm_memory_finish_gather(&g.comm, 1) == SQ_OK);
        CHECK(sq_comm_memory_sum_i64(&g.comm, g.backend, g.sum, 1) == SQ_OK);
        check_summed(&g, 1, root, memory + 2);
    }
    close_gathers(&g);
}

/* --- broadcasts beside the work ----------------------------------------------------------------------------------- */

static enum sq_status start_from(struct gathers *g, int root, struct sq_comm_started *started_p)
{
    return sq_comm_memory_start_broadcast(&g->comm, g->backend, root, g->buffers[0], PART, started_p);
}

/* From each rank in turn its part of a gather, with a sum that is waited for between start and end. */
static void test_broadcasts(void **state)
{
    (void)state;
    struct gathers g;
    struct sq_comm_started started;
    unsigned char part[PART];
    open_gathers(&g);
    CHECK(start(&g, 1) == SQ_OK); /* it may be on its way all the time */
    for (int root = 0; root < g.comm.size; root++) {
        int64_t sum = 1;
        memset(part, value_of(0, g.comm.rank), PART);
        CHECK(g.backend->ops->upload(g.backend, part, PART, g.buffers[0]) == SQ_OK);
        CHECK(g.backend->ops->upload(g.backend, &sum, sizeof sum, g.sum) == SQ_OK);
        CHECK(start_from(&g, root, &started) == SQ_OK);
        CHECK(sq_comm_memory_sum_i64(&g.comm, g.backend, g.sum, 1) == SQ_OK);
        CHECK(sq_comm_memory_finish_broadcast(&g.comm, &started) == SQ_OK);
        CHECK(g.backend->ops->download(g.backend, g.sum, sizeof sum, &sum) == SQ_OK && sum == g.comm.size);
        CHECK(g.backend->ops->download(g.backend, g.buffers[0], PART, part) == SQ_OK);
        for (int i = 0; i < PART; i++)
            if (!CHECK(part[i] == value_of(0, root))) break;
    }
    CHECK(sq_comm_memory_finish_gather(&g.comm, 1) == SQ_OK);
    check_gathered(&g, 1);
    close_gathers(&g);
}

/* --- errors that are not a launch's ------------------------------------------------------------------------------- */

struct launching {
    struct sq_backend *backend;
    struct sq_matrix x;
};

static enum sq_status launch(void *context, int64_t index, int worker)
{
    (void)index, (void)worker;
    const struct launching *l = context;
    return l->backend->ops->add(l->backend, l->x, l->x);
}

/* Memory that is not there is said once, with its size. */
static void check_refused(struct launching *l, bool on_host, const char *words)
{
    const struct sq_backend_ops *ops = l->backend->ops;
    void *memory;
    ranks_listen();
    cudasim_fail("malloc", 1);
    CHECK((on_host ? ops->alloc_host : ops->alloc)(l->backend, "a buffer", 3000, &memory) == SQ_ERR_MEMORY);
    CHECK(launch(l, 0, 0) == SQ_OK);
    const char *text = capture_stop(&ranks.capture);
    CHECK(strstr(text, words) != NULL);
}

/* What a stream or an event was asked for too early, and what failed before, is no error of the next kernel. */
static void test_launches_after_errors(void **state)
{
    (void)state;
    struct gathers g;
    void *memory, *host;
    open_gathers(&g);
    const struct sq_backend_ops *ops = g.backend->ops;
    if (ops->alloc(g.backend, "numbers", PART, &memory) != SQ_OK) abort();
    if (ops->alloc_host(g.backend, "numbers", PART, &host) != SQ_OK) abort();
    memset(host, 0, PART);
    struct launching l = {g.backend, sq_matrix_view(memory, SQ_F32, 1, PART / (int64_t)sizeof(float))};
    CHECK(ops->clear(g.backend, memory, PART) == SQ_OK);
    check_refused(&l, false, "a buffer needs 2.9 KiB");
    check_refused(&l, true, "a buffer needs 2.9 KiB of pinned host memory: out of memory");
    CHECK(start(&g, 0) == SQ_OK && sq_comm_memory_finish_gather(&g.comm, 0) == SQ_OK); /* an event */
    CHECK(launch(&l, 0, 0) == SQ_OK);
    CHECK(sq_comm_memory_sum_i64(&g.comm, g.backend, g.sum, 1) == SQ_OK); /* a stream */
    CHECK(launch(&l, 0, 0) == SQ_OK);
    sq_trace_start();
    CHECK(ops->parallel(g.backend, 1, launch, &l) == SQ_OK);           /* from here on times are counted */
    CHECK(ops->send(g.backend, 0, host, PART, g.buffers[1]) == SQ_OK); /* on its way when times are asked for */
    CHECK(ops->parallel(g.backend, 1, launch, &l) == SQ_OK);
    CHECK(launch(&l, 0, 0) == SQ_OK);
    sq_trace_stop();
    CHECK(ops->sent(g.backend, 0) == SQ_OK);
    ops->free(g.backend, memory);
    ops->free_host(g.backend, host);
    close_gathers(&g);
}

/* Where the downloads of a worker have failed its kernels may still run: parallel() waits for them before it ends. */
static void test_wait_after_failure(void **state)
{
    (void)state;
    struct gathers g;
    open_gathers(&g);
    struct launching l = {g.backend, sq_matrix_view(g.sum, SQ_F32, 1, 2)};
    long before = cudasim_calls("sync");
    ranks_listen();
    cudasim_fail("sync", 2); /* after the stream before the items, that of downloads */
    CHECK(g.backend->ops->parallel(g.backend, 1, launch, &l) == SQ_ERR_LIBRARY);
    const char *text = strstr(capture_stop(&ranks.capture), "shardq: "); /* after what the stand-in says */
    CHECK(text && capture_is_one_error(text, (const char *const[4]){"CUDA: running kernels"}));
    CHECK(cudasim_calls("sync") == before + 3);
    CHECK(launch(&l, 0, 0) == SQ_OK);
    close_gathers(&g);
}

static int run(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gathers), cmocka_unit_test(test_sums), cmocka_unit_test(test_broadcasts),
        cmocka_unit_test(test_launches_after_errors), cmocka_unit_test(test_wait_after_failure)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    setenv("CUDASIM_DEVICES", "3", 1); /* one for each rank */
    return ranks_main(&argc, &argv, run);
}
