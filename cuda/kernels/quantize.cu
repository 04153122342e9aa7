/* The column kernel. A warp owns 32 rows, a thread one of them; its columns come in spans of SPAN whose values are in
 * registers. The span's rows of M' are in shared memory, column by column, so that a thread reads what it needs of
 * column k with a few wide loads that all threads share. W, the products and the errors are touched once, along rows of
 * the tile; only the errors of earlier spans of the block are read again, from the cache. */
#include "cuda/kernels/device.cuh"
#include "cuda/kernels/kernels.h"

#define LANES 32 /* threads of a block: one warp, so that a small tile still spreads over many multiprocessors */
#define SPAN 32
#define STRIDE (SPAN + 4) /* wide loads stay aligned, and stores by columns meet fewer bank conflicts */
static_assert(SQ_SOLVE_COLUMNS * STRIDE * sizeof(float) + SPAN * 8 <= 48 * 1024,
              "shared memory without asking for more");

/* The span's part of M': m[k][i] = unit[first + i][k], k < first + SPAN; zero where the block ends. */
static __device__ void stage(const float *unit, int64_t unit_stride, int first, int count, float (*m)[STRIDE])
{
    for (int i = 0; i < SPAN; i++)
        for (int k = threadIdx.x; k < first + SPAN; k += LANES)
            m[k][i] = i < count && k < first + i ? unit[(first + i) * unit_stride + k] : 0.0f;
}

/* x[i] += sum over k < first of earlier[k] m[k][i] */
static __device__ __forceinline__ void add_earlier(const float *earlier, int64_t lanes, int first,
                                                   const float (*m)[STRIDE], float (&x)[SPAN])
{
    for (int k = 0; k < first; k++) {
        const float value = earlier[k * lanes];
#pragma unroll
        for (int i = 0; i < SPAN; i++)
            x[i] = fmaf(m[k][i], value, x[i]);
    }
}

/* --- quantize ----------------------------------------------------------------------------------------------------- */

/* One column of the thread's row: code, error and loss of the updated value x. */
static __device__ __forceinline__ float round_column(const struct sq_column_block &b, int64_t lanes, int64_t lane,
                                                     int64_t j, int64_t index, int64_t cell, float weight, float x,
                                                     float *loss)
{
    const float zero = b.scales.zero[cell];
    const float centred = fminf(fmaxf(rintf(x * b.scales.inverse[cell]), -zero), (float)b.max_code - zero);
    const float rounded = b.scales.scale[cell] * centred, error = weight - rounded;
    if (b.loss) {
        const float missed = x - rounded, gross = fmaf(b.variance[index] * missed, missed, *loss);
        *loss = fmaf(-b.ridge * error, error, gross);
    }
    b.errors[j * lanes + lane] = error;
    b.codes[index * lanes + lane] = (uint8_t)(centred + zero);
    return error;
}

static __global__ void __launch_bounds__(LANES) quantize(int64_t lanes, struct sq_column_block b)
{
    __shared__ float m[SQ_SOLVE_COLUMNS][STRIDE];
    __shared__ int32_t index[SPAN], group[SPAN];
    const int64_t lane = (int64_t)blockIdx.x * LANES + threadIdx.x;
    const int columns = (int)b.columns;
    float loss = 0.0f;
    for (int first = 0; first < columns; first += SPAN) {
        const int count = columns - first < SPAN ? columns - first : SPAN;
        __syncthreads(); /* the span before may still be read */
        stage(b.unit, b.unit_stride, first, count, m);
        for (int i = threadIdx.x; i < count; i += LANES) {
            index[i] = b.index[first + i];
            group[i] = index[i] / (int32_t)b.group_size;
        }
        __syncthreads();
        float w[SPAN], x[SPAN];
#pragma unroll
        for (int i = 0; i < SPAN; i++) {
            w[i] = i < count ? b.weights[index[i] * lanes + lane] : 0.0f;
            x[i] = i < count ? w[i] + b.products[(first + i) * lanes + lane] : 0.0f;
        }
        add_earlier(b.errors + lane, lanes, first, m, x);
#pragma unroll
        for (int i = 0; i < SPAN; i++) {
            if (i >= count) break;
            const float error =
                round_column(b, lanes, lane, first + i, index[i], group[i] * lanes + lane, w[i], x[i], &loss);
#pragma unroll
            for (int later = i + 1; later < SPAN; later++)
                x[later] = fmaf(m[first + i][later], error, x[later]);
        }
    }
    if (b.loss) b.loss[lane] += (double)loss;
}

cudaError_t sq_kernel_quantize(cudaStream_t stream, int64_t lanes, const struct sq_column_block *block)
{
    return sq_launch(quantize, sq_blocks(lanes, LANES), LANES, stream, lanes, *block);
}

/* --- settle ------------------------------------------------------------------------------------------------------- */

/* y_j = products_j - sum_{k<j} y_k M_kj goes to updated, then weights are added. A group may be wider than shared
 * memory has room for: M' is read as it comes, one number for all threads. */
static __global__ void __launch_bounds__(LANES)
    settle(int64_t lanes, int64_t columns, const float *unit, int64_t unit_stride, const float *products,
           const float *weights, float *updated)
{
    const int64_t lane = (int64_t)blockIdx.x * LANES + threadIdx.x;
    for (int64_t first = 0; first < columns; first += SPAN) {
        const int count = (int)(columns - first < SPAN ? columns - first : SPAN);
        float y[SPAN];
#pragma unroll
        for (int i = 0; i < SPAN; i++)
            y[i] = i < count ? products[(first + i) * lanes + lane] : 0.0f;
        for (int64_t k = 0; k < first; k++) {
            const float value = updated[k * lanes + lane];
#pragma unroll
            for (int i = 0; i < SPAN; i++)
                if (i < count) y[i] = fmaf(-unit[(first + i) * unit_stride + k], value, y[i]);
        }
#pragma unroll
        for (int i = 0; i < SPAN; i++) {
            if (i >= count) break;
            updated[(first + i) * lanes + lane] = y[i];
#pragma unroll
            for (int later = i + 1; later < SPAN; later++)
                if (later < count) y[later] = fmaf(-unit[(first + later) * unit_stride + first + i], y[i], y[later]);
        }
    }
    for (int64_t j = 0; j < columns; j++)
        updated[j * lanes + lane] += weights[j * lanes + lane];
}

cudaError_t sq_kernel_settle(cudaStream_t stream, int64_t lanes, int64_t columns, const float *unit,
                             int64_t unit_stride, const float *products, const float *weights, float *updated)
{
    return sq_launch(settle, sq_blocks(lanes, LANES), LANES, stream, lanes, columns, unit, unit_stride, products,
                     weights, updated);
}
