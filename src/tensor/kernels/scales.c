/* The grid of one group of columns, for a strip of rows at a time. */
#include "tensor/kernels/solve.h"
#include "tensor/kernels/vector.h"

/* The search: factors 1.1 down to 0.2 on the reference's scale in coarse steps, then finer ones about the best. */
#define SEARCH_TOP 1.1f
#define SEARCH_STEP 0.045f
#define N_COARSE 20
#define N_FINE 8

/* One strip of one group. */
struct group_strip {
    int64_t columns;
    const float *weights;    /* first column's strip; columns are SQ_SOLVE_ROWS apart */
    const float *importance; /* [columns] or NULL */
    strip base;              /* the scale that a factor of 1 stands for */
    strip low, high;         /* range of code - zero */
};

/* Largest and smallest weight of each row, 0 included; rows of zeros get the range [-1, 1], as in the reference. */
static void find_range(int64_t columns, const float *weights, strip *smallest_p, strip *largest_p)
{
    const strip none = strip_all(0);
    strip smallest = none, largest = none;
    for (int64_t j = 0; j < columns; j++) {
        strip w = strip_load(weights + j * SQ_SOLVE_ROWS);
        smallest = strip_min(smallest, w);
        largest = strip_max(largest, w);
    }
    strip width = strip_subtract(largest, smallest);
    *smallest_p = strip_select_less(none, width, smallest, strip_all(-1));
    *largest_p = strip_select_less(none, width, largest, strip_all(1));
}

/* sum importance_j (w_j - q_j)^2 for one scale per row. */
static inline strip grid_error(const struct group_strip *group, strip scale)
{
    strip inverse = strip_divide(strip_all(1), scale), sum = strip_all(0);
    for (int64_t j = 0; j < group->columns; j++) {
        strip w = strip_load(group->weights + j * SQ_SOLVE_ROWS);
        strip centred = strip_round_between(strip_multiply(w, inverse), group->low, group->high);
        strip error = strip_subtract(w, strip_multiply(scale, centred));
        strip weighted = group->importance ? strip_multiply(strip_all(group->importance[j]), error) : error;
        sum = strip_madd(weighted, error, sum);
    }
    return sum;
}

struct best {
    strip error, factor;
};

static inline void try_factor(const struct group_strip *group, strip factor, struct best *best)
{
    strip error = grid_error(group, strip_multiply(group->base, factor));
    best->factor = strip_select_less(error, best->error, factor, best->factor);
    best->error = strip_min(error, best->error);
}

static strip search(const struct group_strip *group)
{
    struct best best = {.error = strip_all(3e38f), .factor = strip_all(1)};
    for (int i = 0; i < N_COARSE; i++)
        try_factor(group, strip_all(SEARCH_TOP - SEARCH_STEP * (float)i), &best);
    strip centre = best.factor;
    for (int i = 0; i < N_FINE; i++) {
        float offset = SEARCH_STEP * (2.0f * (float)(i + 1) / (float)(N_FINE + 1) - 1.0f);
        try_factor(group, strip_add(centre, strip_all(offset)), &best);
    }
    return strip_multiply(group->base, best.factor);
}

static void store_scale(enum sq_dtype dtype, strip scale, float *scales, float *inverses)
{
    strip_store(scales, scale);
    for (int i = 0; i < STRIP_ROWS; i++) {
        scales[i] = sq_grid_round_scale(dtype, scales[i]);
        inverses[i] = 1.0f / scales[i];
    }
}

static void find_strip(const struct sq_grid *grid, enum sq_scale_rule rule, int64_t columns, const float *weights,
                       const float *importance, int64_t row, struct sq_tile_scales scales)
{
    const strip none = strip_all(0), max_code = strip_all((float)sq_grid_max_code(grid));
    strip smallest, largest, zero, base;
    find_range(columns, weights + row, &smallest, &largest);
    if (grid->symmetric) {
        strip size = strip_max(largest, strip_subtract(none, smallest));
        zero = strip_all((float)(1 << (grid->bits - 1)));
        base = rule == SQ_SCALE_ABSMAX ? strip_divide(size, strip_subtract(zero, strip_all(1)))
                                       : strip_divide(strip_add(size, size), max_code);
    } else {
        base = strip_divide(strip_subtract(largest, smallest), max_code);
        zero = strip_round_between(strip_divide(strip_subtract(none, smallest), base), none, max_code);
    }
    struct group_strip group = {.columns = columns,
                                .weights = weights + row,
                                .importance = importance,
                                .base = base,
                                .low = strip_subtract(none, zero),
                                .high = strip_subtract(max_code, zero)};
    strip scale = rule == SQ_SCALE_SEARCH ? search(&group) : base;
    strip_store(scales.zero + row, zero);
    store_scale(grid->scale_dtype, scale, scales.scale + row, scales.inverse + row);
}

void SQ_KERNEL(sq_find_scales)(const struct sq_grid *grid, enum sq_scale_rule rule, int64_t columns,
                               const float *weights, const float *importance, struct sq_tile_scales scales)
{
    for (int64_t row = 0; row < SQ_SOLVE_ROWS; row += STRIP_ROWS)
        find_strip(grid, rule, columns, weights, importance, row, scales);
}
