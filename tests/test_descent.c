/* The refinement kernel beside its plain twin in double precision, in every variant of the CPU's and as an operation of
 * the backend. */
#include "backends.h"
#include "solve_variants.h"

static const int max_code = 7;

/* One row of a span by the same steps in double: gradient g, codes - zero c. */
struct plain_row {
    int64_t columns;
    const double *h; /* [columns, columns] */
    double g[MOST], c[MOST], scale, zero;
    bool near_tie; /* a choice that f32 may take otherwise */
};

static void plain_move(struct plain_row *p, int64_t k, double change_of_error)
{
    for (int64_t i = 0; i < p->columns; i++)
        p->g[i] += change_of_error * p->h[k * p->columns + i];
}

static void plain_refit(struct plain_row *p)
{
    double slope = 0, curvature = 0;
    for (int64_t i = 0; i < p->columns; i++) {
        slope += p->c[i] * p->g[i];
        for (int64_t k = 0; k < p->columns; k++)
            curvature += p->c[i] * p->h[i * p->columns + k] * p->c[k];
    }
    double best = fmin(fmax(p->scale + slope / curvature, p->scale / 2), p->scale * 2);
    double scale = (double)sq_grid_round_scale(SQ_F16, (float)best), step = scale - p->scale;
    double gain = step * (2 * slope - step * curvature);
    if (fabs(gain) < 1e-4 * fabs(step * slope)) p->near_tie = true;
    if (fabs(best - scale) > 0.98 * scale * 0x1p-12) p->near_tie = true;
    if (!(curvature > 0) || !(gain > 0)) return;
    for (int64_t k = 0; k < p->columns; k++)
        plain_move(p, k, -step * p->c[k]);
    p->scale = scale;
}

static void plain_codes(struct plain_row *p)
{
    for (int64_t k = 0; k < p->columns; k++) {
        double x = p->c[k] + p->g[k] / (p->h[k * p->columns + k] * p->scale);
        double best = fmin(fmax(nearbyint(x), -p->zero), max_code - p->zero);
        if (fabs(x - floor(x) - 0.5) < 1e-3) p->near_tie = true;
        if (best == p->c[k]) continue;
        plain_move(p, k, -p->scale * (best - p->c[k]));
        p->c[k] = best;
    }
}

/* Inputs of one span: what lies outside the span adds `left` and `right`, made up. */
struct span {
    float hessian[MOST * MOST], left[MOST * ROWS], own[MOST * ROWS], right[MOST * ROWS], products[MOST * ROWS];
    float centred[MOST * ROWS], weights[MOST * ROWS], errors[MOST * ROWS];
    uint8_t codes[MOST * ROWS];
    struct grid_rows grid;
    double before[ROWS], after[ROWS];
};

/* H = A A' + I of noise, the other arrays as the solver would hand them over. */
static void make_span(const struct sq_solve_kernels *kernels, int64_t columns, struct span *s)
{
    float a[MOST * MOST];
    struct sq_tile_scales scales = make_scales(&s->grid, 4);
    fill(a, columns * columns);
    fill(s->weights, columns * ROWS);
    fill(s->left, columns * ROWS);
    fill(s->right, columns * ROWS);
    kernels->nearest(columns, s->weights, scales, max_code, s->codes);
    kernels->residual(columns, s->weights, scales, s->codes, s->errors);
    kernels->centre(columns, s->codes, s->grid.zero, s->centred);
    memset(s->before, 0, sizeof s->before);
    memset(s->after, 0, sizeof s->after);
    for (int64_t i = 0; i < columns; i++) {
        for (int64_t j = 0; j < columns; j++) {
            s->hessian[i * MOST + j] = i == j;
            for (int64_t k = 0; k < columns; k++)
                s->hessian[i * MOST + j] += a[i * columns + k] * a[j * columns + k];
        }
    }
    for (int64_t i = 0; i < columns; i++) {
        for (int64_t r = 0; r < ROWS; r++) {
            s->own[i * ROWS + r] = s->products[i * ROWS + r] = 0;
            for (int64_t k = 0; k < columns; k++) {
                s->own[i * ROWS + r] += s->hessian[i * MOST + k] * s->errors[k * ROWS + r];
                s->products[i * ROWS + r] += s->hessian[i * MOST + k] * s->weights[k * ROWS + r];
            }
        }
    }
}

static struct sq_descent span_descent(struct span *s, int64_t columns, bool refit)
{
    return (struct sq_descent){.columns = columns,
                               .hessian = s->hessian,
                               .hessian_stride = MOST,
                               .left = s->left,
                               .own = s->own,
                               .right = s->right,
                               .weight_products = s->products,
                               .centred = s->centred,
                               .weights = s->weights,
                               .errors = s->errors,
                               .codes = s->codes,
                               .scale = s->grid.scale,
                               .inverse = s->grid.inverse,
                               .zero = s->grid.zero,
                               .max_code = max_code,
                               .scale_dtype = SQ_F16,
                               .refit_scale = refit,
                               .before = s->before,
                               .after = s->after};
}

static struct plain_row make_plain(const struct span *s, int64_t columns, int r, double *h)
{
    struct plain_row p = {columns, h, .scale = (double)s->grid.scale[r], .zero = (double)s->grid.zero[r]};
    for (int64_t i = 0; i < columns; i++) {
        p.c[i] = (double)s->centred[i * ROWS + r];
        p.g[i] = (double)s->left[i * ROWS + r] + (double)s->right[i * ROWS + r];
        for (int64_t k = 0; k < columns; k++) {
            h[i * columns + k] = (double)s->hessian[i * MOST + k];
            p.g[i] += h[i * columns + k] * (double)s->errors[k * ROWS + r];
        }
    }
    return p;
}

/* What the span adds to e H e': its own form and twice what the columns on `side` of it add. */
static double share(const struct span *s, const float *side, const double *h, int64_t columns, int r)
{
    double e[MOST], sum = 0;
    for (int64_t i = 0; i < columns; i++)
        e[i] = (double)s->errors[i * ROWS + r];
    for (int64_t i = 0; i < columns; i++)
        sum += 2 * e[i] * (double)side[i * ROWS + r];
    return sum + oracle_form(columns, h, e);
}

static int n_compared;

/* What became of a span, `done`, beside what should become of it as it was. */
static void compare_span(const struct span *start, const struct span *done, int64_t columns, bool refit)
{
    static double h[MOST * MOST];
    for (int r = 0; r < ROWS; r++) {
        struct plain_row p = make_plain(start, columns, r, h);
        double before = share(start, start->right, h, columns, r), after = share(done, start->left, h, columns, r);
        assert_true(fabs(done->before[r] - before) < 1e-4 * (1 + fabs(before)));
        assert_true(fabs(done->after[r] - after) < 1e-3 * (1 + fabs(after)));
        for (int pass = 0; pass < 2; pass++) {
            if (refit) plain_refit(&p);
            plain_codes(&p);
        }
        if (p.near_tie) continue;
        n_compared++;
        assert_true((double)done->grid.scale[r] == p.scale);
        for (int64_t i = 0; i < columns; i++) {
            assert_int_equal(done->codes[i * ROWS + r], p.c[i] + p.zero);
            assert_true(done->errors[i * ROWS + r] ==
                        done->weights[i * ROWS + r] - done->grid.scale[r] * (done->codes[i * ROWS + r] - 4.0f));
        }
    }
}

/* With and without a scale to refit, by a kernel. */
static void check_descend(const struct sq_solve_kernels *kernels, int64_t columns)
{
    static struct span start, done;
    for (int refit = 0; refit < 2; refit++) {
        make_span(kernels, columns, &start);
        done = start;
        struct sq_descent descent = span_descent(&done, columns, refit);
        kernels->descend(&descent);
        compare_span(&start, &done, columns, refit);
    }
}

static void test_descend(void **state)
{
    (void)state;
    n_compared = 0;
    for_each_variant(check_descend);
    assert_true(n_compared > N_COUNTS * 2 * ROWS / 2); /* most rows meet no near tie */
}

/* The whole span is in the backend's memory: pointers into it are only reckoned here. */
static void test_backend(void **state)
{
    (void)state;
    static struct span start, done;
    struct sq_backend *backend;
    assert_int_equal(backend_create(1, &backend), SQ_OK);
    backend->sizes.solve_rows = ROWS;
    n_compared = 0;
    for (int i = 0; i < 2 * N_COUNTS; i++) {
        int64_t columns = counts[i / 2];
        random_state = (uint64_t)columns;
        make_span(&sq_solve_kernels_generic, columns, &start);
        struct span *there = backend_give(backend, &start, sizeof start);
        struct sq_descent descent = span_descent(there, columns, i % 2);
        assert_int_equal(backend->ops->solve->descend(backend, &descent), SQ_OK);
        backend_take(backend, there, sizeof done, &done);
        backend_free(backend, there);
        compare_span(&start, &done, columns, i % 2);
    }
    assert_true(n_compared > N_COUNTS * 2 * ROWS / 2);
    backend->ops->destroy(backend);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_descend), cmocka_unit_test(test_backend)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
