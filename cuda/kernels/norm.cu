/* Norms: a block per row, sums in a fixed order. */
#include "cuda/kernels/device.cuh"
#include "cuda/kernels/kernels.h"

#define THREADS 128

template <class X, class Y>
static __global__ void norm(bool centred, const X *x, int64_t x_stride, const float *weight, const float *bias,
                            float epsilon, Y *y, int64_t y_stride, int64_t rows, int64_t cols)
{
    __shared__ float parts[THREADS / 32];
    for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
        const X *in = x + row * x_stride;
        Y *out = y + row * y_stride;
        float sum = 0.0f, mean = 0.0f;
        for (int64_t i = threadIdx.x; centred && i < cols; i += THREADS)
            sum += sq_get(in, i);
        if (centred) mean = sq_block_sum<THREADS>(sum, parts) / (float)cols;
        float square = 0.0f;
        for (int64_t i = threadIdx.x; i < cols; i += THREADS) {
            const float difference = sq_get(in, i) - mean;
            square += difference * difference;
        }
        const float factor = 1.0f / sqrtf(sq_block_sum<THREADS>(square, parts) / (float)cols + epsilon);
        for (int64_t i = threadIdx.x; i < cols; i += THREADS) {
            const float value = (sq_get(in, i) - mean) * factor;
            sq_put(bias ? fmaf(value, weight[i], bias[i]) : value * weight[i], out, i);
        }
    }
}

template <class X, class Y>
static cudaError_t run(cudaStream_t stream, bool centred, struct sq_matrix x, const float *weight, const float *bias,
                       float epsilon, struct sq_matrix y)
{
    return sq_launch(norm<X, Y>, sq_blocks(x.rows, 1), THREADS, stream, centred, (const X *)x.data, x.stride, weight,
                     bias, epsilon, (Y *)y.data, y.stride, x.rows, x.cols);
}

cudaError_t sq_kernel_norm(cudaStream_t stream, enum sq_norm_kind kind, struct sq_matrix x, const float *weight,
                           const float *bias, float epsilon, struct sq_matrix y)
{
    const bool centred = kind == SQ_NORM_LAYER;
    if (x.dtype == SQ_F32)
        return y.dtype == SQ_F32 ? run<float, float>(stream, centred, x, weight, bias, epsilon, y)
                                 : run<float, uint16_t>(stream, centred, x, weight, bias, epsilon, y);
    return y.dtype == SQ_F32 ? run<uint16_t, float>(stream, centred, x, weight, bias, epsilon, y)
                             : run<uint16_t, uint16_t>(stream, centred, x, weight, bias, epsilon, y);
}
