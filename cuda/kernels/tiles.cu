/* Simple kernels over the solver's tiles [columns, lanes]: a thread has a row, and the rows of a warp lie side by side.
 */
#include "cuda/kernels/device.cuh"
#include "cuda/kernels/kernels.h"

#define EDGE 32
#define ROWS 8
#define LANES 128 /* threads of the element kernels: rows of one column */

#define THIS_LANE ((int64_t)blockIdx.x * LANES + threadIdx.x)

/* --- into and out of tiles ---------------------------------------------------------------------------------------- */

/* Block: a square of the weights, turned by way of shared memory. */
static __global__ void load(int64_t lanes, struct sq_matrix weights, const uint8_t *dead, float *tile)
{
    __shared__ float square[EDGE][EDGE + 1];
    const int64_t col0 = (int64_t)blockIdx.x * EDGE, row0 = (int64_t)blockIdx.y * EDGE;
    for (int64_t i = threadIdx.y; i < EDGE; i += ROWS) {
        const int64_t row = row0 + i, col = col0 + threadIdx.x;
        const bool is_zero = row >= weights.rows || col >= weights.cols || dead[col];
        square[i][threadIdx.x] = is_zero ? 0.0f : ((const float *)weights.data)[row * weights.stride + col];
    }
    __syncthreads();
    for (int64_t j = threadIdx.y; j < EDGE; j += ROWS)
        if (col0 + j < weights.cols) tile[(col0 + j) * lanes + row0 + threadIdx.x] = square[threadIdx.x][j];
}

cudaError_t sq_kernel_load(cudaStream_t stream, int64_t lanes, struct sq_matrix weights, const uint8_t *dead,
                           float *tile)
{
    return sq_launch(load, dim3(sq_blocks(weights.cols, EDGE), sq_blocks(lanes, EDGE)), dim3(EDGE, ROWS), stream, lanes,
                     weights, dead, tile);
}

static __global__ void unload_codes(int64_t lanes, int64_t rows, int64_t n, const uint8_t *tile, uint8_t *codes)
{
    __shared__ uint8_t square[EDGE][EDGE + 4];
    const int64_t col0 = (int64_t)blockIdx.x * EDGE, row0 = (int64_t)blockIdx.y * EDGE;
    for (int64_t j = threadIdx.y; j < EDGE; j += ROWS)
        if (col0 + j < n) square[j][threadIdx.x] = tile[(col0 + j) * lanes + row0 + threadIdx.x];
    __syncthreads();
    for (int64_t i = threadIdx.y; i < EDGE; i += ROWS)
        if (row0 + i < rows && col0 + threadIdx.x < n)
            codes[(row0 + i) * n + col0 + threadIdx.x] = square[threadIdx.x][i];
}

static __global__ void unload_grids(int64_t lanes, int64_t rows, int64_t groups, struct sq_tile_scales scales,
                                    float *scales_out, uint8_t *zeros)
{
    const int64_t group = (int64_t)blockIdx.x * SQ_ELEMENT_THREADS + threadIdx.x;
    if (group >= groups) return;
    for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
        scales_out[row * groups + group] = scales.scale[group * lanes + row];
        zeros[row * groups + group] = (uint8_t)scales.zero[group * lanes + row];
    }
}

cudaError_t sq_kernel_unload(cudaStream_t stream, int64_t lanes, int64_t rows, int64_t n, int64_t groups,
                             const uint8_t *tile_codes, struct sq_tile_scales scales, uint8_t *codes, float *scales_out,
                             uint8_t *zeros)
{
    const dim3 squares(sq_blocks(n, EDGE), sq_blocks(rows, EDGE));
    cudaError_t code = sq_launch(unload_codes, squares, dim3(EDGE, ROWS), stream, lanes, rows, n, tile_codes, codes);
    if (code != cudaSuccess) return code;
    return sq_launch(unload_grids, sq_element_grid(rows, groups), SQ_ELEMENT_THREADS, stream, lanes, rows, groups,
                     scales, scales_out, zeros);
}

static __global__ void dequantize(int64_t group_size, int64_t groups, const uint8_t *codes, const float *scales,
                                  const uint8_t *zeros, struct sq_matrix weights)
{
    const int64_t col = (int64_t)blockIdx.x * SQ_ELEMENT_THREADS + threadIdx.x;
    if (col >= weights.cols) return;
    for (int64_t row = blockIdx.y; row < weights.rows; row += gridDim.y) {
        const int64_t cell = row * groups + col / group_size;
        const int centred = (int)codes[row * weights.cols + col] - (int)zeros[cell];
        ((float *)weights.data)[row * weights.stride + col] = scales[cell] * (float)centred;
    }
}

cudaError_t sq_kernel_dequantize(cudaStream_t stream, int64_t group_size, const uint8_t *codes, const float *scales,
                                 const uint8_t *zeros, struct sq_matrix weights)
{
    const int64_t groups = (weights.cols + group_size - 1) / group_size;
    return sq_launch(dequantize, sq_element_grid(weights.rows, weights.cols), SQ_ELEMENT_THREADS, stream, group_size,
                     groups, codes, scales, zeros, weights);
}

/* --- codes and errors --------------------------------------------------------------------------------------------- */

static dim3 tile_grid(int64_t lanes, int64_t columns)
{
    return dim3(sq_blocks(lanes, LANES), (unsigned)(columns < 65535 ? columns : 65535));
}

static __global__ void nearest(int64_t lanes, int64_t group_size, float max_code, int64_t columns, const float *weights,
                               struct sq_tile_scales scales, uint8_t *codes)
{
    const int64_t lane = THIS_LANE;
    if (lane >= lanes) return;
    for (int64_t j = blockIdx.y; j < columns; j += gridDim.y) {
        const int64_t cell = j / group_size * lanes + lane;
        const float zero = scales.zero[cell];
        const float centred =
            fminf(fmaxf(rintf(weights[j * lanes + lane] * scales.inverse[cell]), -zero), max_code - zero);
        codes[j * lanes + lane] = (uint8_t)(centred + zero);
    }
}

cudaError_t sq_kernel_nearest(cudaStream_t stream, int64_t lanes, int64_t group_size, int max_code, int64_t columns,
                              const float *weights, struct sq_tile_scales scales, uint8_t *codes)
{
    return sq_launch(nearest, tile_grid(lanes, columns), LANES, stream, lanes, group_size, (float)max_code, columns,
                     weights, scales, codes);
}

static __global__ void residual(int64_t lanes, int64_t group_size, int64_t columns, const float *weights,
                                struct sq_tile_scales scales, const uint8_t *codes, float *errors)
{
    const int64_t lane = THIS_LANE;
    if (lane >= lanes) return;
    for (int64_t j = blockIdx.y; j < columns; j += gridDim.y) {
        const int64_t at = j * lanes + lane, cell = j / group_size * lanes + lane;
        errors[at] = weights[at] - scales.scale[cell] * ((float)codes[at] - scales.zero[cell]);
    }
}

cudaError_t sq_kernel_residual(cudaStream_t stream, int64_t lanes, int64_t group_size, int64_t columns,
                               const float *weights, struct sq_tile_scales scales, const uint8_t *codes, float *errors)
{
    return sq_launch(residual, tile_grid(lanes, columns), LANES, stream, lanes, group_size, columns, weights, scales,
                     codes, errors);
}

static __global__ void centre(int64_t lanes, int64_t columns, const uint8_t *codes, const float *zero, float *centred)
{
    const int64_t lane = THIS_LANE;
    if (lane >= lanes) return;
    for (int64_t j = blockIdx.y; j < columns; j += gridDim.y)
        centred[j * lanes + lane] = (float)codes[j * lanes + lane] - zero[lane];
}

cudaError_t sq_kernel_centre(cudaStream_t stream, int64_t lanes, int64_t columns, const uint8_t *codes,
                             const float *zero, float *centred)
{
    return sq_launch(centre, tile_grid(lanes, columns), LANES, stream, lanes, columns, codes, zero, centred);
}

/* --- rows --------------------------------------------------------------------------------------------------------- */

#define PARTS 16 /* of the columns: a thread for each row would leave most of the device idle */

static __global__ void __launch_bounds__(EDGE *PARTS)
    dot(int64_t lanes, int64_t columns, const float *x, const float *y, double factor, double *sums)
{
    __shared__ double parts[PARTS][EDGE];
    const int64_t lane = (int64_t)blockIdx.x * EDGE + threadIdx.x;
    double sum = 0;
    for (int64_t j = threadIdx.y; j < columns; j += PARTS)
        sum = fma((double)x[j * lanes + lane], (double)y[j * lanes + lane], sum);
    parts[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0) return;
    for (int part = 1; part < PARTS; part++)
        sum += parts[part][threadIdx.x];
    sums[lane] += factor * sum;
}

cudaError_t sq_kernel_dot(cudaStream_t stream, int64_t lanes, int64_t columns, const float *x, const float *y,
                          double factor, double *sums)
{
    return sq_launch(dot, sq_blocks(lanes, EDGE), dim3(EDGE, PARTS), stream, lanes, columns, x, y, factor, sums);
}

/* The two kernels read `after` as it was; keep_figures then changes it. */
static __global__ void keep_codes(int64_t lanes, int64_t n, const double *before, const double *after,
                                  const uint8_t *old_codes, uint8_t *codes)
{
    const int64_t lane = THIS_LANE;
    if (lane >= lanes || after[lane] < before[lane]) return;
    for (int64_t j = blockIdx.y; j < n; j += gridDim.y)
        codes[j * lanes + lane] = old_codes[j * lanes + lane];
}

static __global__ void keep_scales(int64_t lanes, int64_t groups, const double *before, const double *after,
                                   const float *old_scale, struct sq_tile_scales scales)
{
    const int64_t lane = THIS_LANE;
    if (lane >= lanes || after[lane] < before[lane]) return;
    for (int64_t g = blockIdx.y; g < groups; g += gridDim.y) {
        scales.scale[g * lanes + lane] = old_scale[g * lanes + lane];
        scales.inverse[g * lanes + lane] = 1.0f / old_scale[g * lanes + lane];
    }
}

static __global__ void keep_figures(int64_t lanes, const double *before, double *after)
{
    const int64_t lane = THIS_LANE;
    if (lane < lanes && !(after[lane] < before[lane])) after[lane] = before[lane];
}

cudaError_t sq_kernel_keep_better(cudaStream_t stream, int64_t lanes, int64_t n, int64_t groups, const double *before,
                                  const uint8_t *old_codes, const float *old_scale, double *after, uint8_t *codes,
                                  struct sq_tile_scales scales)
{
    cudaError_t code = sq_launch(keep_codes, tile_grid(lanes, n), LANES, stream, lanes, n, before,
                                 (const double *)after, old_codes, codes);
    if (code == cudaSuccess)
        code = sq_launch(keep_scales, tile_grid(lanes, groups), LANES, stream, lanes, groups, before,
                         (const double *)after, old_scale, scales);
    if (code != cudaSuccess) return code;
    return sq_launch(keep_figures, sq_blocks(lanes, LANES), LANES, stream, lanes, before, after);
}
