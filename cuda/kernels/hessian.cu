/* The exact sums of Hessians. */
#include "cuda/kernels/device.cuh"
#include "cuda/kernels/kernels.h"

#define EDGE 32
#define ROWS 8 /* threads that share a column, and rows of a square that a block has in hand at once */

/* --- column squares ----------------------------------------------------------------------------------------------- */

/* Block: EDGE columns; each of ROWS threads of a column sums every ROWS-th row, then they are added in order. */
template <class T>
static __global__ void column_squares(const T *x, int64_t stride, int64_t rows, int64_t cols, double *squares)
{
    __shared__ double parts[ROWS][EDGE];
    const int64_t col = (int64_t)blockIdx.x * EDGE + threadIdx.x;
    double sum = 0.0;
    for (int64_t row = threadIdx.y; col < cols && row < rows; row += ROWS) {
        const double value = (double)sq_get(x, row * stride + col);
        sum += value * value;
    }
    parts[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || col >= cols) return;
    for (int part = 1; part < ROWS; part++)
        sum += parts[part][threadIdx.x];
    squares[col] = sum;
}

cudaError_t sq_kernel_column_squares(cudaStream_t stream, struct sq_matrix x, double *squares)
{
    const dim3 grid(sq_blocks(x.cols, EDGE)), block(EDGE, ROWS);
    if (x.dtype == SQ_F32)
        return sq_launch(column_squares<float>, grid, block, stream, (const float *)x.data, x.stride, x.rows, x.cols,
                         squares);
    return sq_launch(column_squares<uint16_t>, grid, block, stream, (const uint16_t *)x.data, x.stride, x.rows, x.cols,
                     squares);
}

/* --- fixed point -------------------------------------------------------------------------------------------------- */

static __global__ void fixed_add(struct sq_matrix c, const float *row_scale, const float *col_scale,
                                 struct sq_matrix sums)
{
    const int64_t col = (int64_t)blockIdx.x * SQ_ELEMENT_THREADS + threadIdx.x;
    if (col >= c.cols) return;
    for (int64_t row = blockIdx.y; row < c.rows; row += gridDim.y)
        ((int64_t *)sums.data)[row * sums.stride + col] +=
            (int64_t)(((const float *)c.data)[row * c.stride + col] * row_scale[row] * col_scale[col]);
}

cudaError_t sq_kernel_fixed_add(cudaStream_t stream, struct sq_matrix c, const float *row_scale, const float *col_scale,
                                struct sq_matrix sums)
{
    return sq_launch(fixed_add, sq_element_grid(c.rows, c.cols), SQ_ELEMENT_THREADS, stream, c, row_scale, col_scale,
                     sums);
}

static __global__ void fixed_get(struct sq_matrix sums, const double *row_scale, const double *col_scale,
                                 struct sq_matrix c)
{
    const int64_t col = (int64_t)blockIdx.x * SQ_ELEMENT_THREADS + threadIdx.x;
    if (col >= c.cols) return;
    for (int64_t row = blockIdx.y; row < c.rows; row += gridDim.y)
        ((float *)c.data)[row * c.stride + col] =
            (float)((double)((const int64_t *)sums.data)[row * sums.stride + col] * row_scale[row] * col_scale[col]);
}

cudaError_t sq_kernel_fixed_get(cudaStream_t stream, struct sq_matrix sums, const double *row_scale,
                                const double *col_scale, struct sq_matrix c)
{
    return sq_launch(fixed_get, sq_element_grid(c.rows, c.cols), SQ_ELEMENT_THREADS, stream, sums, row_scale, col_scale,
                     c);
}

/* --- the upper triangle ------------------------------------------------------------------------------------------- */

/* Block: one square of the lower triangle, by way of shared memory, so that reads and writes both go along rows. */
static __global__ void mirror(float *m, int64_t stride, int64_t row, int64_t end)
{
    __shared__ float square[EDGE][EDGE + 1];
    const int64_t row0 = row + (int64_t)blockIdx.y * EDGE, col0 = (int64_t)blockIdx.x * EDGE;
    for (int64_t i = threadIdx.y; i < EDGE; i += ROWS)
        if (row0 + i < end && col0 + threadIdx.x < row0 + i) /* the rest is what others write */
            square[i][threadIdx.x] = m[(row0 + i) * stride + col0 + threadIdx.x];
    __syncthreads();
    for (int64_t j = threadIdx.y; j < EDGE; j += ROWS)
        if (row0 + threadIdx.x < end && col0 + j < row0 + threadIdx.x)
            m[(col0 + j) * stride + row0 + threadIdx.x] = square[threadIdx.x][j];
}

cudaError_t sq_kernel_mirror(cudaStream_t stream, struct sq_matrix m, int64_t row, int64_t rows)
{
    const dim3 grid(sq_blocks(row + rows, EDGE), sq_blocks(rows, EDGE));
    return sq_launch(mirror, grid, dim3(EDGE, ROWS), stream, (float *)m.data, m.stride, row, row + rows);
}
