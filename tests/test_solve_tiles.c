/* The solver's operations that go over a backend's tiles element by element, or bring them in and out, beside their
 * definition. */
#include "tile_fixture.h"

/* Codes in the backend's memory as the host's; freed with free(). */
static uint8_t *read_codes(const void *codes, int64_t count)
{
    uint8_t *host = malloc((size_t)count);
    backend_take(backend, codes, (size_t)count, host);
    return host;
}

/* --- codes, errors and sums of rows ------------------------------------------------------------------------------- */

static void check_rounding(const struct sq_grid *grid, int64_t columns)
{
    int64_t lanes = backend->sizes.solve_rows;
    const struct oracle_grid oracle = {grid->bits, grid->symmetric, grid->group_size};
    struct sq_matrix weights = make_tile(columns, 0.5f, 1), errors = make_tile(columns, 1, 2);
    struct tile_grids g = make_grids(grid, columns);
    struct sq_matrix there = give(weights), out = give(errors);
    void *codes_there = give_array(errors.data, (size_t)(columns * lanes));
    assert_int_equal(ops->solve->nearest(backend, grid, columns, there.data, g.there, codes_there), SQ_OK);
    assert_int_equal(ops->solve->residual(backend, grid, columns, there.data, g.there, codes_there, out.data), SQ_OK);
    take(out, errors);
    uint8_t *codes = read_codes(codes_there, columns * lanes);
    free_given();
    for (int64_t j = 0; j < columns; j++)
        for (int64_t r = 0; r < lanes; r++) {
            int64_t group = j / grid->group_size;
            double w = at(weights, j, r), scale = at(g.scale, group, r), zero = at(g.zero, group, r), steps = w / scale;
            double code = oracle_code(&oracle, w, scale, zero), written = codes[j * lanes + r];
            assert_true(written == code || fabs(steps - floor(steps) - 0.5) < 1e-4);
            assert_true(at(errors, j, r) == (double)((float)w - (float)scale * (float)(written - zero)));
        }
    free(codes);
    free(weights.data);
    free(errors.data);
    free_grids(&g);
}

static void test_rounding(void **state)
{
    (void)state;
    for (int i = 0; i < N_GRIDS; i++)
        for (int c = 0; c < N_COUNTS; c++)
            check_rounding(&grids[i], counts[c]);
}

static void check_dot(int64_t columns)
{
    int64_t lanes = backend->sizes.solve_rows;
    struct sq_matrix x = make_tile(columns, 1, 1), y = make_tile(columns, 1, 2);
    double *sums = malloc((size_t)lanes * sizeof *sums);
    for (int64_t r = 0; r < lanes; r++)
        sums[r] = 1;
    void *there = give_array(sums, (size_t)lanes * sizeof *sums);
    assert_int_equal(ops->solve->dot(backend, columns, give(x).data, give(y).data, -2, there), SQ_OK);
    backend_take(backend, there, (size_t)lanes * sizeof *sums, sums);
    free_given();
    for (int64_t r = 0; r < lanes; r++) {
        double sum = 0, size = 0;
        for (int64_t j = 0; j < columns; j++) {
            sum += at(x, j, r) * at(y, j, r);
            size += fabs(at(x, j, r) * at(y, j, r));
        }
        assert_true(fabs(sums[r] - (1 - 2 * sum)) <= 2 * SQ_SOLVE_COLUMNS * 0x1p-24 * size + 1e-15);
    }
    free(sums);
    free(x.data);
    free(y.data);
}

static void test_dot(void **state)
{
    (void)state;
    for (int c = 0; c < N_COUNTS; c++)
        check_dot(counts[c]);
    check_dot(700);
}

static void check_centre(int64_t columns)
{
    int64_t lanes = backend->sizes.solve_rows;
    struct sq_matrix centred = make_tile(columns, 1, 1), zero = make_tile(1, 1, 2), out = give(centred);
    uint8_t *codes = malloc((size_t)(columns * lanes));
    for (int64_t i = 0; i < columns * lanes; i++)
        codes[i] = (uint8_t)(i % 251);
    for (int64_t r = 0; r < lanes; r++)
        ((float *)zero.data)[r] = (float)(r % 256);
    void *there = give_array(codes, (size_t)(columns * lanes));
    assert_int_equal(ops->solve->centre(backend, columns, there, give(zero).data, out.data), SQ_OK);
    take(out, centred);
    free_given();
    for (int64_t i = 0; i < columns * lanes; i++)
        assert_true(at(centred, i / lanes, i % lanes) == (double)codes[i] - at(zero, 0, i % lanes));
    free(codes);
    free(centred.data);
    free(zero.data);
}

static void test_centre(void **state)
{
    (void)state;
    for (int c = 0; c < N_COUNTS; c++)
        check_centre(counts[c]);
}

/* --- into and out of tiles ---------------------------------------------------------------------------------------- */

/* A tile of `rows` rows: what is beyond them is zero, and so are dead columns. */
static void check_load(int64_t rows, int64_t n)
{
    struct sq_matrix weights = make(SQ_F32, rows, n, 1), tile = make_tile(n, 1, 2), out = give(tile);
    uint8_t dead[MOST];
    for (int64_t j = 0; j < n; j++)
        dead[j] = j % 11 == 4;
    assert_int_equal(ops->solve->load(backend, give(weights), give_array(dead, (size_t)n), out.data), SQ_OK);
    take(out, tile);
    free_given();
    for (int64_t j = 0; j < n; j++)
        for (int64_t r = 0; r < tile.cols; r++)
            assert_true(at(tile, j, r) == (r < rows && !dead[j] ? at(weights, r, j) : 0));
    free(weights.data);
    free(tile.data);
}

/* Codes and grids of a tile by rows, and their weights. */
static void check_unload(const struct sq_grid *grid, int64_t rows, int64_t n)
{
    int64_t lanes = backend->sizes.solve_rows, groups = sq_grid_n_groups(grid, n);
    struct tile_grids g = make_grids(grid, n);
    uint8_t *tile = malloc((size_t)(n * lanes));
    for (int64_t i = 0; i < n * lanes; i++)
        tile[i] = (uint8_t)((i * 7 + i / lanes) % (sq_grid_max_code(grid) + 1));
    struct sq_matrix scales = sq_matrix_view(calloc((size_t)(rows * groups), sizeof(float)), SQ_F32, rows, groups);
    struct sq_matrix weights = sq_matrix_view(calloc((size_t)(rows * n), sizeof(float)), SQ_F32, rows, n);
    struct sq_matrix scales_out = give(scales), weights_out = give(weights);
    void *codes_out = give_array(weights.data, (size_t)(rows * n));
    void *zeros_out = give_array(scales.data, (size_t)(rows * groups));
    assert_int_equal(ops->solve->unload(backend, rows, n, groups, give_array(tile, (size_t)(n * lanes)), g.there,
                                        codes_out, scales_out.data, zeros_out),
                     SQ_OK);
    assert_int_equal(ops->solve->dequantize(backend, grid, codes_out, scales_out.data, zeros_out, weights_out), SQ_OK);
    take(scales_out, scales);
    take(weights_out, weights);
    uint8_t *codes = read_codes(codes_out, rows * n), *zeros = read_codes(zeros_out, rows * groups);
    free_given();
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < n; j++) {
            int64_t group = j / grid->group_size;
            double scale = at(g.scale, group, r), zero = at(g.zero, group, r), code = tile[j * lanes + r];
            assert_int_equal(codes[r * n + j], code);
            assert_true(at(scales, r, group) == scale);
            assert_int_equal(zeros[r * groups + group], zero);
            assert_true(at(weights, r, j) == (double)((float)scale * (float)(code - zero)));
        }
    free_grids(&g);
    void *all[] = {tile, scales.data, weights.data, codes, zeros};
    for (int i = 0; i < 5; i++)
        free(all[i]);
}

static void test_tiles(void **state)
{
    (void)state;
    const int64_t rows[] = {1, 31, backend->sizes.solve_rows - 1, backend->sizes.solve_rows};
    for (int i = 0; i < 4; i++)
        for (int c = 0; c < N_COUNTS; c++) {
            check_load(rows[i], counts[c]);
            check_unload(&grids[c % N_GRIDS], rows[i], counts[c]);
        }
}

/* Rows that got no better are put back: worse, equal, or not a number. */
static void test_keep_better(void **state)
{
    (void)state;
    enum { N = 33, GROUPS = 2 };
    int64_t lanes = backend->sizes.solve_rows;
    size_t figure_bytes = (size_t)lanes * sizeof(double), code_bytes = (size_t)(N * lanes);
    struct sq_grid grid = {4, true, 32, SQ_F16};
    struct tile_grids g = make_grids(&grid, N);
    struct sq_matrix old_scale = make_tile(GROUPS, 0.1f, 9);
    double *before = malloc(figure_bytes), *after = malloc(figure_bytes);
    const double afters[] = {1, 2, 3, (double)NAN};
    for (int64_t i = 0; i < GROUPS * lanes; i++)
        ((float *)old_scale.data)[i] += 1;
    for (int64_t r = 0; r < lanes; r++) {
        before[r] = 2;
        after[r] = afters[r % 4];
    }
    uint8_t *old = malloc(code_bytes), *new = malloc(code_bytes);
    memset(old, 1, code_bytes);
    memset(new, 2, code_bytes);
    void *after_there = give_array(after, figure_bytes), *codes_there = give_array(new, code_bytes);
    assert_int_equal(ops->solve->keep_better(backend, N, GROUPS, give_array(before, figure_bytes),
                                             give_array(old, code_bytes), give(old_scale).data, after_there,
                                             codes_there, g.there),
                     SQ_OK);
    backend_take(backend, after_there, figure_bytes, after);
    backend_take(backend, codes_there, code_bytes, new);
    struct sq_matrix scale = make_tile(GROUPS, 1, 1), inverse = make_tile(GROUPS, 1, 1);
    take(sq_matrix_view(g.there.scale, SQ_F32, GROUPS, lanes), scale);
    take(sq_matrix_view(g.there.inverse, SQ_F32, GROUPS, lanes), inverse);
    free_given();
    for (int64_t r = 0; r < lanes; r++) {
        bool is_better = r % 4 == 0;
        assert_true(after[r] == (is_better ? 1 : 2));
        for (int64_t j = 0; j < N; j++)
            assert_int_equal(new[j * lanes + r], is_better ? 2 : 1);
        for (int64_t group = 0; group < GROUPS; group++) {
            assert_true(at(scale, group, r) == at(is_better ? g.scale : old_scale, group, r));
            assert_true(at(inverse, group, r) == (double)(1.0f / (float)at(scale, group, r)));
        }
    }
    free_grids(&g);
    void *all[] = {old_scale.data, before, after, old, new, scale.data, inverse.data};
    for (int i = 0; i < 7; i++)
        free(all[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rounding), cmocka_unit_test(test_dot),         cmocka_unit_test(test_centre),
        cmocka_unit_test(test_tiles),    cmocka_unit_test(test_keep_better),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
