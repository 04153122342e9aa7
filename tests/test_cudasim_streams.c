/* Streams and events of the stand-in: what is ordered happens in order, whatever order it chooses; what is not shows.
 */
#define _DEFAULT_SOURCE /* setenv */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <cuda_runtime_api.h>

#include "cudasim_child.h"

/* Two streams, an event, and pieces of memory on both sides. */
struct pieces {
    cudaStream_t first, second;
    cudaEvent_t event;
    char *device, *pinned, host[64];
};

static struct pieces make(void)
{
    struct pieces p = {0};
    if (cudaStreamCreateWithFlags(&p.first, cudaStreamNonBlocking) ||
        cudaStreamCreateWithFlags(&p.second, cudaStreamNonBlocking) ||
        cudaEventCreateWithFlags(&p.event, cudaEventDisableTiming) || cudaMalloc((void **)&p.device, 64) ||
        cudaMallocHost((void **)&p.pinned, 64))
        abort();
    memset(p.pinned, 1, 64);
    return p;
}

/* Ends the child: 5 when the condition held and nothing was left behind. */
static void finish(struct pieces *p, bool good)
{
    bool clean = !cudaStreamDestroy(p->first) && !cudaStreamDestroy(p->second) && !cudaEventDestroy(p->event) &&
                 !cudaFree(p->device) && !cudaFreeHost(p->pinned);
    exit(good && clean ? 5 : 1);
}

static bool all_are(const char *bytes, char value)
{
    for (int i = 0; i < 64; i++)
        if (bytes[i] != value) return false;
    return true;
}

/* Runs body in a child under each order; says how often it ended as `code`. */
static int count_orders(void (*body)(void), int code)
{
    static const char *const orders[] = {"late", "early", "1", "2", "3", "4", "5", "6"};
    static char text[4096];
    int count = 0;
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        setenv("CUDASIM_ORDER", orders[i], 1);
        int status = child_run(body, 1, text, sizeof text);
        if (!WIFEXITED(status) || (WEXITSTATUS(status) != 5 && WEXITSTATUS(status) != 1))
            fail_msg("order %s: status %d: %s", orders[i], status, text);
        count += WEXITSTATUS(status) == code;
    }
    return count;
}

enum { n_orders = 8 };

/* --- what is right in every order --------------------------------------------------------------------------------- */

static void in_one_stream(void)
{
    struct pieces p = make();
    cudaMemsetAsync(p.device, 2, 64, p.first);
    cudaMemcpyAsync(p.pinned, p.device, 64, cudaMemcpyDeviceToHost, p.first);
    cudaMemsetAsync(p.device, 3, 64, p.first);
    cudaStreamSynchronize(p.first);
    finish(&p, all_are(p.pinned, 2));
}

static void with_event(void)
{
    struct pieces p = make();
    cudaMemsetAsync(p.device, 2, 64, p.first);
    cudaEventRecord(p.event, p.first);
    cudaStreamWaitEvent(p.second, p.event, 0);
    cudaMemcpyAsync(p.pinned, p.device, 64, cudaMemcpyDeviceToHost, p.second);
    cudaStreamSynchronize(p.second);
    finish(&p, all_are(p.pinned, 2) && cudaEventQuery(p.event) == cudaSuccess);
}

/* A wait is for the record before it; a later record of the same event is none of its business. */
static void recorded_again(void)
{
    struct pieces p = make();
    cudaMemsetAsync(p.device, 2, 64, p.first);
    cudaEventRecord(p.event, p.first);
    cudaStreamWaitEvent(p.second, p.event, 0);
    cudaEventRecord(p.event, p.second);
    cudaMemcpyAsync(p.pinned, p.device, 64, cudaMemcpyDeviceToHost, p.second);
    cudaEventRecord(p.event, p.second);
    cudaEventSynchronize(p.event);
    finish(&p, all_are(p.pinned, 2));
}

/* Asking again and again gets there, through the wait for the other stream. */
static void by_queries(void)
{
    struct pieces p = make();
    cudaMemsetAsync(p.device, 2, 64, p.first);
    cudaEventRecord(p.event, p.first);
    cudaStreamWaitEvent(p.second, p.event, 0);
    cudaMemcpyAsync(p.pinned, p.device, 64, cudaMemcpyDeviceToHost, p.second);
    int asked = 0;
    for (cudaError_t status = cudaErrorNotReady; status == cudaErrorNotReady && asked < 1000; asked++)
        status = cudaStreamQuery(p.second);
    finish(&p, asked < 1000 && all_are(p.pinned, 2));
}

static void freed_while_queued(void)
{
    struct pieces p = make();
    char *more;
    cudaMalloc((void **)&more, 64);
    cudaMemsetAsync(more, 2, 64, p.first);
    cudaMemcpyAsync(p.pinned, more, 64, cudaMemcpyDeviceToHost, p.first);
    finish(&p, cudaFree(more) == cudaSuccess && all_are(p.pinned, 2)); /* cudaFree waits for the device */
}

static void never_recorded(void)
{
    struct pieces p = make();
    bool good = cudaEventQuery(p.event) == cudaSuccess && cudaEventSynchronize(p.event) == cudaSuccess &&
                cudaStreamWaitEvent(p.first, p.event, 0) == cudaSuccess && cudaStreamQuery(p.first) == cudaSuccess;
    finish(&p, good);
}

static void right(void **state)
{
    (void)state;
    assert_int_equal(count_orders(in_one_stream, 5), n_orders);
    assert_int_equal(count_orders(with_event, 5), n_orders);
    assert_int_equal(count_orders(recorded_again, 5), n_orders);
    assert_int_equal(count_orders(by_queries, 5), n_orders);
    assert_int_equal(count_orders(freed_while_queued, 5), n_orders);
    assert_int_equal(count_orders(never_recorded, 5), n_orders);
}

/* --- what is wrong shows in some order, and in the default one ---------------------------------------------------- */

static void event_is_missing(void)
{
    struct pieces p = make();
    cudaMemsetAsync(p.device, 2, 64, p.first);
    cudaMemcpyAsync(p.pinned, p.device, 64, cudaMemcpyDeviceToHost, p.second);
    cudaStreamSynchronize(p.second);
    finish(&p, all_are(p.pinned, 2));
}

static void overwritten_too_early(void)
{
    struct pieces p = make();
    cudaMemsetAsync(p.device, 2, 64, p.first);
    cudaStreamSynchronize(p.first);
    cudaMemcpyAsync(p.pinned, p.device, 64, cudaMemcpyDeviceToHost, p.first);
    cudaMemsetAsync(p.device, 3, 64, p.second);
    cudaStreamSynchronize(p.second);
    cudaStreamSynchronize(p.first);
    finish(&p, all_are(p.pinned, 2));
}

static void host_does_not_wait(void)
{
    struct pieces p = make();
    cudaMemsetAsync(p.device, 2, 64, p.first);
    cudaMemcpyAsync(p.pinned, p.device, 64, cudaMemcpyDeviceToHost, p.first);
    finish(&p, all_are(p.pinned, 2));
}

static void source_is_changed(void)
{
    struct pieces p = make();
    cudaMemcpyAsync(p.device, p.pinned, 64, cudaMemcpyHostToDevice, p.first); /* ones */
    memset(p.pinned, 7, 64);
    cudaMemcpyAsync(p.pinned, p.device, 64, cudaMemcpyDeviceToHost, p.first);
    cudaStreamSynchronize(p.first);
    finish(&p, all_are(p.pinned, 1));
}

/* Memory that is not pinned: good for who waits at once, in another stream, too. */
static void pageable_alone(void)
{
    struct pieces p = make();
    memset(p.host, 3, 64);
    cudaMemcpyAsync(p.device, p.host, 64, cudaMemcpyHostToDevice, p.first);
    cudaEventRecord(p.event, p.second);
    cudaStreamSynchronize(p.first);
    cudaMemcpyAsync(p.host, p.device, 64, cudaMemcpyDeviceToHost, p.first);
    cudaStreamSynchronize(p.first);
    finish(&p, all_are(p.host, 3));
}

static void behind_pageable_in(void)
{
    struct pieces p = make();
    cudaMemcpyAsync(p.device, p.host, 64, cudaMemcpyHostToDevice, p.first);
    cudaMemsetAsync(p.device, 1, 64, p.first);
}

static void behind_pageable_out(void)
{
    struct pieces p = make();
    cudaMemcpy2DAsync(p.host, 8, p.device, 8, 8, 8, cudaMemcpyDeviceToHost, p.first);
    cudaEventRecord(p.event, p.first);
}

static void pageable(void **state)
{
    (void)state;
    assert_int_equal(count_orders(pageable_alone, 5), n_orders);
    unsetenv("CUDASIM_ORDER");
    assert_true(child_dies(behind_pageable_in,
                           "cudaMemsetAsync is queued behind a cudaMemcpyAsync of host memory that is not pinned"));
    assert_true(child_dies(behind_pageable_out,
                           "cudaEventRecord is queued behind a cudaMemcpy2DAsync of host memory that is not pinned"));
}

static int wrong_in_default(void (*body)(void))
{
    static char text[4096];
    unsetenv("CUDASIM_ORDER");
    return WEXITSTATUS(child_run(body, 1, text, sizeof text)) == 1;
}

static void wrong(void **state)
{
    static void (*const mistakes[])(void) = {event_is_missing, overwritten_too_early, host_does_not_wait,
                                             source_is_changed};
    (void)state;
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        assert_true(wrong_in_default(mistakes[i]));
        int seen = count_orders(mistakes[i], 1);
        assert_in_range(seen, 2, n_orders - 1); /* "early" hides every one of them */
    }
}

/* --- calls -------------------------------------------------------------------------------------------------------- */

static void times(void)
{
    struct pieces p = make();
    cudaEvent_t start, end;
    float milliseconds = -1;
    cudaEventCreateWithFlags(&start, cudaEventDefault);
    cudaEventCreateWithFlags(&end, cudaEventDefault);
    bool good = cudaEventElapsedTime(&milliseconds, start, end) == cudaErrorInvalidResourceHandle;
    cudaEventRecord(start, p.first);
    cudaMemsetAsync(p.device, 1, 64, p.first);
    cudaEventRecord(end, p.first);
    good = good && cudaEventElapsedTime(&milliseconds, start, end) == cudaErrorNotReady;
    cudaEventSynchronize(end);
    good = good && cudaEventElapsedTime(&milliseconds, start, end) == cudaSuccess && milliseconds >= 0;
    good = good && cudaEventElapsedTime(&milliseconds, start, p.event) == cudaErrorInvalidResourceHandle;
    finish(&p, good && !cudaEventDestroy(start) && !cudaEventDestroy(end));
}

static void bad_handles(void)
{
    struct pieces p = make();
    cudaStream_t none = (cudaStream_t)&p;
    bool good = cudaStreamSynchronize(none) == cudaErrorInvalidResourceHandle &&
                cudaStreamQuery(none) == cudaErrorInvalidResourceHandle &&
                cudaStreamDestroy(none) == cudaErrorInvalidResourceHandle &&
                cudaEventRecord(p.event, none) == cudaErrorInvalidResourceHandle &&
                cudaEventRecord((cudaEvent_t)&p, p.first) == cudaErrorInvalidResourceHandle &&
                cudaStreamWaitEvent(none, p.event, 0) == cudaSuccess && /* never recorded: nothing to wait for */
                cudaEventDestroy((cudaEvent_t)&p) == cudaErrorInvalidResourceHandle;
    cudaEventRecord(p.event, p.first);
    good = good && cudaStreamWaitEvent(none, p.event, 0) == cudaErrorInvalidResourceHandle;
    finish(&p, good);
}

static void calls(void **state)
{
    (void)state;
    unsetenv("CUDASIM_ORDER");
    assert_true(child_exits(times, 5, NULL));
    assert_true(child_exits(bad_handles, 5, "no such stream"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(right), cmocka_unit_test(wrong), cmocka_unit_test(pageable),
                                       cmocka_unit_test(calls)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
