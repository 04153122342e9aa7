/* The scales of wide groups against least squares in double precision. */
#include "gptq/solve_tile.h"
#include "solve_fixture.h"

/* A tile of plain rounding on the reference's grid, ready to be refitted. */
struct fixture_tile {
    struct sq_backend *backend;
    struct sq_factor factor;
    struct sq_solve_options options;
    struct sq_tile tile;
    void *scratch;
};

static void tile_create(const struct layer *layer, const struct sq_grid *grid, struct fixture_tile *f)
{
    int64_t n = layer->n;
    f->options = (struct sq_solve_options){.grid_kind = SQ_GRID_REFERENCE, .static_groups = true, .grid = *grid};
    assert_int_equal(sq_backend_create_cpu(1, SQ_ISA_BEST, &f->backend), SQ_OK);
    assert_int_equal(sq_factor_create(f->backend, n, SQ_FACTOR_ALONE, &f->factor), SQ_OK);
    memcpy(f->factor.hessian.data, layer->hessian, (size_t)(n * n) * sizeof(float));
    size_t bytes = (sq_tile_layout(&f->backend->sizes, &f->options, n, NULL, &f->tile) + 63) / 64 * 64;
    f->scratch = aligned_alloc(64, bytes);
    memset(f->scratch, 0xff, bytes); /* all NaN: nothing may be read before it is written */
    sq_tile_layout(&f->backend->sizes, &f->options, n, f->scratch, &f->tile);
    f->tile.backend = f->backend;
    f->tile.factor = &f->factor;
    f->factor.n = n;
    for (int64_t j = 0; j < n; j++)
        for (int64_t r = 0; r < SQ_SOLVE_ROWS; r++)
            f->tile.weights[j * SQ_SOLVE_ROWS + r] = r < layer->rows ? layer->weights[r * n + j] : 0;
    assert_int_equal(sq_tile_rtn(&f->tile), SQ_OK);
    assert_int_equal(sq_tile_residual(&f->tile), SQ_OK);
}

static void tile_destroy(struct fixture_tile *f)
{
    sq_factor_destroy(f->backend, &f->factor);
    f->backend->ops->destroy(f->backend);
    free(f->scratch);
}

/* One row of the tile in double: weights, code - zero, scales. */
struct plain_row {
    double *w, *c, *s;
};

static double error_at(const struct plain_row *p, const struct sq_grid *grid, int64_t j)
{
    return p->w[j] - p->s[j / grid->group_size] * p->c[j];
}

/* The best scale of columns [first, end) by least squares: s + e H c' / c H c'. */
static double best_scale(const struct plain_row *p, const struct sq_grid *grid, int64_t n, const double *h,
                         int64_t first, int64_t end)
{
    double slope = 0, curvature = 0;
    for (int64_t k = first; k < end; k++) {
        for (int64_t j = 0; j < n; j++)
            slope += p->c[k] * h[k * n + j] * error_at(p, grid, j);
        for (int64_t j = first; j < end; j++)
            curvature += p->c[k] * h[k * n + j] * p->c[j];
    }
    double scale = p->s[first / grid->group_size];
    return fmin(fmax(scale + slope / curvature, scale / 2), scale * 2);
}

static double row_form(const struct plain_row *p, const struct sq_grid *grid, int64_t n, const double *h)
{
    double *e = malloc((size_t)n * sizeof *e);
    for (int64_t j = 0; j < n; j++)
        e[j] = error_at(p, grid, j);
    double form = oracle_form(n, h, e);
    free(e);
    return form;
}

static void load_row(const struct fixture_tile *f, const float *old_scales, int64_t r, struct plain_row *p)
{
    const struct sq_tile *tile = &f->tile;
    for (int64_t g = 0; g < tile->groups; g++)
        p->s[g] = (double)old_scales[g * SQ_SOLVE_ROWS + r];
    for (int64_t j = 0; j < tile->n; j++) {
        int64_t at = j * SQ_SOLVE_ROWS + r, group = j / f->options.grid.group_size * SQ_SOLVE_ROWS + r;
        p->w[j] = (double)tile->weights[at];
        p->c[j] = tile->codes[at] - (double)tile->scales.zero[group];
    }
}

static int n_compared, n_moved;

/* Takes each wide group's scale to its best value in turn, as the program's did; its own choice goes on where f32 may
 * have chosen otherwise. Returns what the row gained. */
static double check_row(const struct fixture_tile *f, const double *h, const float *old_scales, int64_t r,
                        struct plain_row *p)
{
    const struct sq_grid *grid = &f->options.grid;
    int64_t n = f->tile.n, size = grid->group_size;
    load_row(f, old_scales, r, p);
    double before = row_form(p, grid, n, h);
    for (int64_t g = 0; g < f->tile.groups; g++) {
        int64_t first = g * size, end = first + size < n ? first + size : n;
        double chosen = (double)f->tile.scales.scale[g * SQ_SOLVE_ROWS + r];
        assert_true(f->tile.scales.inverse[g * SQ_SOLVE_ROWS + r] == 1.0f / (float)chosen);
        if (end - first <= SQ_SOLVE_COLUMNS) {
            assert_true(chosen == p->s[g]);
            continue;
        }
        double best = best_scale(p, grid, n, h, first, end);
        float stored = sq_grid_round_scale(grid->scale_dtype, (float)best);
        bool near_tie = sq_grid_round_scale(grid->scale_dtype, (float)(best * (1 - 1e-5))) != stored ||
                        sq_grid_round_scale(grid->scale_dtype, (float)(best * (1 + 1e-5))) != stored;
        n_moved += chosen != p->s[g];
        if (!near_tie) assert_true(chosen == (double)stored);
        n_compared += !near_tie;
        p->s[g] = chosen;
    }
    for (int64_t j = 0; j < n; j++)
        assert_true(fabs((double)f->tile.errors[j * SQ_SOLVE_ROWS + r] - error_at(p, grid, j)) < 1e-6);
    return before - row_form(p, grid, n, h);
}

static void check_tile(const struct layer *layer, const struct sq_grid *grid)
{
    struct fixture_tile f;
    tile_create(layer, grid, &f);
    size_t n = (size_t)layer->n, scale_bytes = (size_t)(f.tile.groups * SQ_SOLVE_ROWS) * sizeof(float);
    double *h = fixture_exact_hessian(layer), gained = -1, sum = 0;
    float *old_scales = malloc(scale_bytes);
    struct plain_row p = {malloc(n * sizeof(double)), malloc(n * sizeof(double)), malloc(n * sizeof(double))};
    memcpy(old_scales, f.tile.scales.scale, scale_bytes);
    assert_int_equal(sq_tile_refit_wide(&f.tile, &gained), SQ_OK);
    for (int64_t r = 0; r < layer->rows; r++) {
        double gain = check_row(&f, h, old_scales, r, &p);
        assert_true(gain >= 0);
        sum += gain;
    }
    assert_true(fabs(gained - sum) <= 1e-3 * sum); /* products in f32 */
    if (f.tile.groups == 1) {                      /* only a step that was held to a half goes on */
        assert_int_equal(sq_tile_refit_wide(&f.tile, &gained), SQ_OK);
        assert_true(gained >= 0 && gained < 1e-3 * sum);
    }
    void *memories[] = {h, old_scales, p.w, p.c, p.s};
    for (int i = 0; i < 5; i++)
        free(memories[i]);
    tile_destroy(&f);
}

/* One group of all columns; two wide groups and a narrow one, which is left alone. */
static void test_least_squares(void **state)
{
    (void)state;
    struct layer layer = fixture_layer(20, 640, 300, -1, 61);
    static const struct sq_grid grids[] = {
        {4, true, 640, SQ_F16}, {3, false, 640, SQ_BF16}, {3, true, 300, SQ_F16}, {4, false, 270, SQ_F16}};
    n_compared = n_moved = 0;
    for (int g = 0; g < 4; g++)
        check_tile(&layer, &grids[g]);
    assert_true(n_compared > 110 && n_moved > 110); /* of 120 scales */
    layer_free(&layer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_least_squares)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
