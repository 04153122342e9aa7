/* The backend that computes nothing: what its clock shows follows from its rates. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "tensor/dry.h"
#include "tensor/solve_ops.h"

static struct sq_rates rates; /* one a second of everything, until a test changes it */

static int set_up(void **state)
{
    (void)state;
    rates = (struct sq_rates){.operation_seconds = 0};
    for (int i = 0; i < SQ_N_WORK; i++)
        rates.of[i].per_second = 1;
    return 0;
}

static struct sq_backend *make(const struct sq_backend_traits *traits, int n_workers)
{
    struct sq_backend *backend;
    assert_int_equal(sq_backend_create_dry(traits, n_workers, &rates, &backend), SQ_OK);
    return backend;
}

static enum sq_status multiply(struct sq_backend *backend, int64_t m, int64_t n, int64_t k)
{
    struct sq_matrix x = sq_matrix_view(NULL, SQ_F32, m, k), w = sq_matrix_view(NULL, SQ_F32, n, k);
    return backend->ops->linear(backend, x, w, NULL, sq_matrix_view(NULL, SQ_F32, m, n));
}

/* A piece of size s is done at rate s / (s + half). */
static void test_rate_by_size(void **state)
{
    (void)state;
    rates.of[SQ_WORK_F32] = (struct sq_rate){100, 4};
    rates.operation_seconds = 0.5;
    struct sq_backend *backend = make(&sq_cpu_traits, 1);
    assert_int_equal(multiply(backend, 10, 20, 4), SQ_OK);
    assert_float_equal(sq_dry_seconds(backend), 0.5 + 2 * 10 * 20 * 4 * 2 / 100.0, 1e-9);
    assert_float_equal(sq_dry_work(backend)[SQ_WORK_F32], 1600, 0);
    backend->ops->destroy(backend);
}

/* Item i takes i + 1 seconds. */
static enum sq_status spend(void *context, int64_t index, int worker)
{
    (void)worker;
    return multiply(context, index + 1, 1, 1);
}

static double seconds_of_items(const struct sq_backend_traits *traits, int n_workers, int64_t count)
{
    struct sq_backend *backend = make(traits, n_workers);
    assert_int_equal(backend->ops->parallel(backend, count, spend, backend), SQ_OK);
    double seconds = sq_dry_seconds(backend);
    backend->ops->destroy(backend);
    return seconds;
}

/* The next item goes to whoever is free first; workers of a device have its speed together. */
static void test_items(void **state)
{
    (void)state;
    rates.of[SQ_WORK_F32].per_second = 2;
    assert_float_equal(seconds_of_items(&sq_cpu_traits, 1, 4), 1 + 2 + 3 + 4, 1e-9);
    assert_float_equal(seconds_of_items(&sq_cpu_traits, 2, 4), 6, 1e-9); /* 1 and 3 | 2 and 4 */
    assert_float_equal(seconds_of_items(&sq_cpu_traits, 9, 4), 4, 1e-9);
    assert_float_equal(seconds_of_items(&sq_cuda_traits, 4, 4), 1 + 2 + 3 + 4, 1e-9);
    rates.parallel_seconds = 0.25;
    assert_float_equal(seconds_of_items(&sq_cpu_traits, 9, 4), 4.25, 1e-9);
    assert_float_equal(seconds_of_items(&sq_cpu_traits, 9, 0), 0.25, 1e-9);
}

static enum sq_status multiply_once(void *context)
{
    return multiply(context, 3, 1, 1);
}

/* A span is taken off the clock, and can be spent more than once. */
static void test_spans(void **state)
{
    (void)state;
    struct sq_backend *backend = make(&sq_cpu_traits, 1);
    struct sq_dry_span span;
    assert_int_equal(multiply(backend, 1, 1, 1), SQ_OK);
    assert_int_equal(sq_dry_measure(backend, multiply_once, backend, &span), SQ_OK);
    assert_float_equal(sq_dry_seconds(backend), 2, 1e-9);
    assert_float_equal(sq_dry_work(backend)[SQ_WORK_F32], 2, 0);
    sq_dry_spend(backend, &span);
    sq_dry_spend(backend, &span);
    assert_float_equal(sq_dry_seconds(backend), 14, 1e-9);
    assert_float_equal(sq_dry_work(backend)[SQ_WORK_F32], 14, 0);
    backend->ops->destroy(backend);
}

static enum sq_status multiply_in_items(void *context)
{
    struct sq_backend *backend = context;
    SQ_TRY(multiply(backend, 1, 1, 1));
    return backend->ops->parallel(backend, 2, spend, backend);
}

/* What somebody else does takes as long, but none of this backend's time; a wait is no work. */
static void test_elsewhere(void **state)
{
    (void)state;
    struct sq_backend *backend = make(&sq_cpu_traits, 2);
    double seconds = 0;
    assert_int_equal(multiply(backend, 1, 1, 1), SQ_OK);
    assert_int_equal(sq_dry_elsewhere(backend, multiply_in_items, backend, &seconds), SQ_OK);
    assert_float_equal(seconds, 2 + 4, 1e-9);
    assert_float_equal(sq_dry_seconds(backend), 2, 1e-9);
    assert_float_equal(sq_dry_work(backend)[SQ_WORK_F32], 2, 0);
    sq_dry_wait(backend, 0.5);
    assert_float_equal(sq_dry_seconds(backend), 2.5, 1e-9);
    assert_float_equal(sq_dry_work(backend)[SQ_WORK_F32], 2, 0);
    backend->ops->destroy(backend);
}

/* Bytes that the system has promised to this process. */
static long long promised_bytes(void)
{
    long long kilobytes = -1;
    char line[256];
    FILE *file = fopen("/proc/self/status", "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file))
        (void)sscanf(line, "VmData: %lld kB", &kilobytes);
    fclose(file);
    assert_true(kilobytes >= 0);
    return kilobytes << 10;
}

/* Where the system promises no more than it has, addresses are to be had all the same. */
static void test_nothing_is_promised(void **state)
{
    (void)state;
    struct sq_backend *backend = make(&sq_cuda_traits, 0);
    void *memory, *host;
    long long before = promised_bytes();
    assert_int_equal(backend->ops->alloc(backend, "a lot", (size_t)1 << 40, &memory), SQ_OK);
    assert_true(promised_bytes() - before < 1 << 24);
    assert_int_equal(*((const char *)memory + 12345), 0);
    assert_int_equal(backend->ops->alloc_host(backend, "a little", 1 << 20, &host), SQ_OK);
    memset(host, 1, 1 << 20);
    backend->ops->free_host(backend, host);
    backend->ops->free(backend, memory);
    backend->ops->destroy(backend);
}

/* Memory larger than the machine's, of which a download gives zeros. */
static void test_memory(void **state)
{
    (void)state;
    struct sq_backend *backend = make(&sq_cuda_traits, 0);
    void *memory;
    char bytes[4] = "xyz";
    assert_int_equal(backend->n_workers, sq_cuda_traits.n_workers);
    assert_int_equal(backend->ops->alloc(backend, "a lot", (size_t)1 << 42, &memory), SQ_OK);
    assert_int_equal(backend->ops->download(backend, (char *)memory + ((size_t)1 << 41), 4, bytes), SQ_OK);
    assert_memory_equal(bytes, "\0\0\0\0", 4);
    assert_float_equal(sq_dry_seconds(backend), 4, 1e-9);
    backend->ops->free(backend, memory);
    backend->ops->destroy(backend);
}

/* One by one, for windows that are none, narrow, as long as the sample, and longer. */
static void test_attention_pairs(void **state)
{
    (void)state;
    static const int64_t windows[] = {0, 1, 5, 16, 17, 40};
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
        int64_t pairs = 0;
        for (int64_t t = 1; t <= 17; t++)
            pairs += windows[i] && windows[i] < t ? windows[i] : t;
        assert_float_equal(sq_attention_pairs(17, windows[i]), pairs, 0);
    }
}

/* Every operation has a slot. */
static void test_slots(void **state)
{
    (void)state;
    struct sq_backend *backend = make(&sq_cpu_traits, 1);
    void *const *slots = (void *const *)(const void *)backend->ops;
    for (size_t i = 0; i < sizeof *backend->ops / sizeof *slots; i++)
        assert_non_null(slots[i]);
    slots = (void *const *)(const void *)backend->ops->solve;
    for (size_t i = 0; i < sizeof *backend->ops->solve / sizeof *slots; i++)
        assert_non_null(slots[i]);
    backend->ops->destroy(backend);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_rate_by_size, set_up),    cmocka_unit_test_setup(test_items, set_up),
        cmocka_unit_test_setup(test_spans, set_up),           cmocka_unit_test_setup(test_memory, set_up),
        cmocka_unit_test_setup(test_slots, set_up),           cmocka_unit_test_setup(test_nothing_is_promised, set_up),
        cmocka_unit_test_setup(test_attention_pairs, set_up), cmocka_unit_test_setup(test_elsewhere, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
