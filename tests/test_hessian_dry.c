/* What the sums of slices over ranks take, by the clock of a backend that computes nothing: the sum of a slice goes on
 * beside the products of the next one. */
#define _GNU_SOURCE
#include "fixed_links.h"

#include "gptq/hessian.h"
#include "mpi/comm_memory.h"
#include "tensor/cuda_traits.h"
#include "tensor/dry.h"

enum { PANEL = 16, N = 4 * PANEL, TOKENS = 5 };
#define SLICE (2 * 4 * PANEL * PANEL) /* half of it has room for the last panel, and for the first two */

/* How a Hessian is made. */
struct setting {
    int n_ranks, root;
    int64_t slice; /* of sq_sizes */
    const struct sq_backend_traits *traits;
    bool on_host; /* inputs */
};

struct times {
    double backend, link; /* seconds */
    int64_t n_sums;
};

/* One operation of a product a second; the rest takes no time. */
static struct times make(const struct setting *setting, double sum)
{
    const struct fixed_links links = {{fixed_link_seconds}, 1u << SQ_TRAFFIC_SUM | 1u << SQ_TRAFFIC_REDUCE, sum};
    struct sq_traffic traffic = {.is_dry = true, .links = &links.base};
    const struct sq_comm comm = {.size = setting->n_ranks, .traffic = &traffic};
    struct sq_rates rates = {.operation_seconds = 0};
    struct sq_backend *backend;
    struct sq_hessian_workspace workspace;
    const struct sq_shards shards = sq_shards_make(1, 1, 0, 1);
    float *x, *hessian;
    for (int i = 0; i < SQ_N_WORK; i++)
        rates.of[i].per_second = i == SQ_WORK_GRAM_F32 ? 1 : 1e30;
    assert_int_equal(sq_backend_create_dry(setting->traits, 1, &rates, &backend), SQ_OK);
    backend->sizes.hessian_panel = PANEL;
    backend->sizes.hessian_slice = setting->slice;
    const struct sq_hessian_rooms rooms = {.bytes = TOKENS * N * sizeof *x, .count = setting->on_host};
    assert_int_equal(sq_hessian_create(backend, N, &rooms, &workspace), SQ_OK);
    assert_int_equal(backend->ops->alloc(backend, "inputs", TOKENS * N * sizeof *x, (void **)&x), SQ_OK);
    assert_int_equal(backend->ops->alloc(backend, "H", N * N * sizeof *hessian, (void **)&hessian), SQ_OK);
    const struct sq_hessian_inputs inputs = {&shards, TOKENS, sq_matrix_view(x, SQ_F32, TOKENS, N), setting->on_host};
    assert_int_equal(sq_hessian_make(backend, &comm, setting->root, "a layer", &inputs, &workspace,
                                     sq_matrix_view(hessian, SQ_F32, N, N)),
                     SQ_OK);
    struct times times = {.backend = sq_dry_seconds(backend)};
    times.n_sums = traffic.calls[SQ_TRAFFIC_SUM] + traffic.calls[SQ_TRAFFIC_REDUCE];
    if (setting->n_ranks > 1) times.n_sums--; /* the exponents' maximum, which counts as one */
    times.link = sum * (double)times.n_sums - traffic.seconds_beside;
    backend->ops->free(backend, x);
    backend->ops->free(backend, hessian);
    sq_hessian_destroy(backend, &workspace);
    backend->ops->destroy(backend);
    return times;
}

/* Seconds of the products of a panel, by its number from 0. */
static double products(int64_t panel)
{
    return 2 * TOKENS * (double)(PANEL * PANEL * panel + PANEL * (PANEL + 1) / 2);
}

static void check(const struct setting *setting, double sum, int64_t n_sums, double link)
{
    struct times times = make(setting, sum);
    assert_int_equal(times.n_sums, n_sums);
    assert_float_equal(times.backend, products(0) + products(1) + products(2) + products(3), 1e-3);
    assert_float_equal(times.link, link, 1e-3);
}

/* Three slices: two panels, the third, the last. Beside the products of the third goes the first sum, beside those of
 * the last one the second; when they take longer the sums follow each other. */
static void test_beside(void **state)
{
    (void)state;
    const double third = products(2), last = products(3);
    for (int root = -1; root < 2; root++) {
        const struct setting halves = {2, root, SLICE, &sq_cuda_traits, false};
        check(&halves, 0, 3, 0);
        check(&halves, third, 3, third);
        check(&halves, third + 10, 3, 10 + third + 10);
        check(&halves, last, 3, last - third + last);
        check(&halves, last + 10, 3, 3 * (last + 10) - third - last);
        check(&halves, 1e5, 3, 3e5 - third - last);
    }
}

/* Each is waited for: one slice; panels too large for halves; the host's own memory; inputs that come from there. */
static void test_waited_for(void **state)
{
    (void)state;
    check(&(struct setting){2, -1, 2 * SLICE, &sq_cuda_traits, false}, 100, 1, 100);
    check(&(struct setting){2, -1, SLICE - 1, &sq_cuda_traits, false}, 100, 2, 200);
    check(&(struct setting){2, -1, SLICE, &sq_cpu_traits, false}, 100, 2, 200);
    check(&(struct setting){2, -1, SLICE, &sq_cuda_traits, true}, 100, 2, 200);
    check(&(struct setting){1, -1, SLICE, &sq_cuda_traits, false}, 100, 0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_beside), cmocka_unit_test(test_waited_for)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
