/* Whether a scale is the one that a rule asks for, by the rule in double precision. */
#ifndef SQ_TESTS_SCALE_CHECK_H
#define SQ_TESTS_SCALE_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "oracle.h"
#include "tensor/solve_ops.h"

/* One row of a group: weights are `stride` apart. */
struct scale_case {
    const struct oracle_grid *grid;
    enum sq_scale_rule rule;
    int64_t columns, stride;
    const float *weights;
    const float *importance; /* [columns] or NULL */
};

static inline double scale_error(const struct scale_case *c, double scale, double zero)
{
    double sum = 0;
    for (int64_t j = 0; j < c->columns; j++) {
        double x = (double)c->weights[j * c->stride], e = x - scale * (oracle_code(c->grid, x, scale, zero) - zero);
        sum += (c->importance ? (double)c->importance[j] : 1) * e * e;
    }
    return sum;
}

/* The smallest error of the same 20 coarse and 8 fine steps. */
static inline double scale_best_error(const struct scale_case *c, double base, double zero)
{
    double best = INFINITY, best_factor = 1;
    for (int phase = 0; phase < 2; phase++) {
        double centre = best_factor;
        for (int i = 0; i < (phase ? 8 : 20); i++) {
            double factor = phase ? centre + 0.045 * (2.0 * (i + 1) / 9 - 1) : 1.1 - 0.045 * i;
            double error = scale_error(c, base * factor, zero);
            if (error < best) best_factor = factor;
            best = fmin(best, error);
        }
    }
    return best;
}

/* An f16 scale and its zero point. Where f32 sees two errors as equal the choice is free, so errors are compared. */
static inline void check_scale(const struct scale_case *c, double scale, double zero)
{
    enum { MOST_COLUMNS = 512 };
    double exact[MOST_COLUMNS], base, base_zero;
    for (int64_t j = 0; j < c->columns; j++)
        exact[j] = (double)c->weights[j * c->stride];
    oracle_scale(c->grid, c->rule == SQ_SCALE_ABSMAX, c->columns, exact, &base, &base_zero);
    assert_true(fabs(zero - base_zero) <= 1); /* the row of zeros, taken as -1 .. 1, has a tie here */
    if (c->rule != SQ_SCALE_SEARCH) {
        assert_true(fabs(scale - base) <= base * 0x1p-11 * 1.001);
        return;
    }
    /* rounding the scale to f16 moves each point of the grid by up to 2^-11 of itself */
    double found = scale_error(c, scale, zero), best = scale_best_error(c, base, zero), shift = 0;
    for (int64_t j = 0; j < c->columns; j++)
        shift += (c->importance ? (double)c->importance[j] : 1) * exact[j] * exact[j] * 0x1p-22;
    assert_true(sqrt(found) <= sqrt(best) * 1.0001 + 2 * sqrt(shift));
}

#endif
