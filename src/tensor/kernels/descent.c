/* Refinement of one span of columns, for a strip of rows at a time. With e the row's error, c = code - zero, s the
 * scale: a step of c_k by d changes e by -s d in column k, hence e H by -s d H_k and the objective e H e' by s d (s d
 * H_kk - 2 (e H)_k); a step of s by t changes e by -t c and the objective by t (t c H c' - 2 e H c').
 * Inside the span e = w - s c, so c H = (w H - e H) / s = (B - G) / s with G the gradient and B = w H + what comes from
 * outside of the span, which stays as it is: no product is needed for it. */
#include "tensor/kernels/solve.h"
#include "tensor/kernels/vector.h"

#define N_PASSES 2

/* Makes own = G = e H (left + own + right), left = B and right = left - right, and counts the objective's share as it
 * is: the sum over spans of e (own + 2 right) is e H e', as H is symmetric. */
static void gather(const struct sq_descent *d, int64_t row)
{
    strip sum = strip_all(0);
    for (int64_t k = 0, at = row; k < d->columns; k++, at += SQ_SOLVE_ROWS) {
        strip left = strip_load(d->left + at), own = strip_load(d->own + at), right = strip_load(d->right + at);
        strip outside = strip_add(left, right);
        sum = strip_madd(strip_load(d->errors + at), strip_add(own, strip_add(right, right)), sum);
        strip_store(d->own + at, strip_add(outside, own));
        strip_store(d->right + at, strip_subtract(left, right));
        if (d->refit_scale) strip_store(d->left + at, strip_add(outside, strip_load(d->weight_products + at)));
    }
    float lanes[STRIP_ROWS];
    strip_store(lanes, sum);
    for (int i = 0; i < STRIP_ROWS; i++)
        d->before[row + i] += (double)lanes[i];
}

/* The best step of each row's scale, as stored; steps[i] = 0 where the stored type has no better one. A scale at most
 * halves or doubles: one that nearly vanished would leave (B - G) / s without digits. */
static void step_scales(const struct sq_descent *d, int64_t row, const float *slope, const float *curvature,
                        float *steps)
{
    for (int i = 0; i < STRIP_ROWS; i++) {
        float scale = d->scale[row + i];
        float best = scale + slope[i] / curvature[i];
        best = best > 0.5f * scale ? best : 0.5f * scale;
        best = best < 2.0f * scale ? best : 2.0f * scale;
        float proposed = sq_grid_round_scale(d->scale_dtype, best);
        float step = proposed - scale;
        bool better = curvature[i] > 0 && step * (2 * slope[i] - step * curvature[i]) > 0;
        steps[i] = better ? step : 0;
        d->scale[row + i] = better ? proposed : scale;
        d->inverse[row + i] = 1.0f / d->scale[row + i];
    }
}

static void refit_scale(const struct sq_descent *d, int64_t row)
{
    strip slope = strip_all(0), curvature = strip_all(0); /* e H c' and s c H c' */
    const strip inverse = strip_load(d->inverse + row);
    for (int64_t k = 0, at = row; k < d->columns; k++, at += SQ_SOLVE_ROWS) {
        strip centred = strip_load(d->centred + at), own = strip_load(d->own + at);
        slope = strip_madd(centred, own, slope);
        curvature = strip_madd(centred, strip_subtract(strip_load(d->left + at), own), curvature);
    }
    float slopes[STRIP_ROWS], curvatures[STRIP_ROWS], steps[STRIP_ROWS];
    strip_store(slopes, slope);
    strip_store(curvatures, strip_multiply(curvature, inverse));
    step_scales(d, row, slopes, curvatures, steps);
    strip change = strip_multiply(strip_load(steps), inverse);
    if (!strip_any(change)) return;
    for (int64_t k = 0, at = row; k < d->columns; k++, at += SQ_SOLVE_ROWS) {
        strip own = strip_load(d->own + at);
        strip_store(d->own + at, strip_madd(change, strip_subtract(own, strip_load(d->left + at)), own));
    }
}

/* G -= step H_k over the whole span, for the rows of one vector: nothing where none of them moves. */
static inline void apply_step(const struct sq_descent *d, int64_t k, int64_t row, vec step)
{
    const float *hessian = d->hessian + k * d->hessian_stride;
    float *own = d->own + row;
    if (!vec_any(step)) return;
    for (int64_t i = 0; i < d->columns; i++, own += SQ_SOLVE_ROWS)
        vec_store(own, vec_madd(vec_all(-hessian[i]), step, vec_load(own)));
}

/* One pass of coordinate descent: c_k = round(c_k + G_k / (H_kk s)), which is the best code with all others as they
 * are. Few codes move, and a column where none does costs nothing more. */
static void descend_codes(const struct sq_descent *d, int64_t row)
{
    strip zero = strip_load(d->zero + row), scale = strip_load(d->scale + row), inverse = strip_load(d->inverse + row);
    strip low = strip_subtract(strip_all(0), zero), high = strip_add(strip_all((float)d->max_code), low);
    for (int64_t k = 0, at = row; k < d->columns; k++, at += SQ_SOLVE_ROWS) {
        float curvature = d->hessian[k * d->hessian_stride + k];
        if (!(curvature > 0)) continue;
        strip old = strip_load(d->centred + at), best = strip_multiply(strip_load(d->own + at), inverse);
        best = strip_round_between(strip_scaled(1.0f / curvature, best, old), low, high);
        strip move = strip_subtract(best, old);
        if (!strip_any(move)) continue;
        strip_store(d->centred + at, best);
        strip step = strip_multiply(move, scale);
        apply_step(d, k, row, step.a);
        apply_step(d, k, row + VEC_LANES, step.b);
    }
}

/* Stores codes and errors; counts the share as it is now: the sum over spans of e (own + 2 left), where own + left +
 * right is G after the steps and right(the buffer) = left - right. */
static void finish(const struct sq_descent *d, int64_t row)
{
    strip zero = strip_load(d->zero + row), scale = strip_load(d->scale + row), sum = strip_all(0);
    for (int64_t k = 0, at = row; k < d->columns; k++, at += SQ_SOLVE_ROWS) {
        strip centred = strip_load(d->centred + at);
        strip error = strip_subtract(strip_load(d->weights + at), strip_multiply(scale, centred));
        sum = strip_madd(error, strip_add(strip_load(d->own + at), strip_load(d->right + at)), sum);
        strip_store(d->errors + at, error);
        strip_store_u8(d->codes + at, strip_add(centred, zero));
    }
    float lanes[STRIP_ROWS];
    strip_store(lanes, sum);
    for (int i = 0; i < STRIP_ROWS; i++)
        d->after[row + i] += (double)lanes[i];
}

void SQ_KERNEL(sq_descend)(const struct sq_descent *d)
{
    for (int64_t row = 0; row < SQ_SOLVE_ROWS; row += STRIP_ROWS) {
        gather(d, row);
        for (int pass = 0; pass < N_PASSES; pass++) {
            if (d->refit_scale) refit_scale(d, row);
            descend_codes(d, row);
        }
        finish(d, row);
    }
}
