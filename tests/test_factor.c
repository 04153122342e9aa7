/* The factor against a double-precision Cholesky, dead inputs, order, and every rung of the damping ladder. */
#include "solve_fixture.h"

/* Runs sq_factor_make() on h [n, n]; the backend is left in *backend_p for what the test reads. */
static enum sq_status make_factor(int64_t n, const float *h, enum sq_order order, double damping, int n_threads,
                                  struct sq_backend **backend_p, struct sq_factor *factor_p)
{
    assert_int_equal(backend_create(n_threads, backend_p), SQ_OK);
    assert_int_equal(sq_factor_create(*backend_p, n + 5, SQ_FACTOR_ALONE, factor_p),
                     SQ_OK); /* larger than needed, as in a job */
    factor_p->hessian = sq_matrix_view(factor_p->hessian.data, SQ_F32, n, n);
    assert_int_equal((*backend_p)->ops->upload(*backend_p, h, (size_t)(n * n) * sizeof(float), factor_p->hessian.data),
                     SQ_OK);
    return sq_factor_make(*backend_p, &(struct sq_comm){.size = 1}, n, order, damping, factor_p);
}

static void drop_factor(struct sq_backend *backend, struct sq_factor *factor)
{
    sq_factor_destroy(backend, factor);
    backend->ops->destroy(backend);
}

/* H_perm + ridge I = M D M', M upper with ones, both from the factor; relative to sqrt(H_ii H_jj), which bounds |H_ij|.
 */
static void check_product(struct sq_backend *backend, const struct layer *layer, const struct sq_factor *factor)
{
    int64_t n = layer->n;
    float *unit = backend_read(backend, factor->unit), *variance = backend_read(backend, factor->diagonal);
    double *h = fixture_exact_hessian(layer), worst = 0;
    for (int64_t i = 0; i < n; i++) {
        assert_true(unit[i * n + i] == 1.0f);
        for (int64_t j = 0; j <= i; j++) {
            double sum = 0; /* sum_k M_ik D_k M_jk over k >= i; M_ik stands at unit[k, i] */
            for (int64_t k = i; k < n; k++)
                sum += (double)unit[k * n + i] * (double)variance[factor->order[k]] * (double)unit[k * n + j];
            int64_t a = factor->order[i], b = factor->order[j];
            double exact = h[a * n + b] + (i == j ? factor->ridge : 0);
            double size = sqrt((h[a * n + a] + factor->ridge) * (h[b * n + b] + factor->ridge));
            worst = fmax(worst, fabs(sum - exact) / size);
        }
    }
    free(h);
    free(unit);
    free(variance);
    assert_true(worst < 2e-5); /* f32 backward error, about n * 2^-24 at the worst, and n is 600 at most */
}

static void test_product(void **state)
{
    (void)state;
    const int64_t sizes[] = {1, 7, 255, 257, 600}; /* inside a tile, at its edge, several tiles and a rest */
    for (int s = 0; s < 5; s++) {
        for (int order = SQ_ORDER_ACTIVATION; order <= SQ_ORDER_NATURAL; order++) {
            struct layer layer = fixture_layer(1, sizes[s], 300, sizes[s] > 20 ? 11 : -1, 5);
            struct sq_backend *backend;
            struct sq_factor factor;
            assert_int_equal(make_factor(sizes[s], layer.hessian, (enum sq_order)order, 0.01, 1, &backend, &factor),
                             SQ_OK);
            assert_int_equal(factor.n_dead, sizes[s] > 20 ? 1 : 0);
            assert_int_equal(factor.n_rungs, 0);
            check_product(backend, &layer, &factor);
            drop_factor(backend, &factor);
            layer_free(&layer);
        }
    }
}

static void test_order(void **state)
{
    (void)state;
    float h[36] = {0};
    const float diagonal[6] = {2, 5, 5, 0, 9, 0.5f};
    for (int i = 0; i < 6; i++)
        h[i * 6 + i] = diagonal[i];
    struct sq_backend *backend;
    struct sq_factor factor;
    assert_int_equal(make_factor(6, h, SQ_ORDER_ACTIVATION, 0.1, 1, &backend, &factor), SQ_OK);
    const int32_t expected[6] = {4, 1, 2, 0, 3, 5}; /* equal ones keep their order; the dead input counts as 1 */
    assert_memory_equal(factor.order, expected, sizeof expected);
    assert_int_equal(factor.n_dead, 1);
    assert_int_equal(factor.dead[3], 1);
    float *hessian = backend_read(backend, factor.hessian);
    assert_true(hessian[3 * 6 + 3] == 1.0f);
    free(hessian);
    assert_true(fabs(factor.ridge - 0.1 * 21.5 / 5) < 1e-12); /* the mean is over live inputs */
    assert_true(factor.min_diagonal == 0.5);
    drop_factor(backend, &factor);
}

/* [[1, c], [c, 1]] repeated on the diagonal has the eigenvalue 1 - c: the ladder has to reach a lambda above c - 1. */
static void check_rung(double c, double damping, double expected, int n_rungs, bool diagonal_only)
{
    enum { N = 300 };
    float *h = calloc(N * N, sizeof *h);
    for (int64_t i = 0; i < N; i++) {
        h[i * N + i] = 1;
        h[i * N + (i ^ 1)] = (float)c;
    }
    struct sq_backend *backend;
    struct sq_factor factor;
    assert_int_equal(make_factor(N, h, SQ_ORDER_ACTIVATION, damping, 1, &backend, &factor), SQ_OK);
    assert_int_equal(factor.n_rungs, n_rungs);
    assert_int_equal(factor.diagonal_only, diagonal_only);
    assert_true(fabs(factor.damping - expected) < 1e-12);
    float *unit = backend_read(backend, factor.unit), *hessian = backend_read(backend, factor.hessian);
    if (diagonal_only)
        for (int64_t i = 0; i < N; i++)
            for (int64_t j = 0; j <= i; j++)
                assert_true(unit[i * N + j] == (i == j ? 1.0f : 0.0f));
    assert_memory_equal(hessian, h, N * N * sizeof *h); /* stays undamped */
    free(hessian);
    free(unit);
    drop_factor(backend, &factor);
    free(h);
}

static void test_ladder(void **state)
{
    (void)state;
    check_rung(0.9, 0.01, 0.01, 0, false);
    check_rung(1.05, 0.01, 0.1, 1, false);
    check_rung(1.5, 0.01, 1, 2, false);
    check_rung(3.0, 0.01, 1, 3, true);
    check_rung(1.5, 0.3, 1, 1, false); /* 10 x 0.3 is held to 1 */
    check_rung(1.005, 0, 0.01, 1, false);
    check_rung(0.9, 0, 0, 0, false);
}

/* Fewer samples than inputs: only the damping makes it positive definite. */
static void test_rank_deficient(void **state)
{
    (void)state;
    struct layer layer = fixture_layer(1, 300, 20, -1, 9);
    struct sq_backend *backend;
    struct sq_factor factor;
    assert_int_equal(make_factor(300, layer.hessian, SQ_ORDER_ACTIVATION, 0.01, 1, &backend, &factor), SQ_OK);
    assert_int_equal(factor.n_rungs, 0);
    check_product(backend, &layer, &factor);
    drop_factor(backend, &factor);
    layer_free(&layer);
}

static void test_all_dead(void **state)
{
    (void)state;
    float h[25] = {0};
    struct sq_backend *backend;
    struct sq_factor factor;
    assert_int_equal(make_factor(5, h, SQ_ORDER_ACTIVATION, 0.01, 1, &backend, &factor), SQ_OK);
    assert_int_equal(factor.n_dead, 5);
    drop_factor(backend, &factor);
}

static void test_bad_diagonal(void **state)
{
    (void)state;
    const float bad[] = {NAN, INFINITY, -1};
    for (int i = 0; i < 3; i++) {
        float h[4] = {1, 0, 0, bad[i]};
        struct sq_backend *backend;
        struct sq_factor factor;
        assert_int_equal(make_factor(2, h, SQ_ORDER_NATURAL, 0.01, 1, &backend, &factor), SQ_ERR_NUMERIC);
        drop_factor(backend, &factor);
    }
}

static void test_threads(void **state)
{
    (void)state;
    enum { N = 700 };
    struct layer layer = fixture_layer(1, N, 100, 3, 2);
    struct sq_backend *backends[2];
    struct sq_factor factors[2];
    for (int t = 0; t < 2; t++)
        assert_int_equal(make_factor(N, layer.hessian, SQ_ORDER_ACTIVATION, 0.01, t + 1, &backends[t], &factors[t]),
                         SQ_OK);
    float *units[2], *variances[2];
    for (int t = 0; t < 2; t++) {
        units[t] = backend_read(backends[t], factors[t].unit);
        variances[t] = backend_read(backends[t], factors[t].diagonal);
    }
    for (int64_t i = 0; i < N; i++)
        assert_memory_equal(units[0] + i * N, units[1] + i * N, (size_t)(i + 1) * sizeof(float));
    assert_memory_equal(variances[0], variances[1], N * sizeof(float));
    for (int t = 0; t < 2; t++) {
        drop_factor(backends[t], &factors[t]);
        free(units[t]);
        free(variances[t]);
    }
    layer_free(&layer);
}

static void test_no_memory(void **state)
{
    (void)state;
    struct sq_backend *backend;
    struct sq_factor factor;
    assert_int_equal(sq_backend_create_cpu(1, SQ_ISA_BEST, &backend), SQ_OK);
    enum sq_status status = SQ_ERR_MEMORY;
    int failures = 0;
    for (int64_t n = 1; status != SQ_OK; n++, failures++) {
        sq_memory_fail_at(n);
        status = sq_factor_create(backend, 10, SQ_FACTOR_ALONE, &factor);
        assert_true(status == SQ_OK || status == SQ_ERR_MEMORY);
    }
    sq_memory_fail_at(0);
    assert_int_equal(failures, 8); /* seven allocations, each refused once, and the run that passes */
    drop_factor(backend, &factor);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_product),        cmocka_unit_test(test_order),     cmocka_unit_test(test_ladder),
        cmocka_unit_test(test_rank_deficient), cmocka_unit_test(test_all_dead),  cmocka_unit_test(test_bad_diagonal),
        cmocka_unit_test(test_threads),        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
