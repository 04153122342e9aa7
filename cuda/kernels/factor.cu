/* Whole matrices before and after the factorization. */
#include "cuda/kernels/device.cuh"
#include "cuda/kernels/kernels.h"

#define EDGE 32
#define ROWS 8

/* --- elements ----------------------------------------------------------------------------------------------------- */

static __global__ void clear_upper(float *a, int64_t stride, int64_t n)
{
    const int64_t col = (int64_t)blockIdx.x * SQ_ELEMENT_THREADS + threadIdx.x;
    if (col >= n) return;
    for (int64_t row = blockIdx.y; row < col; row += gridDim.y)
        a[row * stride + col] = 0.0f;
}

cudaError_t sq_kernel_clear_upper(cudaStream_t stream, struct sq_matrix a)
{
    return sq_launch(clear_upper, sq_element_grid(a.rows, a.cols), SQ_ELEMENT_THREADS, stream, (float *)a.data,
                     a.stride, a.rows);
}

static __global__ void diagonal(const float *m, int64_t stride, int64_t n, float *out)
{
    const int64_t i = (int64_t)blockIdx.x * SQ_ELEMENT_THREADS + threadIdx.x;
    if (i < n) out[i] = m[i * stride + i];
}

cudaError_t sq_kernel_diagonal(cudaStream_t stream, struct sq_matrix m, float *out)
{
    return sq_launch(diagonal, sq_blocks(m.rows, SQ_ELEMENT_THREADS), SQ_ELEMENT_THREADS, stream, (const float *)m.data,
                     m.stride, m.rows, out);
}

static __global__ void set_dead(const uint8_t *dead, float *h, int64_t stride, int64_t n)
{
    const int64_t col = (int64_t)blockIdx.x * SQ_ELEMENT_THREADS + threadIdx.x;
    if (col >= n) return;
    for (int64_t row = blockIdx.y; row < n; row += gridDim.y)
        if (dead[row] || dead[col]) h[row * stride + col] = row == col ? 1.0f : 0.0f;
}

cudaError_t sq_kernel_set_dead(cudaStream_t stream, const uint8_t *dead, struct sq_matrix hessian)
{
    return sq_launch(set_dead, sq_element_grid(hessian.rows, hessian.cols), SQ_ELEMENT_THREADS, stream, dead,
                     (float *)hessian.data, hessian.stride, hessian.rows);
}

static __global__ void arrange(struct sq_matrix hessian, const int32_t *order, float ridge, bool off_diagonal,
                               int64_t first, int64_t end, struct sq_matrix out)
{
    const int64_t col = (int64_t)blockIdx.x * SQ_ELEMENT_THREADS + threadIdx.x, n = hessian.rows;
    if (col >= end) return;
    const int64_t from = order[n - 1 - col];
    for (int64_t row = first + blockIdx.y; row < end; row += gridDim.y) {
        if (col > row) continue;
        float value = 0.0f;
        if (off_diagonal || col == row)
            value = ((const float *)hessian.data)[order[n - 1 - row] * hessian.stride + from];
        ((float *)out.data)[row * out.stride + col] = col == row ? value + ridge : value;
    }
}

cudaError_t sq_kernel_arrange(cudaStream_t stream, struct sq_matrix hessian, const int32_t *order, float ridge,
                              bool off_diagonal, int64_t row, int64_t rows, struct sq_matrix out)
{
    return sq_launch(arrange, sq_element_grid(rows, row + rows), SQ_ELEMENT_THREADS, stream, hessian, order, ridge,
                     off_diagonal, row, row + rows, out);
}

/* --- across the anti-diagonal ------------------------------------------------------------------------------------- */

/* Block: the square at (first + 32 blockIdx.y, 32 blockIdx.x) and its image. Element (r, c), r + c < n, c <= r, changes
 * places with (n-1-c, n-1-r); both go through shared memory, so that all traffic runs along rows. */
static __global__ void unit_form(float *m, int64_t stride, int64_t n, const float *pivots, int64_t first, int64_t end)
{
    __shared__ float here[EDGE][EDGE + 1], there[EDGE][EDGE + 1]; /* [row][column] of the square; [column][row] */
    const int64_t r0 = first + (int64_t)blockIdx.y * EDGE, c0 = (int64_t)blockIdx.x * EDGE;
    const int x = threadIdx.x, turned = EDGE - 1 - x;
    for (int y = threadIdx.y; y < EDGE; y += ROWS) {
        const int64_t r = r0 + y, c = c0 + x; /* of the square's row y */
        if (r < end && c <= r && r + c < n) here[y][x] = m[r * stride + c];
        const int64_t image_c = c0 + y, image_r = r0 + turned; /* of the image's row y, read backwards */
        if (image_r < end && image_c <= image_r && image_r + image_c < n)
            there[y][turned] = m[(n - 1 - image_c) * stride + (n - 1 - image_r)];
    }
    __syncthreads();
    for (int y = threadIdx.y; y < EDGE; y += ROWS) {
        const int64_t image_c = c0 + y, image_r = r0 + turned;
        if (image_r < end && image_c <= image_r && image_r + image_c < n)
            m[(n - 1 - image_c) * stride + (n - 1 - image_r)] = here[turned][y] / pivots[image_c];
        const int64_t r = r0 + y, c = c0 + x;
        if (r < end && c <= r && r + c < n - 1) m[r * stride + c] = there[x][y] / pivots[n - 1 - r];
    }
}

cudaError_t sq_kernel_unit_form(cudaStream_t stream, const float *pivots, int64_t row, int64_t rows, struct sq_matrix m)
{
    /* columns c <= min(r, n - 1 - r) of the strip's rows */
    const int64_t end = row + rows < m.rows - row ? row + rows : m.rows - row;
    const dim3 grid(sq_blocks(end, EDGE), sq_blocks(rows, EDGE));
    return sq_launch(unit_form, grid, dim3(EDGE, ROWS), stream, (float *)m.data, m.stride, m.rows, pivots, row,
                     row + rows);
}
