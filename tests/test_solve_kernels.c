/* The solver's kernels for columns and grids beside their plain twins in double precision, in every variant. */
#include "scale_check.h"
#include "solve_variants.h"

/* M' inside a block: unit lower triangular, entries that keep sums of 64 terms of order one. */
static void make_unit(float *unit, int64_t columns)
{
    for (int64_t i = 0; i < columns * MOST; i++)
        unit[i] = 0.1f * noise();
}

/* --- columns in turn --------------------------------------------------------------------------------------------- */

/* A near tie may round either way, and the columns after it follow: the row is left there. */
static void compare_quantized(const struct sq_column_block *b, const struct oracle_grid *grid, int r)
{
    double errors[MOST], loss = 1, size = 1; /* what was there before */
    for (int64_t j = 0; j < b->columns; j++) {
        int64_t at = b->index[j] * ROWS + r;
        double w = (double)b->weights[at], x = w + (double)b->products[j * ROWS + r];
        for (int64_t k = 0; k < j; k++)
            x += errors[k] * (double)b->unit[j * b->unit_stride + k];
        double scale = (double)b->scales.scale[r], zero = (double)b->scales.zero[r], steps = x / scale;
        double code = oracle_code(grid, x, scale, zero);
        if (fabs(steps - floor(steps) - 0.5) < 1e-3 && code != b->codes[at]) return;
        assert_int_equal(b->codes[at], code);
        errors[j] = w - scale * (code - zero);
        assert_true(fabs((double)b->errors[j * ROWS + r] - errors[j]) < 1e-6);
        double gross = (double)b->variance[b->index[j]] * pow(x - scale * (code - zero), 2);
        double damping = (double)b->ridge * errors[j] * errors[j];
        loss += gross - damping;
        size += gross + damping;
    }
    assert_true(fabs(b->loss[r] - loss) <= 1e-5 * size);
}

static void check_quantize(const struct sq_solve_kernels *kernels, int64_t columns)
{
    static float unit[MOST * MOST], products[MOST * ROWS], weights[MOST * ROWS], errors[MOST * ROWS], variance[MOST];
    double loss[ROWS];
    static uint8_t codes[MOST * ROWS];
    int32_t index[MOST];
    struct grid_rows rows;
    const struct oracle_grid grid = {4, true, MOST};
    make_unit(unit, columns);
    fill(products, columns * ROWS);
    fill(weights, columns * ROWS);
    for (int64_t j = 0; j < columns; j++) {
        index[j] = (int32_t)(columns - 1 - j);
        variance[j] = (float)(j % 5 + 1);
    }
    for (int r = 0; r < ROWS; r++)
        loss[r] = 1;
    struct sq_column_block block = {.columns = columns,
                                    .index = index,
                                    .unit = unit,
                                    .unit_stride = MOST,
                                    .products = products,
                                    .weights = weights,
                                    .scales = make_scales(&rows, 8),
                                    .group_size = MOST,
                                    .max_code = 15,
                                    .errors = errors,
                                    .codes = codes,
                                    .loss = loss,
                                    .variance = variance,
                                    .ridge = 0.5f};
    kernels->quantize(&block);
    for (int r = 0; r < ROWS; r++)
        compare_quantized(&block, &grid, r);
}

static void test_quantize(void **state)
{
    (void)state;
    for_each_variant(check_quantize);
}

static void check_settle(const struct sq_solve_kernels *kernels, int64_t columns)
{
    static float unit[MOST * MOST], products[MOST * ROWS], weights[MOST * ROWS], updated[MOST * ROWS];
    make_unit(unit, columns);
    fill(products, columns * ROWS);
    fill(weights, columns * ROWS);
    kernels->settle(columns, unit, MOST, products, weights, updated);
    for (int r = 0; r < ROWS; r++) {
        double y[MOST];
        for (int64_t j = 0; j < columns; j++) {
            y[j] = (double)products[j * ROWS + r];
            for (int64_t k = 0; k < j; k++)
                y[j] -= y[k] * (double)unit[j * MOST + k];
            assert_true(fabs((double)updated[j * ROWS + r] - (double)weights[j * ROWS + r] - y[j]) < 1e-4);
        }
    }
}

static void test_settle(void **state)
{
    (void)state;
    for_each_variant(check_settle);
}

/* --- grids ------------------------------------------------------------------------------------------------------- */

static void check_find_scales(const struct sq_solve_kernels *kernels, int64_t columns)
{
    static float weights[MOST * ROWS], importance[MOST];
    struct grid_rows rows;
    struct sq_tile_scales scales = make_scales(&rows, 0);
    fill(weights, columns * ROWS);
    for (int64_t j = 0; j < columns; j++)
        weights[j * ROWS + 3] = 0; /* a row of zeros */
    for (int64_t j = 0; j < columns; j++)
        importance[j] = (float)(j % 7 + 1);
    for (int symmetric = 0; symmetric < 2; symmetric++) {
        for (int rule = SQ_SCALE_ABSMAX; rule <= SQ_SCALE_SEARCH; rule++) {
            const struct sq_grid grid = {3, symmetric, MOST, SQ_F16};
            const struct oracle_grid oracle = {3, symmetric, MOST};
            const float *weighing = symmetric ? importance : NULL;
            kernels->find_scales(&grid, (enum sq_scale_rule)rule, columns, weights, weighing, scales);
            for (int r = 0; r < ROWS; r++) {
                assert_true(rows.scale[r] == sq_grid_round_scale(SQ_F16, rows.scale[r]));
                assert_true(rows.inverse[r] == 1.0f / rows.scale[r]);
                check_scale(
                    &(struct scale_case){&oracle, (enum sq_scale_rule)rule, columns, ROWS, weights + r, weighing},
                    (double)rows.scale[r], (double)rows.zero[r]);
            }
        }
    }
}

static void test_find_scales(void **state)
{
    (void)state;
    for_each_variant(check_find_scales);
}

static void check_plain(const struct sq_solve_kernels *kernels, int64_t columns)
{
    static float weights[MOST * ROWS], errors[MOST * ROWS], centred[MOST * ROWS];
    static uint8_t codes[MOST * ROWS];
    struct grid_rows rows;
    struct sq_tile_scales scales = make_scales(&rows, 3);
    double sums[ROWS], expected[ROWS];
    const struct oracle_grid grid = {3, true, MOST};
    fill(weights, columns * ROWS);
    kernels->nearest(columns, weights, scales, 7, codes);
    kernels->residual(columns, weights, scales, codes, errors);
    kernels->centre(columns, codes, rows.zero, centred);
    for (int r = 0; r < ROWS; r++)
        sums[r] = expected[r] = 1;
    kernels->dot(columns, weights, centred, -2, sums);
    for (int64_t i = 0; i < columns * ROWS; i++) {
        int64_t r = i % ROWS;
        double w = (double)weights[i], scale = (double)rows.scale[r], steps = w / scale;
        double code = oracle_code(&grid, w, scale, 3);
        assert_true(codes[i] == code || fabs(steps - floor(steps) - 0.5) < 1e-5);
        assert_true(centred[i] == (float)codes[i] - 3);
        assert_true(errors[i] == weights[i] - rows.scale[r] * centred[i]);
        expected[r] -= 2 * w * (double)centred[i];
    }
    double bound = 1e-4 * fmax(1, pow((double)columns / 70, 2)); /* so many sums, each of so many terms */
    for (int r = 0; r < ROWS; r++)
        assert_true(fabs(sums[r] - expected[r]) < bound);
}

static void test_plain(void **state)
{
    (void)state;
    for_each_variant(check_plain);
}

/* --- products ---------------------------------------------------------------------------------------------------- */

enum { DEEP = 300 };

/* Sums of both signs, with what was there before or without; what is behind c stays. */
static void check_product(const struct sq_solve_kernels *kernels, int64_t rows, int64_t depth, bool accumulate)
{
    static float a[MOST * (DEEP + 3)], b[DEEP * ROWS], c[(MOST + 1) * ROWS], before[(MOST + 1) * ROWS];
    const int64_t stride = depth + 3;
    fill(a, rows * stride);
    fill(b, depth * ROWS);
    fill(before, (rows + 1) * ROWS);
    memcpy(c, before, sizeof c);
    const struct sq_tile_factors factors = {a, stride, rows, depth, b, accumulate, c};
    kernels->multiply(&factors);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t r = 0; r < ROWS; r++) {
            double sum = accumulate ? (double)before[i * ROWS + r] : 0, size = fabs(sum);
            for (int64_t k = 0; k < depth; k++) {
                double term = (double)a[i * stride + k] * (double)b[k * ROWS + r];
                sum += term;
                size += fabs(term);
            }
            assert_true(fabs((double)c[i * ROWS + r] - sum) <= (double)(depth + 2) * 0x1p-24 * size);
        }
    assert_memory_equal(c + rows * ROWS, before + rows * ROWS, ROWS * sizeof *c);
}

static void check_products(const struct sq_solve_kernels *kernels, int64_t columns)
{
    check_product(kernels, columns, columns, false);
    check_product(kernels, columns, DEEP, true);
    check_product(kernels, 13, columns, true);
    check_product(kernels, 3, columns, false);
    check_product(kernels, 3, DEEP, true);
}

static void test_products(void **state)
{
    (void)state;
    for_each_variant(check_products);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantize), cmocka_unit_test(test_settle),   cmocka_unit_test(test_find_scales),
        cmocka_unit_test(test_plain),    cmocka_unit_test(test_products),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
