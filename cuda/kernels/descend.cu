/* Refinement of one span of columns: a thread has a row, the same steps as on the CPU (src/tensor/kernels/descent.c
 * says what they do). The row's gradient G is in shared memory: a step of a code changes all of it. */
#include "cuda/kernels/device.cuh"
#include "cuda/kernels/kernels.h"

#define LANES 32 /* threads of a block: one warp */
#define N_PASSES 2

typedef float gradient[SQ_SOLVE_COLUMNS][LANES];
static_assert(sizeof(gradient) <= 48 * 1024, "shared memory without asking for more");

/* What one thread works on. */
struct row {
    const struct sq_descent *d;
    int64_t lanes, lane;
    int columns;
};

#define AT(k) ((k)*r.lanes + r.lane)

/* G = left + own + right; left = B, right = left - right. Returns the span's share of e H e' as it is. */
static __device__ float gather(const struct row &r, gradient g)
{
    float sum = 0.0f;
    for (int k = 0; k < r.columns; k++) {
        const float left = r.d->left[AT(k)], own = r.d->own[AT(k)], right = r.d->right[AT(k)];
        sum = fmaf(r.d->errors[AT(k)], own + (right + right), sum);
        g[k][threadIdx.x] = (left + right) + own;
        r.d->right[AT(k)] = left - right;
        if (r.d->refit_scale) r.d->left[AT(k)] = (left + right) + r.d->weight_products[AT(k)];
    }
    return sum;
}

/* The best step of the row's scale, as stored; 0 where the stored type has no better one. */
static __device__ float step_scale(const struct row &r, float slope, float curvature)
{
    const float scale = r.d->scale[r.lane];
    float best = scale + slope / curvature;
    best = best > 0.5f * scale ? best : 0.5f * scale;
    best = best < 2.0f * scale ? best : 2.0f * scale;
    const float proposed = sq_grid_round_scale(r.d->scale_dtype, best), step = proposed - scale;
    const bool better = curvature > 0.0f && step * (2.0f * slope - step * curvature) > 0.0f;
    if (!better) return 0.0f;
    r.d->scale[r.lane] = proposed;
    r.d->inverse[r.lane] = 1.0f / proposed;
    return step;
}

static __device__ void refit_scale(const struct row &r, gradient g)
{
    const float inverse = r.d->inverse[r.lane];
    float slope = 0.0f, curvature = 0.0f; /* e H c' and s c H c' */
    for (int k = 0; k < r.columns; k++) {
        const float centred = r.d->centred[AT(k)];
        slope = fmaf(centred, g[k][threadIdx.x], slope);
        curvature = fmaf(centred, r.d->left[AT(k)] - g[k][threadIdx.x], curvature);
    }
    const float change = step_scale(r, slope, curvature * inverse) * inverse;
    for (int k = 0; change != 0.0f && k < r.columns; k++)
        g[k][threadIdx.x] = fmaf(change, g[k][threadIdx.x] - r.d->left[AT(k)], g[k][threadIdx.x]);
}

/* One pass over the codes: c_k = round(c_k + G_k / (H_kk s)). Few codes move. */
static __device__ void descend_codes(const struct row &r, gradient g)
{
    const float zero = r.d->zero[r.lane], scale = r.d->scale[r.lane], inverse = r.d->inverse[r.lane];
    for (int k = 0; k < r.columns; k++) {
        const float *hessian = r.d->hessian + k * r.d->hessian_stride;
        const float curvature = hessian[k];
        if (!(curvature > 0.0f)) continue;
        const float old = r.d->centred[AT(k)];
        float best = fmaf(1.0f / curvature, g[k][threadIdx.x] * inverse, old);
        best = fminf(fmaxf(rintf(best), -zero), (float)r.d->max_code - zero);
        const float step = (best - old) * scale;
        if (best == old) continue;
        r.d->centred[AT(k)] = best;
        for (int i = 0; i < r.columns; i++)
            g[i][threadIdx.x] = fmaf(-hessian[i], step, g[i][threadIdx.x]);
    }
}

/* Stores codes and errors; returns the share as it is now. */
static __device__ float finish(const struct row &r, gradient g)
{
    const float zero = r.d->zero[r.lane], scale = r.d->scale[r.lane];
    float sum = 0.0f;
    for (int k = 0; k < r.columns; k++) {
        const float centred = r.d->centred[AT(k)], error = r.d->weights[AT(k)] - scale * centred;
        sum = fmaf(error, g[k][threadIdx.x] + r.d->right[AT(k)], sum);
        r.d->errors[AT(k)] = error;
        r.d->codes[AT(k)] = (uint8_t)(centred + zero);
    }
    return sum;
}

static __global__ void __launch_bounds__(LANES) descend(int64_t lanes, struct sq_descent descent)
{
    __shared__ gradient g;
    const struct row r = {&descent, lanes, (int64_t)blockIdx.x * LANES + threadIdx.x, (int)descent.columns};
    descent.before[r.lane] += (double)gather(r, g);
    for (int pass = 0; pass < N_PASSES; pass++) {
        if (descent.refit_scale) refit_scale(r, g);
        descend_codes(r, g);
    }
    descent.after[r.lane] += (double)finish(r, g);
}

cudaError_t sq_kernel_descend(cudaStream_t stream, int64_t lanes, const struct sq_descent *descent)
{
    return sq_launch(descend, sq_blocks(lanes, LANES), LANES, stream, lanes, *descent);
}
