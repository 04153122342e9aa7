/* The methods in double precision, straight from the formulas and in the reference's order of work, slow and plain:
 * what the fast solvers are checked against. Matrices are row-major. Nothing here is shared with the program. */
#ifndef SQ_TESTS_ORACLE_H
#define SQ_TESTS_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

struct oracle_grid {
    int bits;
    bool symmetric;
    int64_t group_size;
};

/* a [n, n] = inverse of the symmetric positive definite a. */
void oracle_invert(int64_t n, double *a);

/* a [n, n] = lower Cholesky factor of a, zeros above; false when a is not positive definite. */
bool oracle_cholesky(int64_t n, double *a);

/* e H e' for a row. */
double oracle_form(int64_t n, const double *h, const double *e);

/* Scale and zero of `count` weights: limit max|w| * 2 / (2^b - 1) (reference), max|w| / (2^(b-1) - 1) (absmax), or
 * (max - min) / (2^b - 1) with 0 in the range (asymmetric). Weights that are all zero count as -1 .. 1. */
void oracle_scale(const struct oracle_grid *grid, bool absmax, int64_t count, const double *w, double *scale_p,
                  double *zero_p);

/* code of w on a grid */
double oracle_code(const struct oracle_grid *grid, double w, double scale, double zero);

/* GPTQ on one row as Frantar et al. 2022, algorithm 1: H_perm + ridge I -> Cholesky -> inverse -> upper Cholesky factor
 * U, then for each j: q = grid(w_j), w_k -= (w_j - q) / U_jj * U_jk for k > j. order [n], upper [n, n] from
 * oracle_upper(); w [n] plain order; scales, zeros [groups]. dynamic: at the first column of each group updated
 * [group_size] weights are handed to `see`, which may set the group's scale and zero. codes [n]; margins [n]: distance
 * of each code's quotient from the nearest rounding boundary, in steps. */
typedef void oracle_see_fn(void *context, int64_t group, int64_t count, const double *updated, double *scale,
                           double *zero);
void oracle_upper(int64_t n, const double *h, const int32_t *order, double ridge, double *upper);
void oracle_gptq(const struct oracle_grid *grid, int64_t n, const double *upper, const int32_t *order, const double *w,
                 double *scales, double *zeros, oracle_see_fn *see, void *context, double *codes, double *margins);

/* OBQ on one row by its definition: at each step every remaining weight is tried; rounding weight p and letting the
 * other remaining ones adjust optimally costs (q - w_p)^2 / inv(H_F)_pp, the inverse of the remaining block made
 * afresh. Weights further than half a step from their grid go first, the farthest before the others. */
void oracle_obq(const struct oracle_grid *grid, int64_t n, const double *h_damped, const double *w,
                const double *scales, const double *zeros, double *codes);

#endif
