/* The softmax of a row that arrives in pieces: a block per row. */
#include "cuda/kernels/device.cuh"
#include "cuda/kernels/kernels.h"

#define THREADS 256

struct top {
    float value;
    int col; /* the first of equals; -1: none yet */
};

static __device__ struct top larger(struct top a, struct top b)
{
    const bool second = b.col >= 0 && (a.col < 0 || b.value > a.value || (b.value == a.value && b.col < a.col));
    return second ? b : a;
}

/* The largest entry of the row, on every thread; NaN is never the largest. */
static __device__ struct top find_top(const float *z, int64_t cols, struct top *tops)
{
    struct top top = {0.0f, -1};
    for (int64_t i = threadIdx.x; i < cols; i += THREADS) {
        const struct top here = {z[i], z[i] == z[i] ? (int)i : -1};
        top = larger(top, here);
    }
    for (int distance = 16; distance > 0; distance /= 2) {
        const struct top other = {__shfl_xor_sync(SQ_ALL_LANES, top.value, distance),
                                  __shfl_xor_sync(SQ_ALL_LANES, top.col, distance)};
        top = larger(top, other);
    }
    __syncthreads();
    if (threadIdx.x % 32 == 0) tops[threadIdx.x / 32] = top;
    __syncthreads();
    top = tops[0];
    for (int warp = 1; warp < THREADS / 32; warp++)
        top = larger(top, tops[warp]);
    return top;
}

static __device__ struct sq_softmax raised(struct sq_softmax state, struct top top, int64_t first)
{
    if (top.col < 0 || !(top.value > state.max)) return state;
    const double factor = exp((double)state.max - (double)top.value);
    state.sum *= factor;
    state.cross *= factor;
    state.max = top.value;
    state.argmax = (int32_t)(first + top.col);
    return state;
}

static __global__ void fold(struct sq_matrix z, struct sq_matrix other, int64_t first, struct sq_softmax *states)
{
    __shared__ struct top tops[THREADS / 32];
    __shared__ double parts[THREADS / 32];
    for (int64_t row = blockIdx.x; row < z.rows; row += gridDim.x) {
        const float *logits = (const float *)z.data + row * z.stride;
        const float *others = other.data ? (const float *)other.data + row * other.stride : NULL;
        struct sq_softmax state = raised(states[row], find_top(logits, z.cols, tops), first);
        double sum = 0.0, cross = 0.0;
        for (int64_t i = threadIdx.x; i < z.cols; i += THREADS) {
            const float e = expf(logits[i] - state.max);
            sum += (double)e;
            if (others) cross += (double)(e * (logits[i] - others[i]));
        }
        sum = sq_block_sum<THREADS>(sum, parts);
        if (others) cross = sq_block_sum<THREADS>(cross, parts);
        state.sum += sum;
        state.cross += cross;
        if (threadIdx.x == 0) states[row] = state; /* all have read it: the sums lie between */
    }
}

cudaError_t sq_kernel_softmax_fold(cudaStream_t stream, struct sq_matrix z, struct sq_matrix other, int64_t first,
                                   struct sq_softmax *state)
{
    return sq_launch(fold, sq_blocks(z.rows, 1), THREADS, stream, z, other, first, state);
}
