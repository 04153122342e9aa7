/* Products, Hessian, factor and solve in pieces of the sizes that a device gets, each a little exceeded: in other tests
 * the stand-in has small ones. On the CPU they are its own. */
#include "base/half.h"
#include "gptq/hessian.h"
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

/* --- Hessian ------------------------------------------------------------------------------------------------------ */

/* (x'x)[i, j] of x [tokens, n] */
static double product_at(const float *x, int64_t tokens, int64_t n, int64_t i, int64_t j)
{
    double sum = 0;
    for (int64_t t = 0; t < tokens; t++)
        sum += (double)x[t * n + i] * (double)x[t * n + j];
    return sum;
}

/* Two panels, of inputs that are small whole numbers: each sum over tokens is exact, and so is H, rounded once. Its
 * unit is a power of two. */
static void test_hessian(void **state)
{
    enum { LENGTH = 9, SAMPLES = 3, TOKENS = SAMPLES * LENGTH };
    (void)state;
    int64_t n = own_sizes().hessian_panel + 76;
    struct sq_shards shards = sq_shards_make(SAMPLES, SAMPLES, 0, 1);
    struct sq_backend *backend;
    struct sq_hessian_workspace workspace;
    float *x = malloc((size_t)(TOKENS * n) * sizeof *x), *h = malloc((size_t)(n * n) * sizeof *h);
    for (int64_t i = 0; i < TOKENS * n; i++)
        x[i] = small(i);
    memset(h, 0, (size_t)(n * n) * sizeof *h);
    assert_int_equal(backend_create(2, &backend), SQ_OK);
    assert_int_equal(sq_hessian_create(backend, n, &(struct sq_hessian_rooms){0}, &workspace), SQ_OK);
    void *given = backend_give(backend, x, (size_t)(TOKENS * n) * sizeof *x);
    struct sq_matrix out = sq_matrix_view(backend_give(backend, h, (size_t)(n * n) * sizeof *h), SQ_F32, n, n);
    const struct sq_hessian_inputs inputs = {&shards, LENGTH, sq_matrix_view(given, SQ_F32, TOKENS, n), false};
    assert_int_equal(sq_hessian_make(backend, &(struct sq_comm){.size = 1}, -1, "a layer", &inputs, &workspace, out),
                     SQ_OK);
    backend_take(backend, out.data, (size_t)(n * n) * sizeof *h, h);
    const double to_mean = 2.0 / TOKENS, unit = exp2(round(log2(h[0] / (to_mean * product_at(x, TOKENS, n, 0, 0)))));
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            if (h[i * n + j] != (float)(unit * to_mean * product_at(x, TOKENS, n, i, j)))
                fail_msg("row %d, column %d", (int)i, (int)j);
    backend_free(backend, given);
    backend_free(backend, out.data);
    sq_hessian_destroy(backend, &workspace);
    backend->ops->destroy(backend);
    free(x);
    free(h);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_linear), cmocka_unit_test(test_hessian),
                                       cmocka_unit_test(test_factor), cmocka_unit_test(test_solve)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
