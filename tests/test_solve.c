/* The solver against the double-precision oracle, what it reports against what it wrote, bad input, and the
 * same bits from any number of workers. */
#include "solve_fixture.h"
#include "tensor/dry.h"

/* A code may differ from the oracle's where the quotient lies this near to a rounding boundary, in steps: the updated
 * weight is a sum of up to 300 products in f32, some 1e-6 of a largest quotient of 128 (8 bits), with room for the
 * factor's own rounding. Once one code of a row differs, the later ones of that row follow another path. */
#define NEAR_TIE 2e-3

struct matter {
    const char *name;
    int64_t n, group_size;
    int bits;
    bool symmetric;
    enum sq_grid_kind kind;
    enum sq_order order;
    bool static_groups;
    int64_t dead;
    enum sq_dtype scale_dtype;
    int64_t samples;
};

static struct sq_solve_options options_of(const struct matter *m)
{
    return (struct sq_solve_options){.grid_kind = m->kind,
                                     .order = m->order,
                                     .static_groups = m->static_groups,
                                     .grid = {m->bits, m->symmetric, m->group_size, m->scale_dtype}};
}

/* The oracle takes the program's scales, after a check that they are what the updated weights ask for. */
struct seen {
    const struct matter *m;
    const struct oracle_grid *grid;
    const float *scales; /* of this row */
    const uint8_t *zeros, *written;
    const double *codes; /* the oracle's so far */
};

/* Half a unit in the last place of the stored type is what rounding may move a scale by; f32 sums add a little. */
static void check_scale(const struct matter *m, double scale, double exact)
{
    double half_ulp = m->scale_dtype == SQ_F16 ? 0x1p-11 : 0x1p-8;
    if (fabs(scale - exact) > exact * (half_ulp + 1e-4)) fail_msg("%s: scale %g, not %g", m->name, scale, exact);
}

static void see_group(void *context, int64_t group, int64_t count, const double *updated, double *scale, double *zero)
{
    const struct seen *seen = context;
    double exact_scale, exact_zero;
    *scale = (double)seen->scales[group];
    *zero = seen->zeros[group];
    for (int64_t j = 0; seen->codes && j < group * seen->grid->group_size; j++)
        if (seen->codes[j] != seen->written[j]) return; /* the row has taken another path: compare_row() judges that */
    oracle_scale(seen->grid, seen->m->kind == SQ_GRID_ABSMAX, count, updated, &exact_scale, &exact_zero);
    check_scale(seen->m, *scale, exact_scale);
    assert_true(fabs(exact_zero - *zero) <= 1); /* a tie may round either way */
}

static void check_static_scales(const struct seen *seen, int64_t n, const double *w, double *scales, double *zeros)
{
    int64_t size = seen->grid->group_size;
    for (int64_t g = 0; g * size < n; g++) {
        int64_t count = n - g * size < size ? n - g * size : size;
        if (seen->m->kind == SQ_GRID_SEARCH) {
            scales[g] = (double)seen->scales[g]; /* checked by test_search */
            zeros[g] = seen->zeros[g];
        } else {
            see_group((void *)(uintptr_t)seen, g, count, w + g * size, &scales[g], &zeros[g]);
        }
    }
}

/* Returns 1 when the row's codes are the oracle's, 0 when they part ways at a near tie; anything else fails. */
static int compare_row(const struct matter *m, const struct solved *solved, const struct layer *layer, int64_t row,
                       const double *upper)
{
    enum { MOST = 320 };
    double w[MOST] = {0}, scales[MOST] = {0}, zeros[MOST] = {0}, codes[MOST], margins[MOST];
    const struct oracle_grid grid = {m->bits, m->symmetric, m->group_size};
    int64_t n = layer->n, groups = solved->groups;
    const struct sq_solve_result *result = &solved->result;
    struct seen seen = {
        m, &grid, result->scales + row * groups, result->zeros + row * groups, result->codes + row * n, NULL};
    for (int64_t j = 0; j < n; j++)
        w[j] = solved->dead[j] ? 0 : (double)layer->weights[row * n + j];
    bool dynamic = m->order == SQ_ORDER_NATURAL && !m->static_groups && m->group_size < n;
    if (!dynamic) check_static_scales(&seen, n, w, scales, zeros);
    if (dynamic) seen.codes = codes;
    oracle_gptq(&grid, n, upper, solved->order, w, scales, zeros, dynamic ? see_group : NULL, &seen, codes, margins);
    for (int64_t p = 0; p < n; p++) {
        int64_t j = solved->order[p];
        if ((double)result->codes[row * n + j] == codes[j]) continue;
        if (margins[j] > NEAR_TIE)
            fail_msg("%s: row %d column %d: %d, not %g", m->name, (int)row, (int)j, result->codes[row * n + j],
                     codes[j]);
        return 0;
    }
    return 1;
}

static void check_report(const struct matter *m, const struct solved *solved, const struct layer *layer)
{
    double *h = fixture_exact_hessian(layer);
    struct sq_grid grid = options_of(m).grid;
    for (int64_t r = 0; r < layer->rows; r++) {
        double *w = malloc((size_t)layer->n * sizeof *w);
        for (int64_t j = 0; j < layer->n; j++)
            w[j] = solved->dead[j] ? 0 : (double)layer->weights[r * layer->n + j];
        double norm = oracle_form(layer->n, h, w), error = fixture_row_error(layer, &grid, h, solved, r);
        free(w);
        /* f32 sums of terms far larger than the result; as a share of the norm and of the error */
        assert_true(fabs(solved->result.norm[r] - norm) <= 1e-5 * norm);
        assert_true(fabs(solved->result.error[r] - error) <= 1e-4 * error + 1e-7 * norm);
    }
    free(h);
}

static void check_matter(const struct matter *m)
{
    struct layer layer = fixture_layer(SQ_SOLVE_ROWS + 8, m->n, m->samples ? m->samples : 400, m->dead, 77);
    struct sq_solve_options options = options_of(m);
    struct solved solved;
    assert_int_equal(fixture_solve(&layer, &options, 0.01, 1, &solved), SQ_OK);
    double *h = fixture_exact_hessian(&layer), *upper = malloc((size_t)(m->n * m->n) * sizeof *upper);
    oracle_upper(m->n, h, solved.order, solved.ridge, upper);
    int64_t n_same = 0;
    for (int64_t r = 0; r < layer.rows; r++)
        n_same += compare_row(m, &solved, &layer, r, upper);
    if (n_same * 10 < layer.rows * 9) fail_msg("%s: only %d rows agree", m->name, (int)n_same);
    check_report(m, &solved, &layer);
    for (int64_t r = 0; m->dead >= 0 && r < layer.rows; r++)
        assert_int_equal(solved.result.codes[r * m->n + m->dead],
                         solved.result.zeros[r * solved.groups + m->dead / m->group_size]);
    free(h);
    free(upper);
    solved_free(&solved);
    layer_free(&layer);
}

#define ACT SQ_ORDER_ACTIVATION
#define NAT SQ_ORDER_NATURAL
#define REF SQ_GRID_REFERENCE

static void test_oracle(void **state)
{
    (void)state;
    static const struct matter matters[] = {
        {"act-order", 256, 64, 4, true, REF, ACT, true, -1, SQ_F16, 0},
        {"act-order, search", 256, 64, 4, true, SQ_GRID_SEARCH, ACT, true, -1, SQ_F16, 0},
        {"absmax", 256, 64, 4, true, SQ_GRID_ABSMAX, ACT, true, -1, SQ_F16, 0},
        {"bf16 scales", 192, 64, 4, true, REF, ACT, true, -1, SQ_BF16, 0},
        {"asymmetric", 256, 64, 4, false, REF, ACT, true, -1, SQ_F16, 0},
        {"asymmetric, search", 200, 32, 3, false, SQ_GRID_SEARCH, ACT, true, 17, SQ_F16, 0},
        {"2 bits", 160, 32, 2, true, REF, ACT, true, -1, SQ_F16, 0},
        {"3 bits", 160, 32, 3, true, REF, ACT, true, 40, SQ_F16, 0},
        {"8 bits", 160, 32, 8, true, REF, ACT, true, -1, SQ_F16, 0},
        {"ragged", 172, 32, 4, true, REF, ACT, true, -1, SQ_F16, 0},
        {"ragged, natural", 172, 32, 4, true, REF, NAT, false, 171, SQ_F16, 0},
        {"per channel", 200, 200, 4, true, REF, ACT, true, -1, SQ_F16, 0},
        {"per channel, natural", 200, 200, 4, false, REF, NAT, false, -1, SQ_F16, 0},
        {"natural, static", 256, 64, 4, true, REF, NAT, true, -1, SQ_F16, 0},
        {"natural, groups on the way", 256, 64, 4, true, REF, NAT, false, -1, SQ_F16, 0},
        {"groups above a block", 300, 150, 4, true, REF, NAT, false, 12, SQ_F16, 0},
        {"groups not dividing a block", 240, 48, 3, false, REF, NAT, false, -1, SQ_F16, 0},
        {"two columns", 2, 2, 4, true, REF, ACT, true, -1, SQ_F16, 0},
        {"one column", 1, 1, 4, true, REF, NAT, true, -1, SQ_F16, 0},
        {"fewer samples than inputs", 256, 64, 4, true, REF, ACT, true, -1, SQ_F16, 30},
        {"hardly any samples", 256, 64, 4, true, REF, ACT, true, 9, SQ_F16, 6},
    };
    static const int64_t solve_columns[] = {1, 130, 256}; /* a block; a block and a little; two blocks */
    for (size_t k = 0; k < sizeof solve_columns / sizeof *solve_columns; k++) {
        fixture_solve_columns = solve_columns[k];
        for (size_t i = 0; i < sizeof matters / sizeof *matters; i++)
            check_matter(&matters[i]);
    }
    fixture_solve_columns = 0;
}

/* --- rounding and the search ------------------------------------------------------------------------------------- */

/* Plain rounding takes the nearest point of its own grid, and reports its error twice. */
static void test_rtn(void **state)
{
    (void)state;
    struct layer layer = fixture_layer(40, 130, 300, 9, 3);
    for (int kind = SQ_GRID_SEARCH; kind <= SQ_GRID_ABSMAX; kind++) {
        struct sq_solve_options options = {
            .solver = SQ_SOLVER_RTN, .grid_kind = (enum sq_grid_kind)kind, .refine = 4, .grid = {4, true, 50, SQ_F16}};
        struct solved solved;
        assert_int_equal(fixture_solve(&layer, &options, 0.01, 1, &solved), SQ_OK);
        for (int64_t r = 0; r < layer.rows; r++) {
            for (int64_t j = 0; j < layer.n; j++) {
                double w = j == 9 ? 0 : (double)layer.weights[r * layer.n + j];
                double scale = (double)solved.result.scales[r * solved.groups + j / 50];
                double code = solved.result.codes[r * layer.n + j];
                double nearest = fmin(fmax(w / scale, -8), 7);
                assert_true(fabs(code - 8 - nearest) <= 0.5 + 1e-5);
            }
            assert_true(solved.result.error[r] == solved.result.error_rtn[r]);
        }
        solved_free(&solved);
    }
    layer_free(&layer);
}

/* The error that the search minimises, for one group of one row. */
static double weighted_error(const struct oracle_grid *grid, int64_t count, const float *w, double scale, double zero)
{
    double sum = 0;
    for (int64_t j = 0; j < count; j++) {
        double q = scale * (oracle_code(grid, (double)w[j], scale, zero) - zero);
        sum += ((double)w[j] - q) * ((double)w[j] - q);
    }
    return sum;
}

/* Not worse than the unclipped grid, and near the best of a fine scan: the error is not convex in the scale, so the 28
 * steps may miss the very best by a few per cent. */
static void test_search(void **state)
{
    (void)state;
    struct layer layer = fixture_layer(32, 192, 100, -1, 8);
    double total_found = 0, total_best = 0;
    for (int symmetric = 0; symmetric < 2; symmetric++) {
        const struct oracle_grid grid = {3, symmetric, 64};
        struct sq_solve_options options = {
            .solver = SQ_SOLVER_RTN, .grid_kind = SQ_GRID_SEARCH, .grid = {3, symmetric, 64, SQ_F16}};
        struct solved solved;
        assert_int_equal(fixture_solve(&layer, &options, 0.01, 1, &solved), SQ_OK);
        for (int64_t r = 0; r < layer.rows; r++) {
            for (int64_t g = 0; g < 3; g++) {
                const float *w = layer.weights + r * 192 + g * 64;
                double exact[64], base, zero, best = INFINITY;
                for (int j = 0; j < 64; j++)
                    exact[j] = (double)w[j];
                oracle_scale(&grid, false, 64, exact, &base, &zero);
                double found = weighted_error(&grid, 64, w, (double)solved.result.scales[r * 3 + g], zero);
                assert_int_equal(solved.result.zeros[r * 3 + g], zero);
                assert_true(found <= weighted_error(&grid, 64, w, base, zero) * 1.02);
                for (int i = 20; i <= 110; i++)
                    best = fmin(best, weighted_error(&grid, 64, w, base * i / 100, zero));
                total_found += found;
                total_best += best;
            }
        }
        solved_free(&solved);
    }
    assert_true(total_found <= total_best * 1.02);
    layer_free(&layer);
}

/* Weights that are all zero, too small or too large for the stored scale: finite scales above zero, sane codes. */
static void test_extreme_weights(void **state)
{
    (void)state;
    struct layer layer = fixture_layer(3, 64, 100, -1, 4);
    for (int j = 0; j < 64; j++) {
        if (j < 32) layer.weights[j] = 0;
        layer.weights[64 + j] *= 1e-8f; /* scales near 1e-9: below the smallest f16 */
        layer.weights[128 + j] *= 1e8f; /* scales near 1e6: above the largest f16 */
    }
    for (int refine = 0; refine < 3; refine += 2) {
        struct sq_solve_options options = {
            .grid_kind = SQ_GRID_SEARCH, .refine = refine, .grid = {4, true, 32, SQ_F16}};
        struct solved solved;
        assert_int_equal(fixture_solve(&layer, &options, 0.01, 1, &solved), SQ_OK);
        for (int i = 0; i < 6; i++)
            assert_true(solved.result.scales[i] >= 0x1p-24f && solved.result.scales[i] <= 65504.0f);
        for (int64_t r = 0; r < 3; r++)
            assert_true(isfinite(solved.result.error[r]) && isfinite(solved.result.norm[r]));
        solved_free(&solved);
    }
    layer_free(&layer);
}

static void test_bad_weights(void **state)
{
    (void)state;
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        struct layer layer = fixture_layer(2, 40, 60, -1, 4);
        layer.weights[71] = bad[i];
        struct sq_solve_options options = {.grid = {4, true, 40, SQ_F16}};
        struct solved solved;
        assert_int_equal(fixture_solve(&layer, &options, 0.01, 1, &solved), SQ_ERR_NUMERIC);
        solved_free(&solved);
        layer_free(&layer);
    }
}

/* --- a ridge that drowns columns --------------------------------------------------------------------------------- */

/* One input so large that damping by a share of the mean takes all digits of the others, and that no weight uses. */
static void check_drowned(double damping)
{
    struct layer layer = fixture_layer(20, 96, 300, 7, 41);
    for (int64_t j = 0; j < 96; j++) {
        layer.hessian[j] *= 1e4f;
        layer.hessian[j * 96] *= 1e4f;
    }
    for (int64_t r = 0; r < layer.rows; r++)
        layer.weights[r * 96] = 0;
    struct sq_solve_options options = {
        .grid_kind = SQ_GRID_SEARCH, .order = ACT, .static_groups = true, .grid = {4, true, 32, SQ_F16}};
    struct solved solved;
    assert_int_equal(fixture_solve(&layer, &options, damping, 1, &solved), SQ_OK);
    double *h = fixture_exact_hessian(&layer);
    for (int64_t r = 0; r < layer.rows; r++) {
        double error = fixture_row_error(&layer, &options.grid, h, &solved, r);
        assert_true(fabs(solved.result.error[r] - error) <= 1e-4 * error);
    }
    free(h);
    solved_free(&solved);
    layer_free(&layer);
}

static void test_drowned(void **state)
{
    (void)state;
    check_drowned(1);
    check_drowned(0.01);
}

/* --- operations -------------------------------------------------------------------------------------------------- */

/* Operations of products of this kind for a row of n inputs, as a share of n^2. Other work is done one a second. */
static double product_share(const struct sq_backend_traits *traits, double bf16_rate, enum sq_work work, int64_t n)
{
    struct sq_rates rates = {.operation_seconds = 0};
    struct sq_backend *dry;
    struct sq_factor factor;
    struct sq_solve_options options = {.static_groups = true, .grid = {4, true, 128, SQ_F16}};
    struct sq_solve_result nowhere = {0};
    void *scratch = NULL;
    for (int i = 0; i < SQ_N_WORK; i++)
        rates.of[i].per_second = i == SQ_WORK_BF16 ? bf16_rate : 1;
    assert_int_equal(sq_backend_create_dry(traits, 1, &rates, &dry), SQ_OK);
    assert_int_equal(sq_factor_create(dry, n, SQ_FACTOR_ALONE, &factor), SQ_OK);
    assert_int_equal(dry->ops->alloc(dry, "scratch", sq_solve_scratch_bytes(&dry->sizes, &options, n), &scratch),
                     SQ_OK);
    struct sq_matrix weights = sq_matrix_view(scratch, SQ_F32, dry->sizes.solve_rows, n);
    assert_int_equal(sq_solve_tile(dry, &factor, &options, weights, scratch, &nowhere), SQ_OK);
    double operations = sq_dry_work(dry)[work] / (double)dry->sizes.solve_rows;
    dry->ops->free(dry, scratch);
    sq_factor_destroy(dry, &factor);
    dry->ops->destroy(dry);
    return operations / (double)(n * n);
}

/* One each for GPTQ and for the forms of the weights and of plain rounding. The error is what GPTQ loses: no form. A
 * device with fast products in BF16 makes forms from six, of whole blocks. */
static void test_operations(void **state)
{
    (void)state;
    int64_t n = 6144, block = sq_cuda_traits.sizes.solve_columns;
    double whole = 1 + (double)block / (double)n;
    assert_float_equal(product_share(&sq_cpu_traits, 10, SQ_WORK_TILE, n), 3, 0.1);
    assert_float_equal(product_share(&sq_cuda_traits, 10, SQ_WORK_TILE, n), 1, 0.1);
    assert_float_equal(product_share(&sq_cuda_traits, 10, SQ_WORK_BF16, n), 12 * whole, 0.1);
    assert_float_equal(product_share(&sq_cuda_traits, 5, SQ_WORK_TILE, n), 1 + 2 * whole, 0.1);
}

/* --- the same bits ----------------------------------------------------------------------------------------------- */

static void check_equal(const struct layer *layer, const struct solved *a, const struct solved *b)
{
    size_t rows = (size_t)layer->rows, cells = rows * (size_t)a->groups;
    assert_memory_equal(a->result.codes, b->result.codes, rows * (size_t)layer->n);
    assert_memory_equal(a->result.scales, b->result.scales, cells * sizeof(float));
    assert_memory_equal(a->result.zeros, b->result.zeros, cells);
    assert_memory_equal(a->result.error, b->result.error, rows * sizeof(double));
    assert_memory_equal(a->result.error_rtn, b->result.error_rtn, rows * sizeof(double));
    assert_memory_equal(a->result.norm, b->result.norm, rows * sizeof(double));
}

static void test_threads(void **state)
{
    (void)state;
    struct layer layer = fixture_layer(150, 300, 100, 7, 21);
    static const struct {
        enum sq_order order;
        int64_t group_size;
    } cases[] = {{SQ_ORDER_ACTIVATION, 64}, {SQ_ORDER_NATURAL, 64}, {SQ_ORDER_ACTIVATION, 300}};
    for (int i = 0; i < 3; i++) {
        struct sq_solve_options options = {.grid_kind = SQ_GRID_SEARCH,
                                           .order = cases[i].order,
                                           .static_groups = cases[i].order == SQ_ORDER_ACTIVATION,
                                           .refine = 2,
                                           .grid = {4, true, cases[i].group_size, SQ_F16}};
        struct solved solved[3];
        for (int t = 0; t < 3; t++)
            assert_int_equal(fixture_solve(&layer, &options, 0.01, t + 1, &solved[t]), SQ_OK);
        check_equal(&layer, &solved[0], &solved[1]);
        check_equal(&layer, &solved[0], &solved[2]);
        for (int t = 0; t < 3; t++)
            solved_free(&solved[t]);
    }
    layer_free(&layer);
}

/* With the off-diagonal terms dropped there is nothing to make up for: GPTQ is plain rounding on the same grid. */
static void test_diagonal_only(void **state)
{
    (void)state;
    struct layer layer = fixture_layer(6, 96, 100, -1, 31);
    for (int64_t i = 0; i < 96; i++)
        for (int64_t j = 0; j < 96; j++)
            if (i != j) layer.hessian[i * 96 + j] = 100;
    struct sq_solve_options options = {.grid_kind = SQ_GRID_REFERENCE, .grid = {4, true, 32, SQ_F16}};
    struct solved gptq, rtn;
    assert_int_equal(fixture_solve(&layer, &options, 0.01, 1, &gptq), SQ_OK);
    assert_true(gptq.diagonal_only);
    options.solver = SQ_SOLVER_RTN;
    assert_int_equal(fixture_solve(&layer, &options, 0.01, 1, &rtn), SQ_OK);
    assert_memory_equal(gptq.result.codes, rtn.result.codes, 6 * 96);
    assert_memory_equal(gptq.result.error, rtn.result.error, 6 * sizeof(double)); /* of all of H, as it was */
    solved_free(&gptq);
    solved_free(&rtn);
    layer_free(&layer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oracle),          cmocka_unit_test(test_rtn),         cmocka_unit_test(test_search),
        cmocka_unit_test(test_extreme_weights), cmocka_unit_test(test_bad_weights), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_diagonal_only),   cmocka_unit_test(test_drowned),     cmocka_unit_test(test_operations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
