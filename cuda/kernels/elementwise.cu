/* Kernels over the elements of matrices: each thread its own, no sums. */
#include "cuda/kernels/device.cuh"
#include "cuda/kernels/kernels.h"

#define THIS_COLUMN ((int64_t)blockIdx.x * SQ_ELEMENT_THREADS + threadIdx.x)

/* --- moving ------------------------------------------------------------------------------------------------------- */

template <class X, class Y>
static __global__ void convert(const X *x, int64_t x_stride, Y *y, int64_t y_stride, int64_t rows, int64_t cols)
{
    const int64_t col = THIS_COLUMN;
    if (col >= cols) return;
    for (int64_t row = blockIdx.y; row < rows; row += gridDim.y)
        sq_put(sq_get(x, row * x_stride + col), y, row * y_stride + col);
}

template <class X, class Y> static cudaError_t run_convert(cudaStream_t stream, struct sq_matrix x, struct sq_matrix y)
{
    return sq_launch(convert<X, Y>, sq_element_grid(x.rows, x.cols), SQ_ELEMENT_THREADS, stream, (const X *)x.data,
                     x.stride, (Y *)y.data, y.stride, x.rows, x.cols);
}

cudaError_t sq_kernel_convert(cudaStream_t stream, struct sq_matrix x, struct sq_matrix y)
{
    if (x.dtype == SQ_F32)
        return y.dtype == SQ_F32 ? run_convert<float, float>(stream, x, y) : run_convert<float, uint16_t>(stream, x, y);
    return y.dtype == SQ_F32 ? run_convert<uint16_t, float>(stream, x, y)
                             : run_convert<uint16_t, uint16_t>(stream, x, y);
}

static __global__ void split(struct sq_split copies, struct sq_matrix x, struct sq_matrix y)
{
    const int64_t col = THIS_COLUMN;
    if (col >= x.cols) return;
    for (int64_t row = blockIdx.y; row < x.rows; row += gridDim.y) {
        float left = ((const float *)x.data)[row * x.stride + col];
        uint16_t numbers[3];
#pragma unroll
        for (int i = 0; i < 3; i++) {
            numbers[i] = sq_f32_to_bf16(left);
            left -= sq_bf16_to_f32(numbers[i]);
        }
        uint16_t *out = (uint16_t *)y.data + row * y.stride + col;
#pragma unroll
        for (int i = 0; i < SQ_SPLIT_COPIES; i++) {
            const int which = copies.which[i];
            out[i * copies.step] = which == 0 ? numbers[0] : which == 1 ? numbers[1] : numbers[2];
        }
    }
}

cudaError_t sq_kernel_split(cudaStream_t stream, struct sq_split copies, struct sq_matrix x, struct sq_matrix y)
{
    return sq_launch(split, sq_element_grid(x.rows, x.cols), SQ_ELEMENT_THREADS, stream, copies, x, y);
}

template <class T>
static __global__ void copy_parts(const T *x, int64_t x_stride, int64_t x_step, T *y, int64_t y_stride, int64_t y_step,
                                  int64_t rows, int64_t count, int64_t width)
{
    const int64_t col = THIS_COLUMN;
    if (col >= count * width) return;
    const int64_t head = col / width, i = col % width;
    for (int64_t row = blockIdx.y; row < rows; row += gridDim.y)
        y[row * y_stride + head * y_step + i] = x[row * x_stride + head * x_step + i];
}

template <class T>
static cudaError_t run_copy_parts(cudaStream_t stream, int64_t count, int64_t width, struct sq_matrix x, int64_t x_step,
                                  struct sq_matrix y, int64_t y_step)
{
    return sq_launch(copy_parts<T>, sq_element_grid(x.rows, count * width), SQ_ELEMENT_THREADS, stream,
                     (const T *)x.data, x.stride, x_step, (T *)y.data, y.stride, y_step, x.rows, count, width);
}

cudaError_t sq_kernel_copy_parts(cudaStream_t stream, int64_t count, int64_t width, struct sq_matrix x, int64_t x_step,
                                 struct sq_matrix y, int64_t y_step)
{
    return x.dtype == SQ_F32 ? run_copy_parts<float>(stream, count, width, x, x_step, y, y_step)
                             : run_copy_parts<uint16_t>(stream, count, width, x, x_step, y, y_step);
}

static __global__ void take_rows(struct sq_matrix table, int64_t first, const int32_t *ids, struct sq_matrix out)
{
    const int64_t col = THIS_COLUMN;
    if (col >= out.cols) return;
    for (int64_t row = blockIdx.y; row < out.rows; row += gridDim.y) {
        const int64_t from = ids[row] - first;
        if (from >= 0 && from < table.rows)
            ((float *)out.data)[row * out.stride + col] = ((const float *)table.data)[from * table.stride + col];
    }
}

cudaError_t sq_kernel_take_rows(cudaStream_t stream, struct sq_matrix table, int64_t first, const int32_t *ids,
                                struct sq_matrix out)
{
    return sq_launch(take_rows, sq_element_grid(out.rows, out.cols), SQ_ELEMENT_THREADS, stream, table, first, ids,
                     out);
}

static __global__ void pick(struct sq_matrix z, int64_t first, const int32_t *ids, float *out)
{
    const int64_t row = THIS_COLUMN;
    if (row >= z.rows) return;
    const int64_t col = ids[row] - first;
    if (col >= 0 && col < z.cols) out[row] = ((const float *)z.data)[row * z.stride + col];
}

cudaError_t sq_kernel_pick(cudaStream_t stream, struct sq_matrix z, int64_t first, const int32_t *ids, float *out)
{
    return sq_launch(pick, sq_blocks(z.rows, SQ_ELEMENT_THREADS), SQ_ELEMENT_THREADS, stream, z, first, ids, out);
}

/* --- adding ------------------------------------------------------------------------------------------------------- */

template <class X>
static __global__ void add(const X *x, int64_t x_stride, float *y, int64_t y_stride, int64_t rows, int64_t cols)
{
    const int64_t col = THIS_COLUMN;
    if (col >= cols) return;
    for (int64_t row = blockIdx.y; row < rows; row += gridDim.y)
        y[row * y_stride + col] += sq_get(x, row * x_stride + col);
}

template <class X> static cudaError_t run_add(cudaStream_t stream, struct sq_matrix x, struct sq_matrix y)
{
    return sq_launch(add<X>, sq_element_grid(x.rows, x.cols), SQ_ELEMENT_THREADS, stream, (const X *)x.data, x.stride,
                     (float *)y.data, y.stride, x.rows, x.cols);
}

cudaError_t sq_kernel_add(cudaStream_t stream, struct sq_matrix x, struct sq_matrix y)
{
    return x.dtype == SQ_F32 ? run_add<float>(stream, x, y) : run_add<uint16_t>(stream, x, y);
}

template <class Y>
static __global__ void add_bias(const float *x, int64_t x_stride, const float *bias, Y *y, int64_t y_stride,
                                int64_t rows, int64_t cols)
{
    const int64_t col = THIS_COLUMN;
    if (col >= cols) return;
    for (int64_t row = blockIdx.y; row < rows; row += gridDim.y)
        sq_put(x[row * x_stride + col] + bias[col], y, row * y_stride + col);
}

template <class Y>
static cudaError_t run_add_bias(cudaStream_t stream, struct sq_matrix x, const float *bias, struct sq_matrix y)
{
    return sq_launch(add_bias<Y>, sq_element_grid(x.rows, x.cols), SQ_ELEMENT_THREADS, stream, (const float *)x.data,
                     x.stride, bias, (Y *)y.data, y.stride, x.rows, x.cols);
}

cudaError_t sq_kernel_add_bias(cudaStream_t stream, struct sq_matrix x, const float *bias, struct sq_matrix y)
{
    return y.dtype == SQ_F32 ? run_add_bias<float>(stream, x, bias, y) : run_add_bias<uint16_t>(stream, x, bias, y);
}

/* --- activations -------------------------------------------------------------------------------------------------- */

/* x sigmoid(u) */
static __device__ float times_sigmoid(float x, float u)
{
    return x / (1.0f + expf(-u));
}

static __device__ float act(int kind, float x)
{
    switch (kind) {
    case SQ_ACT_RELU:
        return x < 0.0f ? 0.0f : x; /* NaN stays */
    case SQ_ACT_GELU:
        return 0.5f * x * (1.0f + erff(x * 0.70710678f));
    case SQ_ACT_GELU_TANH: /* x / 2 (1 + tanh u) = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3) */
        return times_sigmoid(x, 1.5957691f * x * (0.044715f * x * x + 1.0f));
    case SQ_ACT_CLAMPED:
        x = x > SQ_CLAMP ? SQ_CLAMP : x; /* NaN stays */
        return times_sigmoid(x, SQ_CLAMPED_SLOPE * x);
    default: /* SQ_ACT_SILU */
        return times_sigmoid(x, x);
    }
}

/* What act() is multiplied by. */
static __device__ float gate_factor(int kind, float gate)
{
    if (kind != SQ_ACT_CLAMPED) return gate;
    return (gate > SQ_CLAMP ? SQ_CLAMP : gate < -SQ_CLAMP ? -SQ_CLAMP : gate) + 1.0f; /* NaN stays */
}

template <class T>
static __global__ void activate(int kind, const T *x, int64_t x_stride, const T *gate, int64_t gate_stride, T *y,
                                int64_t y_stride, int64_t rows, int64_t cols)
{
    const int64_t col = THIS_COLUMN;
    if (col >= cols) return;
    for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
        float value = act(kind, sq_get(x, row * x_stride + col));
        if (gate) value *= gate_factor(kind, sq_get(gate, row * gate_stride + col));
        sq_put(value, y, row * y_stride + col);
    }
}

template <class T>
static cudaError_t run_activate(cudaStream_t stream, int kind, struct sq_matrix x, struct sq_matrix gate,
                                struct sq_matrix y)
{
    return sq_launch(activate<T>, sq_element_grid(x.rows, x.cols), SQ_ELEMENT_THREADS, stream, kind, (const T *)x.data,
                     x.stride, (const T *)gate.data, gate.stride, (T *)y.data, y.stride, x.rows, x.cols);
}

cudaError_t sq_kernel_activate(cudaStream_t stream, enum sq_activation kind, struct sq_matrix x, struct sq_matrix gate,
                               struct sq_matrix y)
{
    return x.dtype == SQ_F32 ? run_activate<float>(stream, kind, x, gate, y)
                             : run_activate<uint16_t>(stream, kind, x, gate, y);
}

/* --- scaling and capping ------------------------------------------------------------------------------------------ */

static __global__ void rescale(float scale, float cap, float *z, int64_t stride, int64_t rows, int64_t cols)
{
    const int64_t col = THIS_COLUMN;
    if (col >= cols) return;
    for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
        const float scaled = z[row * stride + col] * scale;
        z[row * stride + col] = cap > 0.0f ? cap * tanhf(scaled / cap) : scaled;
    }
}

cudaError_t sq_kernel_rescale(cudaStream_t stream, float scale, float cap, struct sq_matrix z)
{
    return sq_launch(rescale, sq_element_grid(z.rows, z.cols), SQ_ELEMENT_THREADS, stream, scale, cap, (float *)z.data,
                     z.stride, z.rows, z.cols);
}

/* --- rotary embedding --------------------------------------------------------------------------------------------- */

/* Thread: one pair of one head; its entries are `apart` from each other, the pairs `step`. */
template <class T>
static __global__ void rope(T *x, int64_t stride, int64_t rows, int64_t pairs, int64_t head_dim, int64_t n_frequencies,
                            int64_t step, int64_t apart, const float *cosine, const float *sine)
{
    const int64_t pair = THIS_COLUMN;
    if (pair >= pairs) return;
    const int64_t frequency = pair % n_frequencies, col = pair / n_frequencies * head_dim + frequency * step;
    for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
        const float c = cosine[row * n_frequencies + frequency], s = sine[row * n_frequencies + frequency];
        const int64_t low = row * stride + col, high = low + apart;
        const float a = sq_get(x, low), b = sq_get(x, high);
        sq_put(a * c - b * s, x, low);
        sq_put(b * c + a * s, x, high);
    }
}

template <class T>
static cudaError_t run_rope(cudaStream_t stream, enum sq_rope_pairs kind, struct sq_matrix x, int64_t head_dim,
                            int64_t n_frequencies, const float *cosine, const float *sine)
{
    const int64_t pairs = (x.cols + head_dim - 1) / head_dim * n_frequencies;
    const bool halves = kind == SQ_ROPE_HALVES;
    return sq_launch(rope<T>, sq_element_grid(x.rows, pairs), SQ_ELEMENT_THREADS, stream, (T *)x.data, x.stride, x.rows,
                     pairs, head_dim, n_frequencies, (int64_t)(halves ? 1 : 2), halves ? n_frequencies : (int64_t)1,
                     cosine, sine);
}

cudaError_t sq_kernel_rope(cudaStream_t stream, enum sq_rope_pairs pairs, struct sq_matrix x, int64_t head_dim,
                           int64_t n_frequencies, const float *cosine, const float *sine)
{
    return x.dtype == SQ_F32 ? run_rope<float>(stream, pairs, x, head_dim, n_frequencies, cosine, sine)
                             : run_rope<uint16_t>(stream, pairs, x, head_dim, n_frequencies, cosine, sine);
}
