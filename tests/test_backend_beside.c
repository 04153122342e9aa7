/* The contract of a backend: copies and steps of the host that go on beside the work. What is copied is one number for
 * each piece, over and over, so that a copy that comes too early or too late shows. */
#define _DEFAULT_SOURCE /* usleep */
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "backend_fixture.h"

#define PIECES 12
#define COUNT 1000 /* numbers of a piece */
#define BYTES (COUNT * sizeof(float))

/* What the items of a test share. */
struct pieces {
    float *memory; /* the backend's, [PIECES, COUNT] */
    float *rooms;  /* the backend's, [workers, COUNT] */
    float *host;   /* alloc_host, [PIECES, COUNT] */
};

static struct pieces make_pieces(void)
{
    struct pieces p;
    assert_int_equal(ops->alloc(backend, "pieces", PIECES * BYTES, (void **)&p.memory), SQ_OK);
    assert_int_equal(ops->alloc(backend, "rooms", (size_t)backend->n_workers * BYTES, (void **)&p.rooms), SQ_OK);
    assert_int_equal(ops->alloc_host(backend, "pieces", PIECES * BYTES, (void **)&p.host), SQ_OK);
    return p;
}

static void free_pieces(struct pieces *p)
{
    ops->free(backend, p->memory);
    ops->free(backend, p->rooms);
    ops->free_host(backend, p->host);
}

static void fill(float *piece, int64_t index)
{
    for (int i = 0; i < COUNT; i++)
        piece[i] = 100.0f + (float)index;
}

static void check(const struct pieces *p)
{
    for (int64_t i = 0; i < PIECES * COUNT; i++)
        if (p->host[i] != 100.0f + (float)(i / COUNT))
            fail_msg("piece %d holds %g", (int)(i / COUNT), (double)p->host[i]);
}

/* --- out ---------------------------------------------------------------------------------------------------------- */

/* Every piece goes through the worker's one room: it may change only once it has been fetched. */
static enum sq_status fetch_piece(void *context, int64_t index, int worker)
{
    const struct pieces *p = context;
    float *room = p->rooms + worker * COUNT;
    SQ_TRY(ops->settle(backend));
    SQ_TRY(ops->copy(backend, p->memory + index * COUNT, BYTES, room));
    return ops->fetch(backend, room, BYTES, p->host + index * COUNT);
}

static void test_fetch(void **state)
{
    (void)state;
    struct pieces p = make_pieces();
    float piece[COUNT];
    for (int64_t i = 0; i < PIECES; i++) {
        fill(piece, i);
        assert_int_equal(ops->upload(backend, piece, BYTES, p.memory + i * COUNT), SQ_OK);
    }
    memset(p.host, 0, PIECES * BYTES);
    assert_int_equal(ops->parallel(backend, PIECES, fetch_piece, &p), SQ_OK);
    check(&p);
    memset(p.host, 0, BYTES); /* outside of parallel() it is a download */
    assert_int_equal(ops->fetch(backend, p.memory, BYTES, p.host), SQ_OK);
    check(&p);
    free_pieces(&p);
}

/* --- in ----------------------------------------------------------------------------------------------------------- */

static enum sq_status take_piece(void *context, int64_t index, int worker)
{
    const struct pieces *p = context;
    float *room = p->rooms + worker * COUNT;
    SQ_TRY(ops->receive(backend));
    SQ_TRY(ops->copy(backend, p->memory + index * COUNT, BYTES, room));
    return ops->download(backend, room, BYTES, p->host + index * COUNT);
}

/* Through two buffers, each filled again as soon as it may be. */
static void test_send(void **state)
{
    (void)state;
    struct pieces p = make_pieces();
    float *lanes[SQ_LANES];
    for (int lane = 0; lane < SQ_LANES; lane++)
        assert_int_equal(ops->alloc_host(backend, "a lane", BYTES, (void **)&lanes[lane]), SQ_OK);
    for (int64_t i = 0; i < PIECES; i++) {
        int lane = (int)(i % SQ_LANES);
        assert_int_equal(ops->sent(backend, lane), SQ_OK);
        fill(lanes[lane], i);
        assert_int_equal(ops->send(backend, lane, lanes[lane], BYTES, p.memory + i * COUNT), SQ_OK);
    }
    assert_int_equal(ops->parallel(backend, PIECES, take_piece, &p), SQ_OK);
    check(&p);
    for (int lane = 0; lane < SQ_LANES; lane++) {
        assert_int_equal(ops->sent(backend, lane), SQ_OK);
        ops->free_host(backend, lanes[lane]);
    }
    free_pieces(&p);
}

/* --- steps -------------------------------------------------------------------------------------------------------- */

struct steps {
    pthread_t main_thread;
    atomic_int taken, items;
    int most;
    bool elsewhere; /* a step was taken by another thread */
};

static bool take_step(void *context)
{
    struct steps *steps = context;
    steps->elsewhere = steps->elsewhere || !pthread_equal(pthread_self(), steps->main_thread);
    if (steps->taken == steps->most) return false;
    steps->taken++;
    return steps->taken < steps->most;
}

/* Lasts until the main thread has taken all steps beside it. */
static enum sq_status wait_for_steps(void *context, int64_t index, int worker)
{
    struct steps *steps = context;
    (void)index, (void)worker;
    for (int waited = 0; steps->taken < steps->most; waited++) {
        if (waited == 10000) return SQ_ERR_LIBRARY;
        usleep(1000);
    }
    steps->items++;
    return SQ_OK;
}

static enum sq_status be_quick(void *context, int64_t index, int worker)
{
    struct steps *steps = context;
    (void)index, (void)worker;
    steps->items++;
    return SQ_OK;
}

static void test_steps(void **state)
{
    (void)state;
    struct steps steps = {.main_thread = pthread_self(), .most = 20};
    backend->beside = (struct sq_beside){take_step, &steps};
    assert_int_equal(ops->parallel(backend, 1, wait_for_steps, &steps), SQ_OK);
    assert_int_equal(steps.taken, 20);
    assert_int_equal(ops->parallel(backend, 50, be_quick, &steps), SQ_OK); /* there is no more to do */
    assert_int_equal(steps.taken, 20);
    assert_int_equal(steps.items, 51);
    steps.most = 1 << 30; /* a parallel() does not wait for the end of what goes on beside it */
    assert_int_equal(ops->parallel(backend, 50, be_quick, &steps), SQ_OK);
    assert_int_equal(steps.items, 101);
    assert_false(steps.elsewhere);
    backend->beside = (struct sq_beside){NULL, NULL};
    assert_int_equal(ops->parallel(backend, 50, be_quick, &steps), SQ_OK);
    assert_int_equal(steps.items, 151);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fetch),
        cmocka_unit_test(test_send),
        cmocka_unit_test(test_steps),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
