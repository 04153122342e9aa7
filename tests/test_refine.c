/* Refinement: never worse, reported as written, and nothing moves where nothing can. */
#include "solve_fixture.h"

/* A round makes no row worse, and what is reported is what was written. */
static void check_refinement(const struct layer *layer, struct sq_solve_options options, double *gain_p)
{
    double *h = fixture_exact_hessian(layer), sums[3] = {0};
    const int rounds[3] = {0, 1, 4};
    struct solved solved[3];
    for (int i = 0; i < 3; i++) {
        options.refine = rounds[i];
        assert_int_equal(fixture_solve(layer, &options, 0.01, 1, &solved[i]), SQ_OK);
        assert_in_range(solved[i].result.n_rounds[0], rounds[i] > 0, rounds[i]);
        for (int64_t r = 0; r < layer->rows; r++) {
            double exact = fixture_row_error(layer, &options.grid, h, &solved[i], r), norm = solved[i].result.norm[r];
            assert_true(fabs(solved[i].result.error[r] - exact) <= 1e-4 * exact + 1e-7 * norm);
            assert_true(i == 0 || solved[i].result.error[r] <= solved[i - 1].result.error[r] * (1 + 1e-4));
            sums[i] += exact;
        }
    }
    assert_memory_equal(solved[0].result.zeros, solved[2].result.zeros, (size_t)(layer->rows * solved[0].groups));
    assert_memory_not_equal(solved[0].result.scales, solved[2].result.scales,
                            (size_t)(layer->rows * solved[0].groups) * sizeof(float));
    *gain_p = sums[0] > 0 ? 1 - sums[2] / sums[0] : 0;
    for (int i = 0; i < 3; i++)
        solved_free(&solved[i]);
    free(h);
}

static void test_refinement(void **state)
{
    (void)state;
    struct layer layer = fixture_layer(40, 300, 500, 33, 12), small = fixture_layer(5, 24, 60, -1, 13);
    static const int64_t group_sizes[] = {32, 64, 130, 300}; /* the last is wider than one span */
    double gain;
    for (int g = 0; g < 4; g++) {
        for (int bits = 2; bits <= 4; bits++) {
            fixture_solve_columns = bits == 2 ? 0 : 66 * bits; /* spans as they come; 198: six of 32, one of 130 */
            struct sq_solve_options options = {.grid_kind = bits == 2 ? SQ_GRID_REFERENCE : SQ_GRID_SEARCH,
                                               .order = SQ_ORDER_ACTIVATION,
                                               .static_groups = true,
                                               .grid = {bits, bits != 3, group_sizes[g], SQ_F16}};
            check_refinement(&layer, options, &gain);
            assert_true(gain > 0.03); /* measured: 0.05 to 0.3 */
        }
    }
    fixture_solve_columns = 0;
    struct sq_solve_options options = {.grid_kind = SQ_GRID_ABSMAX, .grid = {4, true, 24, SQ_BF16}};
    check_refinement(&small, options, &gain);
    layer_free(&layer);
    layer_free(&small);
}

/* Weights on the grid: the error is zero before, and nothing may move. */
static void test_refine_nothing(void **state)
{
    (void)state;
    struct layer layer = fixture_layer(4, 32, 100, -1, 6);
    for (int i = 0; i < 4 * 32; i++)
        layer.weights[i] = 0.25f * (float)(i % 16 - 8);
    layer.weights[0] = layer.weights[32] = layer.weights[64] = layer.weights[96] = -2;
    struct sq_solve_options options = {.grid_kind = SQ_GRID_SEARCH, .refine = 4, .grid = {4, true, 32, SQ_F16}};
    struct solved solved;
    assert_int_equal(fixture_solve(&layer, &options, 0.01, 1, &solved), SQ_OK);
    for (int64_t r = 0; r < 4; r++)
        assert_true(solved.result.error[r] <= 1e-3 * solved.result.norm[r]);
    solved_free(&solved);
    layer_free(&layer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refinement),
        cmocka_unit_test(test_refine_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
