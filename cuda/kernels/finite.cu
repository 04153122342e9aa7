/* Looking for what is no number: each block counts in its rows, then one block adds the counts. */
#include "cuda/kernels/device.cuh"
#include "cuda/kernels/kernels.h"

#define THREADS 128

template <class T> static __global__ void count_bad(const T *x, int64_t stride, int64_t rows, int64_t cols, int *counts)
{
    __shared__ int parts[THREADS / 32];
    int count = 0;
    for (int64_t row = blockIdx.x; row < rows; row += gridDim.x)
        for (int64_t col = threadIdx.x; col < cols; col += THREADS)
            count |= (sq_f32_bits(sq_get(x, row * stride + col)) & 0x7f800000u) == 0x7f800000u;
    count = sq_block_sum<THREADS>(count, parts);
    if (threadIdx.x == 0) counts[blockIdx.x] = count;
}

static __global__ void add_counts(const int *counts, int n, int *sum)
{
    __shared__ int parts[THREADS / 32];
    int count = 0;
    for (int i = threadIdx.x; i < n; i += THREADS)
        count += counts[i];
    count = sq_block_sum<THREADS>(count, parts);
    if (threadIdx.x == 0) *sum = count;
}

cudaError_t sq_kernel_find_bad(cudaStream_t stream, struct sq_matrix x, int *bad)
{
    const unsigned blocks = (unsigned)(x.rows < SQ_FIND_BAD_BLOCKS ? x.rows : SQ_FIND_BAD_BLOCKS);
    int *counts = bad + 1;
    cudaError_t code = cudaSuccess;
    if (blocks > 0 && x.dtype == SQ_F32)
        code = sq_launch(count_bad<float>, blocks, THREADS, stream, (const float *)x.data, x.stride, x.rows, x.cols,
                         counts);
    else if (blocks > 0)
        code = sq_launch(count_bad<uint16_t>, blocks, THREADS, stream, (const uint16_t *)x.data, x.stride, x.rows,
                         x.cols, counts);
    if (code != cudaSuccess) return code;
    return sq_launch(add_counts, 1, THREADS, stream, (const int *)counts, (int)blocks, bad);
}
