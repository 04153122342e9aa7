/* OBQ against its definition: every remaining weight tried at every step, the inverse made afresh. */
#include "solve_fixture.h"

static void damp(const struct solved *solved, int64_t n, double *h)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            h[i * n + j] = i == j ? h[i * n + j] + solved->ridge : solved->diagonal_only ? 0 : h[i * n + j];
}

/* f64 on both sides: greedy choices and codes agree exactly, unless two costs are equal to 12 digits. */
static void check_layer(const struct layer *layer, const struct sq_grid *grid)
{
    enum { MOST = 96 };
    struct sq_solve_options options = {.solver = SQ_SOLVER_OBQ, .grid_kind = SQ_GRID_REFERENCE, .grid = *grid};
    const struct oracle_grid oracle = {grid->bits, grid->symmetric, grid->group_size};
    struct solved solved;
    int64_t n = layer->n;
    assert_int_equal(fixture_solve(layer, &options, 0.01, 1, &solved), SQ_OK);
    double *h = fixture_exact_hessian(layer), *damped = fixture_exact_hessian(layer);
    damp(&solved, n, damped);
    for (int64_t r = 0; r < layer->rows; r++) {
        double w[MOST], scales[MOST], zeros[MOST], codes[MOST];
        for (int64_t j = 0; j < n; j++)
            w[j] = solved.dead[j] ? 0 : (double)layer->weights[r * n + j];
        for (int64_t g = 0; g < solved.groups; g++) {
            scales[g] = (double)solved.result.scales[r * solved.groups + g];
            zeros[g] = solved.result.zeros[r * solved.groups + g];
        }
        oracle_obq(&oracle, n, damped, w, scales, zeros, codes);
        for (int64_t j = 0; j < n; j++)
            assert_int_equal(solved.result.codes[r * n + j], codes[j]);
        double error = fixture_row_error(layer, grid, h, &solved, r);
        assert_true(solved.diagonal_only || /* an indefinite form: no relative tolerance holds */
                    fabs(solved.result.error[r] - error) <= 1e-4 * error + 1e-7 * solved.result.norm[r]);
    }
    free(h);
    free(damped);
    solved_free(&solved);
}

static void test_definition(void **state)
{
    (void)state;
    static const int64_t sizes[] = {1, 2, 16, 40};
    for (int s = 0; s < 4; s++) {
        struct layer layer = fixture_layer(s == 2 ? SQ_SOLVE_ROWS + 2 : 6, sizes[s], 80, s == 3 ? 4 : -1, 50);
        for (int symmetric = 0; symmetric < 2; symmetric++) {
            struct sq_grid grid = {symmetric ? 4 : 3, symmetric, sizes[s] < 16 ? sizes[s] : 16, SQ_F16};
            check_layer(&layer, &grid);
        }
        layer_free(&layer);
    }
}

/* A channel whose inputs are 30 times those of the others, as the attention layers of language models have them: its
 * weights are rounded last, from an inverse that 95 columns have been removed from. */
static void test_massive_channel(void **state)
{
    (void)state;
    enum { N = 96, MASSIVE = 41 };
    struct layer layer = fixture_layer(3, N, 200, -1, 54);
    for (int64_t i = 0; i < N; i++) {
        layer.hessian[i * N + MASSIVE] *= 30;
        layer.hessian[MASSIVE * N + i] *= 30;
    }
    struct sq_grid grid = {4, true, 32, SQ_F16};
    check_layer(&layer, &grid);
    layer_free(&layer);
}

static double total_error(const struct layer *layer, struct sq_solve_options options)
{
    struct solved solved;
    double sum = 0;
    assert_int_equal(fixture_solve(layer, &options, 0.01, 1, &solved), SQ_OK);
    for (int64_t r = 0; r < layer->rows; r++)
        sum += solved.result.error[r];
    solved_free(&solved);
    return sum;
}

/* Both beat rounding, and refinement works on top. */
static void test_ranking(void **state)
{
    (void)state;
    struct layer layer = fixture_layer(16, 96, 400, -1, 51);
    struct sq_solve_options options = {.grid_kind = SQ_GRID_REFERENCE,
                                       .order = SQ_ORDER_NATURAL,
                                       .static_groups = true,
                                       .grid = {4, true, 32, SQ_F16}};
    double gptq = total_error(&layer, options);
    options.solver = SQ_SOLVER_RTN;
    double rtn = total_error(&layer, options);
    options.solver = SQ_SOLVER_OBQ;
    double obq = total_error(&layer, options);
    options.refine = 2;
    double refined = total_error(&layer, options);
    assert_true(refined < obq && obq < rtn && gptq < rtn);
    layer_free(&layer);
}

static void test_diagonal_only(void **state)
{
    (void)state;
    struct layer layer = fixture_layer(3, 24, 80, -1, 52);
    for (int64_t i = 0; i < 24; i++)
        for (int64_t j = 0; j < 24; j++)
            if (i != j) layer.hessian[i * 24 + j] = 100;
    struct sq_grid grid = {4, true, 24, SQ_F16};
    check_layer(&layer, &grid);
    layer_free(&layer);
}

static void test_no_memory(void **state)
{
    (void)state;
    struct layer layer = fixture_layer(2, 12, 40, -1, 53);
    struct sq_solve_options options = {.solver = SQ_SOLVER_OBQ, .grid = {4, true, 12, SQ_F16}};
    enum sq_status status = SQ_ERR_MEMORY;
    struct sq_backend *backend;
    struct sq_factor factor;
    struct solved solved;
    assert_int_equal(sq_backend_create_cpu(1, SQ_ISA_BEST, &backend), SQ_OK);
    assert_int_equal(sq_factor_create(backend, 12, SQ_FACTOR_ALONE, &factor), SQ_OK);
    memcpy(factor.hessian.data, layer.hessian, 144 * sizeof(float));
    assert_int_equal(sq_factor_make(backend, &(struct sq_comm){.size = 1}, 12, SQ_ORDER_NATURAL, 0.01, &factor), SQ_OK);
    fixture_allocate(&layer, 1, &solved);
    struct fixture_run run = {backend, &factor, &options, &layer, 1, solved.result};
    int failures = 0;
    for (int64_t n = 1; status != SQ_OK; n++) {
        sq_memory_fail_at(n);
        status = fixture_tile(&run, 0, 0);
        failures += status == SQ_ERR_MEMORY;
    }
    sq_memory_fail_at(0);
    assert_int_equal(failures, 1);
    sq_factor_destroy(backend, &factor);
    backend->ops->destroy(backend);
    solved_free(&solved);
    layer_free(&layer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_definition),    cmocka_unit_test(test_massive_channel), cmocka_unit_test(test_ranking),
        cmocka_unit_test(test_diagonal_only), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
