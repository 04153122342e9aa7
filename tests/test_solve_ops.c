/* The solver's operations that choose scales and take columns in turn, on a backend's tiles, beside their definition in
 * double precision. (The CPU's kernels by themselves, in every variant: test_solve_kernels.c; refinement:
 * test_descent.c.) */
#include "scale_check.h"
#include "tile_fixture.h"

/* --- scales ------------------------------------------------------------------------------------------------------- */

static void check_scales(const struct sq_grid *grid, enum sq_scale_rule rule, int64_t columns, bool weighs)
{
    int64_t lanes = backend->sizes.solve_rows;
    const struct oracle_grid oracle = {grid->bits, grid->symmetric, grid->group_size};
    /* scales are normal numbers of f16, of a single weight, too */
    struct sq_matrix weights = make_tile(columns, 1000, 1), importance = make_tile(columns, 0.5f, 2);
    float *weighing = importance.data; /* [columns] of it */
    for (int64_t j = 0; j < columns; j++) {
        ((float *)weights.data)[j * lanes + 3] = 0; /* a row of zeros */
        weighing[j] += 1;
    }
    struct tile_grids g = make_grids(grid, columns);
    const float *there = weighs ? give(importance).data : NULL;
    assert_int_equal(ops->solve->find_scales(backend, grid, rule, columns, give(weights).data, there, g.there), SQ_OK);
    take(sq_matrix_view(g.there.scale, SQ_F32, g.scale.rows, lanes), g.scale);
    take(sq_matrix_view(g.there.inverse, SQ_F32, g.scale.rows, lanes), g.inverse);
    take(sq_matrix_view(g.there.zero, SQ_F32, g.scale.rows, lanes), g.zero);
    free_given();
    for (int64_t group = 0, j = 0; j < columns; group++, j += grid->group_size)
        for (int64_t r = 0; r < lanes; r++) {
            int64_t cell = group * lanes + r, count = columns - j < grid->group_size ? columns - j : grid->group_size;
            float scale = ((float *)g.scale.data)[cell];
            assert_true(scale == sq_grid_round_scale(SQ_F16, scale));
            assert_true(((float *)g.inverse.data)[cell] == 1.0f / scale);
            struct scale_case c = {
                &oracle, rule, count, lanes, (float *)weights.data + j * lanes + r, weighs ? weighing + j : NULL};
            check_scale(&c, (double)scale, at(g.zero, group, r));
        }
    free_grids(&g);
    free(weights.data);
    free(importance.data);
}

static void test_find_scales(void **state)
{
    (void)state;
    for (int i = 0; i < N_GRIDS; i++)
        for (int rule = SQ_SCALE_ABSMAX; rule <= SQ_SCALE_SEARCH; rule++) {
            if (rule == SQ_SCALE_ABSMAX && !grids[i].symmetric) continue;
            check_scales(&grids[i], (enum sq_scale_rule)rule, 129, i % 2);
            check_scales(&grids[i], (enum sq_scale_rule)rule, 1, i % 2);
        }
}

/* --- columns in turn ---------------------------------------------------------------------------------------------- */

/* M' of a block with entries that keep its sums of order one. */
static struct sq_matrix make_unit(int64_t columns)
{
    struct sq_matrix unit = make(SQ_F32, columns, columns, 5);
    for (int64_t i = 0; i < columns * unit.stride; i++)
        ((float *)unit.data)[i] *= 0.1f;
    return unit;
}

/* A block in the middle of a permutation of n columns, with what the operation left. */
struct quantized {
    const struct sq_grid *grid;
    int64_t columns, n;
    int32_t index[MOST];
    struct sq_matrix unit, products, weights, errors;
    struct tile_grids grids;
    float variance[MOST], ridge;
    uint8_t *codes;
    double *loss; /* NULL: not wanted */
};

static double cell_of(const struct quantized *q, struct sq_matrix m, int64_t column, int64_t r)
{
    return at(m, column / q->grid->group_size, r);
}

/* A near tie may round either way, and the columns after it follow: false, and the row is left there. */
static bool compare_row(const struct quantized *q, int64_t r)
{
    const struct oracle_grid oracle = {q->grid->bits, q->grid->symmetric, q->grid->group_size};
    double errors[MOST], loss = 1, size = 1; /* what was there before */
    for (int64_t j = 0; j < q->columns; j++) {
        int64_t column = q->index[j];
        double w = at(q->weights, column, r), x = w + at(q->products, j, r);
        for (int64_t k = 0; k < j; k++)
            x += errors[k] * at(q->unit, j, k);
        double scale = cell_of(q, q->grids.scale, column, r), zero = cell_of(q, q->grids.zero, column, r);
        double code = oracle_code(&oracle, x, scale, zero), steps = x / scale;
        uint8_t written = q->codes[column * backend->sizes.solve_rows + r];
        if (written != code && fabs(steps - floor(steps) - 0.5) < 1e-3) return false;
        assert_int_equal(written, code);
        errors[j] = w - scale * (code - zero);
        assert_true(fabs(at(q->errors, j, r) - errors[j]) < 1e-6);
        double gross = (double)q->variance[column] * pow(x - scale * (code - zero), 2);
        double damping = (double)q->ridge * errors[j] * errors[j];
        loss += gross - damping;
        size += gross + damping;
    }
    if (q->loss) assert_true(fabs(q->loss[r] - loss) <= 1e-5 * size);
    return true;
}

static void run_quantize(struct quantized *q)
{
    int64_t lanes = backend->sizes.solve_rows;
    size_t code_bytes = (size_t)(q->n * lanes), loss_bytes = (size_t)lanes * sizeof(double);
    struct sq_matrix errors = give(q->errors), unit = give(q->unit);
    void *codes = give_array(q->codes, code_bytes), *loss = q->loss ? give_array(q->loss, loss_bytes) : NULL;
    struct sq_column_block block = {.columns = q->columns,
                                    .index = give_array(q->index, (size_t)q->columns * sizeof *q->index),
                                    .unit = unit.data,
                                    .unit_stride = unit.stride,
                                    .products = give(q->products).data,
                                    .weights = give(q->weights).data,
                                    .scales = q->grids.there,
                                    .group_size = q->grid->group_size,
                                    .max_code = sq_grid_max_code(q->grid),
                                    .errors = errors.data,
                                    .codes = codes,
                                    .loss = loss,
                                    .variance = give_array(q->variance, sizeof q->variance),
                                    .ridge = q->ridge};
    assert_int_equal(ops->solve->quantize(backend, &block), SQ_OK);
    take(errors, q->errors);
    backend_take(backend, codes, code_bytes, q->codes);
    if (q->loss) backend_take(backend, loss, loss_bytes, q->loss);
    free_given();
}

/* Of the columns that are not the block's nothing is written. */
static void check_others(const struct quantized *q)
{
    bool is_of_block[MOST] = {false};
    for (int64_t j = 0; j < q->columns; j++)
        is_of_block[q->index[j]] = true;
    for (int64_t i = 0; i < q->n * backend->sizes.solve_rows; i++)
        if (!is_of_block[i / backend->sizes.solve_rows]) assert_int_equal(q->codes[i], 99);
}

static void check_quantize(const struct sq_grid *grid, int64_t columns, bool has_loss)
{
    int64_t lanes = backend->sizes.solve_rows, n = columns + 7, n_same = 0;
    struct quantized q = {.grid = grid, .columns = columns, .n = n, .ridge = 0.25f};
    for (int64_t p = 0; p < n; p++) /* 4 p mod n is a permutation where n is odd; else p itself, backwards */
        if (p >= 3 && p < 3 + columns) q.index[p - 3] = (int32_t)(n % 2 ? 4 * p % n : n - 1 - p);
    for (int64_t j = 0; j < n; j++)
        q.variance[j] = (float)(j % 5 + 1);
    q.unit = make_unit(columns);
    q.products = make_tile(columns, 0.2f, 2);
    q.weights = make_tile(n, 0.4f, 3);
    q.errors = make_tile(columns, 1, 4);
    q.grids = make_grids(grid, n);
    q.codes = malloc((size_t)(n * lanes));
    memset(q.codes, 99, (size_t)(n * lanes));
    double *loss = malloc((size_t)lanes * sizeof *loss);
    for (int64_t r = 0; r < lanes; r++)
        loss[r] = 1;
    q.loss = has_loss ? loss : NULL;
    run_quantize(&q);
    for (int64_t r = 0; r < lanes; r++)
        n_same += compare_row(&q, r);
    assert_true(n_same * 10 >= lanes * 9);
    check_others(&q);
    struct sq_matrix all[] = {q.unit, q.products, q.weights, q.errors};
    for (int i = 0; i < 4; i++)
        free(all[i].data);
    free_grids(&q.grids);
    free(q.codes);
    free(loss);
}

static void test_quantize(void **state)
{
    (void)state;
    for (int i = 0; i < N_GRIDS; i++)
        for (int c = 0; c < N_COUNTS; c++)
            check_quantize(&grids[i], counts[c], (i + c) % 2);
}

static void check_settle(int64_t columns)
{
    struct sq_matrix unit = make_unit(columns), products = make_tile(columns, 1, 2), weights = make_tile(columns, 1, 3);
    struct sq_matrix updated = make_tile(columns, 1, 4), out = give(updated);
    assert_int_equal(ops->solve->settle(backend, columns, give(unit).data, unit.stride, give(products).data,
                                        give(weights).data, out.data),
                     SQ_OK);
    take(out, updated);
    free_given();
    for (int64_t r = 0; r < updated.cols; r++) {
        double y[MOST], size = 1;
        for (int64_t j = 0; j < columns; j++) {
            y[j] = at(products, j, r);
            for (int64_t k = 0; k < j; k++)
                y[j] -= y[k] * at(unit, j, k);
            size = fmax(size, fabs(y[j]));
            assert_true(fabs(at(updated, j, r) - at(weights, j, r) - y[j]) < 1e-5 * size);
        }
    }
    struct sq_matrix all[] = {unit, products, weights, updated};
    for (int i = 0; i < 4; i++)
        free(all[i].data);
}

static void test_settle(void **state)
{
    (void)state;
    for (int c = 0; c < N_COUNTS; c++)
        check_settle(counts[c]);
    check_settle(300); /* wider than one block of GPTQ */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find_scales),
        cmocka_unit_test(test_quantize),
        cmocka_unit_test(test_settle),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
