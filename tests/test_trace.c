/* What a process keeps of its own run. */
#define _POSIX_C_SOURCE 200809L
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/clock.h"
#include "base/node.h"
#include "base/trace.h"

#define LONG 1e-3 /* seconds; spans that "began" so long ago are kept */

static void test_off(void **state)
{
    (void)state;
    int64_t count = -1;
    int n_sums = -1;
    assert_true(sq_trace_now() == 0);
    sq_trace_add(SQ_TRACE_STAGE, "solve", sq_seconds() - LONG, 0);
    sq_trace_spans(&count);
    sq_trace_sums(&n_sums);
    assert_int_equal(count, 0);
    assert_int_equal(n_sums, 0);
}

static void wait_for(double seconds)
{
    for (double since = sq_seconds(); sq_seconds() - since < seconds;)
        continue;
}

/* A stage gets the bytes of the collectives since the last one; what is short is only counted. */
static void test_spans(void **state)
{
    (void)state;
    int64_t count;
    int n_sums;
    sq_trace_start();
    wait_for(3 * LONG);
    sq_trace_set_block(7);
    sq_trace_add(SQ_TRACE_COLLECTIVE, "agree", sq_seconds() - 2 * LONG, 4);
    sq_trace_add(SQ_TRACE_COLLECTIVE, "agree", sq_seconds(), 4);
    sq_trace_add(SQ_TRACE_STAGE, "solve", sq_seconds() - 2 * LONG, 0);
    sq_trace_add(SQ_TRACE_STAGE, "solve", sq_seconds() - LONG, 0);
    sq_trace_pause();
    sq_trace_add(SQ_TRACE_STAGE, "solve", sq_seconds() - LONG, 0);
    const struct sq_trace_span *spans = sq_trace_spans(&count);
    const struct sq_trace_sum *sums = sq_trace_sums(&n_sums);
    assert_int_equal(count, 3);
    assert_int_equal(n_sums, 2);
    assert_string_equal(sums[0].name, "agree");
    assert_int_equal(sums[0].calls, 2);
    assert_int_equal(sums[0].bytes, 8);
    assert_int_equal(sums[1].calls, 2);
    assert_int_equal(spans[1].kind, SQ_TRACE_STAGE);
    assert_int_equal(spans[1].bytes, 8);
    assert_int_equal(spans[2].bytes, 0);
    assert_int_equal(spans[1].block, 7);
    assert_true(spans[1].start >= 0 && spans[1].seconds >= 2 * LONG);
    assert_true(spans[1].held > 0);
    sq_trace_stop();
}

/* What began before the trace counts from its beginning; more spans than there is room for at first. */
static void test_many(void **state)
{
    (void)state;
    int64_t count;
    sq_trace_start();
    wait_for(LONG);
    for (int i = 0; i < 10000; i++)
        sq_trace_add(SQ_TRACE_COLLECTIVE, i % 2 ? "sum" : "gather", sq_seconds() - 1, i);
    const struct sq_trace_span *spans = sq_trace_spans(&count);
    assert_int_equal(count, 10000);
    assert_true(spans[0].start == 0 && spans[0].seconds < 1);
    assert_int_equal(spans[9999].bytes, 9999);
    assert_int_equal(spans[9999].block, -1);
    sq_trace_stop();
    sq_trace_spans(&count);
    assert_int_equal(count, 0);
}

/* Beside the stages: named by the stage, joined where they go on at once, and in no sum. */
static void test_beside(void **state)
{
    (void)state;
    int64_t count;
    int n_sums;
    sq_trace_start();
    double begin = sq_seconds();
    sq_trace_add_beside(SQ_TRACE_COMPUTE, 1, NULL, begin, LONG, 10);
    sq_trace_add_beside(SQ_TRACE_COMPUTE, 1, NULL, begin + LONG, LONG, 5);
    sq_trace_add_beside(SQ_TRACE_COMPUTE, 2, NULL, begin + 2 * LONG, LONG, 0); /* another stream */
    sq_trace_add_beside(SQ_TRACE_COMPUTE, 1, NULL, begin + 4 * LONG, LONG, 0); /* later */
    sq_trace_add(SQ_TRACE_STAGE, "solve", begin, 0);
    sq_trace_add_beside(SQ_TRACE_COMPUTE, 1, NULL, begin + 5 * LONG, LONG, 0);  /* at once, but of no stage yet */
    sq_trace_add_beside(SQ_TRACE_COPY_IN, 1000, "weights", begin - 1, LONG, 7); /* before the trace */
    sq_trace_add_beside(SQ_TRACE_COPY_IN, 1000, "weights", begin, LONG, 7);
    const struct sq_trace_span *spans = sq_trace_spans(&count);
    sq_trace_sums(&n_sums);
    assert_int_equal(n_sums, 1);
    assert_string_equal(spans[0].name, "solve");
    assert_int_equal(spans[0].bytes, 15);
    assert_true(spans[0].seconds > 1.9 * LONG && spans[0].seconds < 2.1 * LONG);
    assert_int_equal(spans[1].stream, 2);
    assert_string_equal(spans[2].name, "solve");
    assert_null(spans[count - 2].name);
    assert_int_equal(spans[count - 1].stream, SQ_TRACE_STREAMS - 1);
    assert_string_equal(spans[count - 1].name, "weights");
    sq_trace_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_off),
        cmocka_unit_test(test_spans),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_beside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
