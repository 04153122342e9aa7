#include "oracle.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void oracle_invert(int64_t n, double *a)
{
    double *inverse = calloc((size_t)(n * n), sizeof *inverse);
    for (int64_t i = 0; i < n; i++)
        inverse[i * n + i] = 1;
    for (int64_t k = 0; k < n; k++) {
        double pivot = a[k * n + k];
        for (int64_t j = 0; j < n; j++) {
            a[k * n + j] /= pivot;
            inverse[k * n + j] /= pivot;
        }
        for (int64_t i = 0; i < n; i++) {
            double factor = a[i * n + k];
            if (i == k || factor == 0) continue;
            for (int64_t j = 0; j < n; j++) {
                a[i * n + j] -= factor * a[k * n + j];
                inverse[i * n + j] -= factor * inverse[k * n + j];
            }
        }
    }
    memcpy(a, inverse, (size_t)(n * n) * sizeof *a);
    free(inverse);
}

bool oracle_cholesky(int64_t n, double *a)
{
    for (int64_t j = 0; j < n; j++) {
        for (int64_t k = 0; k < j; k++)
            for (int64_t i = j; i < n; i++)
                a[i * n + j] -= a[i * n + k] * a[j * n + k];
        if (!(a[j * n + j] > 0)) return false;
        double root = sqrt(a[j * n + j]);
        for (int64_t i = j; i < n; i++)
            a[i * n + j] /= root;
    }
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = i + 1; j < n; j++)
            a[i * n + j] = 0;
    return true;
}

double oracle_form(int64_t n, const double *h, const double *e)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            sum += e[i] * h[i * n + j] * e[j];
    return sum;
}

static double max_code(const struct oracle_grid *grid)
{
    return (double)((1 << grid->bits) - 1);
}

void oracle_scale(const struct oracle_grid *grid, bool absmax, int64_t count, const double *w, double *scale_p,
                  double *zero_p)
{
    double smallest = 0, largest = 0;
    for (int64_t i = 0; i < count; i++) {
        smallest = fmin(smallest, w[i]);
        largest = fmax(largest, w[i]);
    }
    if (smallest == largest) {
        smallest = -1;
        largest = 1;
    }
    if (grid->symmetric) {
        double limit = fmax(-smallest, largest), half = (double)(1 << (grid->bits - 1));
        *scale_p = absmax ? limit / (half - 1) : 2 * limit / max_code(grid);
        *zero_p = half;
    } else {
        *scale_p = (largest - smallest) / max_code(grid);
        *zero_p = fmin(fmax(nearbyint(-smallest / *scale_p), 0), max_code(grid));
    }
}

double oracle_code(const struct oracle_grid *grid, double w, double scale, double zero)
{
    return fmin(fmax(nearbyint(w / scale) + zero, 0), max_code(grid));
}

void oracle_upper(int64_t n, const double *h, const int32_t *order, double ridge, double *upper)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            upper[i * n + j] = h[order[i] * n + order[j]] + (i == j ? ridge : 0);
    oracle_invert(n, upper);
    oracle_cholesky(n, upper); /* inv(H) = L L' = U'U with U = L' */
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = i + 1; j < n; j++) {
            upper[i * n + j] = upper[j * n + i];
            upper[j * n + i] = 0;
        }
    }
}

/* How far x lies from the nearest quotient at which its code would change. */
static double margin(const struct oracle_grid *grid, double x, double zero)
{
    double code = x + zero;
    if (code <= 0) return 0.5 - code;
    if (code >= max_code(grid)) return code - max_code(grid) + 0.5;
    return 0.5 - fabs(code - nearbyint(code));
}

void oracle_gptq(const struct oracle_grid *grid, int64_t n, const double *upper, const int32_t *order, const double *w,
                 double *scales, double *zeros, oracle_see_fn *see, void *context, double *codes, double *margins)
{
    double *x = malloc((size_t)n * sizeof *x);
    for (int64_t j = 0; j < n; j++)
        x[j] = w[order[j]];
    for (int64_t j = 0; j < n; j++) {
        int64_t column = order[j], group = column / grid->group_size, left = n - j;
        if (see && j % grid->group_size == 0)
            see(context, group, left < grid->group_size ? left : grid->group_size, x + j, &scales[group],
                &zeros[group]);
        codes[column] = oracle_code(grid, x[j], scales[group], zeros[group]);
        margins[column] = margin(grid, x[j] / scales[group], zeros[group]);
        double error = (x[j] - scales[group] * (codes[column] - zeros[group])) / upper[j * n + j];
        for (int64_t k = j + 1; k < n; k++)
            x[k] -= error * upper[j * n + k];
    }
    free(x);
}

/* inverse [count, count] of the block of h that `remaining` names. */
static void invert_block(int64_t n, const double *h, int64_t count, const int64_t *remaining, double *inverse)
{
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < count; j++)
            inverse[i * count + j] = h[remaining[i] * n + remaining[j]];
    oracle_invert(count, inverse);
}

void oracle_obq(const struct oracle_grid *grid, int64_t n, const double *h_damped, const double *w,
                const double *scales, const double *zeros, double *codes)
{
    double *x = malloc((size_t)n * sizeof *x), *inverse = malloc((size_t)(n * n) * sizeof *inverse);
    int64_t *remaining = malloc((size_t)n * sizeof *remaining);
    memcpy(x, w, (size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        remaining[i] = i;
    for (int64_t count = n; count > 0; count--) {
        invert_block(n, h_damped, count, remaining, inverse);
        int64_t cheapest = -1, outlier = -1;
        double lowest = INFINITY, largest = 0;
        for (int64_t i = 0; i < count; i++) {
            int64_t p = remaining[i], g = p / grid->group_size;
            double q = scales[g] * (oracle_code(grid, x[p], scales[g], zeros[g]) - zeros[g]);
            double cost = (x[p] - q) * (x[p] - q) / inverse[i * count + i];
            if (cost < lowest) {
                lowest = cost;
                cheapest = i;
            }
            if (fabs(x[p] - q) > scales[g] / 2 && fabs(x[p] - q) > largest) {
                largest = fabs(x[p] - q);
                outlier = i;
            }
        }
        int64_t best = outlier >= 0 ? outlier : cheapest;
        int64_t p = remaining[best], g = p / grid->group_size;
        codes[p] = oracle_code(grid, x[p], scales[g], zeros[g]);
        double error = (x[p] - scales[g] * (codes[p] - zeros[g])) / inverse[best * count + best];
        for (int64_t i = 0; i < count; i++)
            x[remaining[i]] -= error * inverse[best * count + i];
        memmove(remaining + best, remaining + best + 1, (size_t)(count - 1 - best) * sizeof *remaining);
    }
    free(x);
    free(inverse);
    free(remaining);
}
