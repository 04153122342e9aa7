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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_off),
        cmocka_unit_test(test_spans),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
