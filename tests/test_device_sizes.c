/* Products, factor and solve in pieces of the sizes that a device gets, each a little exceeded: in other tests the
 * stand-in has small ones. On the CPU they are its own. */
#include "base/half.h"
#include "solve_fixture.h"
#include "tensor/cuda_traits.h"

static struct sq_sizes own_sizes(void)
{
    return (backend_in_host_memory() ? &sq_cpu_traits : &sq_cuda_traits)->sizes;
}

/* --- products ----------------------------------------------------------------------------------------------------- */

/* Small whole numbers, of which sums are exact. */
static float small(int64_t i)
{
    return (float)(i * 7919 % 13 - 6);
}

static void *make_bf16(int64_t count)
{
    uint16_t *values = malloc((size_t)count * sizeof *values);
    for (int64_t i = 0; i < count; i++)
        values[i] = sq_f32_to_bf16(small(i));
    return values;
}

/* With a bias: on a device two pieces of rows, more than SQ_CUDA_ROOM_ROWS, and of the columns that fit the room then.
 */
static void test_linear(void **state)
{
    enum { M = 4100, N = 3900, K = 2 };
    (void)state;
    struct sq_backend *backend;
    assert_int_equal(backend_create(1, &backend), SQ_OK);
    if (!backend->has_bf16) {
        backend->ops->destroy(backend);
        skip();
    }
    void *x = make_bf16(M * K), *w = make_bf16(N * K), *given[4];
    uint16_t *y = make_bf16(M * N);
    float *bias = malloc(N * sizeof *bias);
    for (int64_t j = 0; j < N; j++)
        bias[j] = 0.5f * small(3 * j);
    const size_t bytes[4] = {2 * M * K, 2 * N * K, N * sizeof *bias, 2 * M * N};
    const void *const values[4] = {x, w, bias, y};
    for (int i = 0; i < 4; i++)
        given[i] = backend_give(backend, values[i], bytes[i]);
    assert_int_equal(backend->ops->linear(backend, sq_matrix_view(given[0], SQ_BF16, M, K),
                                          sq_matrix_view(given[1], SQ_BF16, N, K), given[2],
                                          sq_matrix_view(given[3], SQ_BF16, M, N)),
                     SQ_OK);
    backend_take(backend, given[3], bytes[3], y);
    for (int64_t i = 0; i < M; i++)
        for (int64_t j = 0; j < N; j++) {
            float sum = small(K * i) * small(K * j) + small(K * i + 1) * small(K * j + 1) + bias[j];
            if (y[i * N + j] != sq_f32_to_bf16(sum)) fail_msg("row %d, column %d", (int)i, (int)j);
        }
    for (int i = 0; i < 4; i++)
        backend_free(backend, given[i]);
    backend->ops->destroy(backend);
    free(x);
    free(w);
    free(bias);
    free(y);
}

/* --- factor ------------------------------------------------------------------------------------------------------- */

/* y = M D M' v, M unit upper triangular: M_ik stands at unit[k, i]. */
static void multiply_factor(int64_t n, const float *unit, const float *variance, const int32_t *order, const double *v,
                            double *y)
{
    memset(y, 0, (size_t)n * sizeof *y);
    for (int64_t k = 0; k < n; k++) {
        double sum = 0;
        for (int64_t i = 0; i <= k; i++)
            sum += (double)unit[k * n + i] * v[i];
        for (int64_t i = 0; i <= k; i++)
            y[i] += (double)unit[k * n + i] * (double)variance[order[k]] * sum;
    }
}

/* H_perm + ridge I = M D M' where both meet a vector; bounds as in test_factor.c. */
static void check_factor(const struct layer *layer, const struct sq_factor *factor, const float *unit,
                         const float *variance, uint64_t seed)
{
    int64_t n = layer->n;
    double *h = fixture_exact_hessian(layer), *v = malloc((size_t)n * sizeof *v), *y = malloc((size_t)n * sizeof *y);
    for (int64_t i = 0; i < n; i++)
        v[i] = fixture_normal(&seed);
    multiply_factor(n, unit, variance, factor->order, v, y);
    for (int64_t i = 0; i < n; i++) {
        int64_t a = factor->order[i];
        double sum = factor->ridge * v[i], size = 0;
        for (int64_t j = 0; j < n; j++) {
            int64_t b = factor->order[j];
            sum += h[a * n + b] * v[j];
            size += sqrt((h[a * n + a] + factor->ridge) * (h[b * n + b] + factor->ridge)) * fabs(v[j]);
        }
        assert_true(fabs(y[i] - sum) < 2e-5 * size);
    }
    free(h);
    free(v);
    free(y);
}

static void test_factor(void **state)
{
    (void)state;
    struct sq_sizes sizes = own_sizes();
    int64_t n = sizes.factor_rows + sizes.factor_tile + 40; /* two pieces below the first tile */
    struct layer layer = fixture_layer(1, n, 24, 11, 5);
    struct sq_backend *backend;
    struct sq_factor factor;
    assert_int_equal(backend_create(2, &backend), SQ_OK);
    assert_int_equal(sq_factor_create(backend, n, SQ_FACTOR_ALONE, &factor), SQ_OK);
    fixture_set_hessian(backend, &layer, &factor);
    assert_int_equal(sq_factor_make(backend, &(struct sq_comm){.size = 1}, n, SQ_ORDER_ACTIVATION, 0.01, &factor),
                     SQ_OK);
    assert_int_equal(factor.n_rungs, 0);
    float *unit = backend_read(backend, factor.unit), *variance = backend_read(backend, factor.diagonal);
    for (uint64_t seed = 1; seed < 4; seed++)
        check_factor(&layer, &factor, unit, variance, seed);
    free(unit);
    free(variance);
    sq_factor_destroy(backend, &factor);
    backend->ops->destroy(backend);
    layer_free(&layer);
}

/* --- solve -------------------------------------------------------------------------------------------------------- */

/* Rows at both ends of both tiles and between. GPTQ's loss is the error only if each column was updated as it should.
 */
static void check_rows(const struct layer *layer, const struct sq_solve_options *options, const struct solved *solved)
{
    double *h = fixture_exact_hessian(layer);
    for (int64_t r = 0; r < layer->rows; r += r + 8 < layer->rows ? 1 + layer->rows / 24 : 1) {
        double error = fixture_row_error(layer, &options->grid, h, solved, r);
        assert_true(fabs(solved->result.error[r] - error) <= 1e-4 * error + 1e-7 * solved->result.norm[r]);
        assert_true(error < solved->result.error_rtn[r]);
    }
    free(h);
}

static void test_solve(void **state)
{
    (void)state;
    const struct sq_sizes sizes = own_sizes();
    struct layer layer = fixture_layer(sizes.solve_rows + 6, sizes.solve_columns + 137, 60, 11, 7);
    struct sq_solve_options options = {.grid_kind = SQ_GRID_REFERENCE,
                                       .order = SQ_ORDER_ACTIVATION,
                                       .static_groups = true,
                                       .grid = {4, true, 128, SQ_F16}};
    struct solved solved;
    assert_int_equal(fixture_solve(&layer, &options, 0.01, 2, &solved), SQ_OK);
    check_rows(&layer, &options, &solved);
    solved_free(&solved);
    layer_free(&layer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_linear), cmocka_unit_test(test_factor),
                                       cmocka_unit_test(test_solve)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
