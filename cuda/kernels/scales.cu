/* The grid of one group of columns: a thread per row and group. The same search as on the CPU, step for step. */
#include "cuda/kernels/device.cuh"
#include "cuda/kernels/kernels.h"

#define LANES 64

/* The search: factors 1.1 down to 0.2 on the reference's scale in coarse steps, then finer ones about the best. */
#define SEARCH_TOP 1.1f
#define SEARCH_STEP 0.045f
#define N_COARSE 20
#define N_FINE 8

/* One row of one group. */
struct group_row {
    int64_t columns, lanes;
    const float *weights;    /* of the first column; columns are `lanes` apart */
    const float *importance; /* [columns] or NULL */
    float base;              /* the scale that a factor of 1 stands for */
    float low, high;         /* range of code - zero */
};

/* sum importance_j (w_j - q_j)^2 */
static __device__ float grid_error(const struct group_row &group, float scale)
{
    const float inverse = 1.0f / scale;
    float sum = 0.0f;
    for (int64_t j = 0; j < group.columns; j++) {
        const float w = group.weights[j * group.lanes];
        const float centred = fminf(fmaxf(rintf(w * inverse), group.low), group.high);
        const float error = w - scale * centred;
        sum = fmaf(group.importance ? group.importance[j] * error : error, error, sum);
    }
    return sum;
}

static __device__ float search(const struct group_row &group)
{
    float best = 1.0f, lowest = 3e38f;
    for (int i = 0; i < N_COARSE; i++) {
        const float factor = SEARCH_TOP - SEARCH_STEP * (float)i, error = grid_error(group, group.base * factor);
        if (error < lowest) best = factor;
        lowest = fminf(error, lowest);
    }
    const float centre = best;
    for (int i = 0; i < N_FINE; i++) {
        const float offset = SEARCH_STEP * (2.0f * (float)(i + 1) / (float)(N_FINE + 1) - 1.0f);
        const float factor = centre + offset, error = grid_error(group, group.base * factor);
        if (error < lowest) best = factor;
        lowest = fminf(error, lowest);
    }
    return group.base * best;
}

/* Largest and smallest weight, 0 included; a row of zeros gets the range [-1, 1], as in the reference. */
static __device__ void find_range(const struct group_row &group, float *smallest_p, float *largest_p)
{
    float smallest = 0.0f, largest = 0.0f;
    for (int64_t j = 0; j < group.columns; j++) {
        const float w = group.weights[j * group.lanes];
        smallest = fminf(smallest, w);
        largest = fmaxf(largest, w);
    }
    const bool is_flat = !(0.0f < largest - smallest);
    *smallest_p = is_flat ? -1.0f : smallest;
    *largest_p = is_flat ? 1.0f : largest;
}

static __global__ void find_scales(struct sq_grid grid, int rule, int64_t lanes, int64_t columns, const float *weights,
                                   const float *importance, struct sq_tile_scales scales)
{
    const int64_t lane = (int64_t)blockIdx.x * LANES + threadIdx.x;
    if (lane >= lanes) return;
    const float max_code = (float)((1 << grid.bits) - 1);
    for (int64_t g = blockIdx.y; g * grid.group_size < columns; g += gridDim.y) {
        const int64_t first = g * grid.group_size, left = columns - first, cell = g * lanes + lane;
        struct group_row group = {left < grid.group_size ? left : grid.group_size,
                                  lanes,
                                  weights + first * lanes + lane,
                                  importance ? importance + first : NULL,
                                  0.0f,
                                  0.0f,
                                  0.0f};
        float smallest, largest, zero;
        find_range(group, &smallest, &largest);
        if (grid.symmetric) {
            const float size = fmaxf(largest, -smallest);
            zero = (float)(1 << (grid.bits - 1));
            group.base = rule == SQ_SCALE_ABSMAX ? size / (zero - 1.0f) : (size + size) / max_code;
        } else {
            group.base = (largest - smallest) / max_code;
            zero = fminf(fmaxf(rintf(-smallest / group.base), 0.0f), max_code);
        }
        group.low = -zero;
        group.high = max_code - zero;
        const float scale = sq_grid_round_scale(grid.scale_dtype, rule == SQ_SCALE_SEARCH ? search(group) : group.base);
        scales.zero[cell] = zero;
        scales.scale[cell] = scale;
        scales.inverse[cell] = 1.0f / scale;
    }
}

cudaError_t sq_kernel_find_scales(cudaStream_t stream, int64_t lanes, const struct sq_grid *grid,
                                  enum sq_scale_rule rule, int64_t columns, const float *weights,
                                  const float *importance, struct sq_tile_scales scales)
{
    const int64_t groups = sq_grid_n_groups(grid, columns);
    const dim3 blocks(sq_blocks(lanes, LANES), (unsigned)(groups < 65535 ? groups : 65535));
    return sq_launch(find_scales, blocks, LANES, stream, *grid, (int)rule, lanes, columns, weights, importance, scales);
}
