/* Mixtures of experts: a thread chooses the experts of a token; rows are moved by element. */
#include "cuda/kernels/device.cuh"
#include "cuda/kernels/kernels.h"

#define THIS_COLUMN ((int64_t)blockIdx.x * SQ_ELEMENT_THREADS + threadIdx.x)
#define THREADS 128

/* --- routing ------------------------------------------------------------------------------------------------------ */

static __device__ float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

/* values become exp(value - largest); returns their sum */
static __device__ float exponentials(float *values, int64_t n)
{
    float largest = values[0], sum = 0.0f;
    for (int64_t i = 1; i < n; i++)
        largest = fmaxf(largest, values[i]);
    for (int64_t i = 0; i < n; i++) {
        values[i] = expf(values[i] - largest);
        sum += values[i];
    }
    return sum;
}

static __device__ void make_scores(const struct sq_routing &routing, float *scores)
{
    const int64_t n = routing.n_experts;
    const float sum = routing.kind == SQ_ROUTER_SOFTMAX ? exponentials(scores, n) : 1.0f;
    for (int64_t e = 0; e < n; e++) {
        if (routing.kind == SQ_ROUTER_SOFTMAX) scores[e] /= sum;
        if (routing.kind == SQ_ROUTER_SIGMOID) scores[e] = sigmoid(scores[e]);
    }
}

/* What experts are chosen by. */
static __device__ float rank_of(const struct sq_routing &routing, const float *scores, int64_t expert)
{
    return routing.bias ? scores[expert] + routing.bias[expert] : scores[expert];
}

static __device__ float group_score(const struct sq_routing &routing, const float *scores, int64_t group)
{
    const int64_t n = routing.n_experts / routing.n_groups;
    float best = -INFINITY, second = -INFINITY;
    for (int64_t e = group * n; e < group * n + n; e++) {
        const float score = rank_of(routing, scores, e);
        second = fmaxf(second, fminf(best, score));
        best = fmaxf(best, score);
    }
    return routing.group_score == SQ_GROUP_BEST || n < 2 ? best : best + second;
}

/* The best groups, as bits. */
static __device__ uint64_t open_groups(const struct sq_routing &routing, const float *scores)
{
    float values[SQ_ROUTING_GROUPS];
    uint64_t open = 0;
    if (routing.n_groups <= 1) return 1;
    for (int64_t g = 0; g < routing.n_groups; g++)
        values[g] = group_score(routing, scores, g);
    for (int64_t i = 0; i < routing.n_chosen_groups; i++) {
        int64_t best = -1;
        for (int64_t g = 0; g < routing.n_groups; g++)
            if (!(open >> g & 1u) && (best < 0 || values[g] > values[best])) best = g;
        open |= (uint64_t)1 << best;
    }
    return open;
}

static __device__ bool is_chosen(const int32_t *chosen, int64_t count, int64_t expert)
{
    for (int64_t i = 0; i < count; i++)
        if (chosen[i] == expert) return true;
    return false;
}

static __device__ void choose(const struct sq_routing &routing, const float *scores, int32_t *chosen)
{
    const int64_t group_size = routing.n_experts / (routing.n_groups > 1 ? routing.n_groups : 1);
    const uint64_t open = open_groups(routing, scores);
    for (int64_t i = 0; i < routing.n_chosen; i++) {
        int64_t best = -1;
        for (int64_t e = 0; e < routing.n_experts; e++) {
            if (!(open >> (e / group_size) & 1u) || is_chosen(chosen, i, e)) continue;
            if (best < 0 || rank_of(routing, scores, e) > rank_of(routing, scores, best)) best = e;
        }
        chosen[i] = (int32_t)best;
    }
}

static __device__ void weigh(const struct sq_routing &routing, const float *scores, const int32_t *chosen,
                             float *weights)
{
    float sum = 0.0f;
    for (int64_t i = 0; i < routing.n_chosen; i++) {
        weights[i] = scores[chosen[i]];
        sum += weights[i];
    }
    if (routing.kind == SQ_ROUTER_SOFTMAX_CHOSEN)
        sum = exponentials(weights, routing.n_chosen);
    else
        sum = routing.normalise ? sum + 1e-20f : 1.0f; /* sigmoids may all vanish */
    for (int64_t i = 0; i < routing.n_chosen; i++)
        weights[i] = weights[i] / sum * routing.scale;
}

static __global__ void route(struct sq_routing routing, struct sq_matrix scores, struct sq_matrix chosen,
                             struct sq_matrix weights)
{
    const int64_t row = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (row >= scores.rows) return;
    float *mine = (float *)scores.data + row * scores.stride;
    int32_t *experts = (int32_t *)chosen.data + row * chosen.stride;
    make_scores(routing, mine);
    choose(routing, mine, experts);
    weigh(routing, mine, experts, (float *)weights.data + row * weights.stride);
}

cudaError_t sq_kernel_route(cudaStream_t stream, const struct sq_routing *routing, struct sq_matrix scores,
                            struct sq_matrix chosen, struct sq_matrix weights)
{
    return sq_launch(route, sq_blocks(scores.rows, THREADS), THREADS, stream, *routing, scores, chosen, weights);
}

/* --- rows --------------------------------------------------------------------------------------------------------- */

template <class T>
static __global__ void gather_rows(const T *x, int64_t x_stride, const int32_t *ids, T *y, int64_t y_stride,
                                   int64_t rows, int64_t cols)
{
    const int64_t col = THIS_COLUMN;
    if (col >= cols) return;
    for (int64_t row = blockIdx.y; row < rows; row += gridDim.y)
        y[row * y_stride + col] = x[ids[row] * x_stride + col];
}

template <class T>
static cudaError_t run_gather(cudaStream_t stream, struct sq_matrix x, const int32_t *ids, struct sq_matrix y)
{
    return sq_launch(gather_rows<T>, sq_element_grid(y.rows, y.cols), SQ_ELEMENT_THREADS, stream, (const T *)x.data,
                     x.stride, ids, (T *)y.data, y.stride, y.rows, y.cols);
}

cudaError_t sq_kernel_gather_rows(cudaStream_t stream, struct sq_matrix x, const int32_t *ids, struct sq_matrix y)
{
    return x.dtype == SQ_F32 ? run_gather<float>(stream, x, ids, y) : run_gather<uint16_t>(stream, x, ids, y);
}

template <class X>
static __global__ void add_rows(const X *x, int64_t x_stride, const int32_t *ids, const float *weights, float *y,
                                int64_t y_stride, int64_t rows, int64_t cols)
{
    const int64_t col = THIS_COLUMN;
    if (col >= cols) return;
    for (int64_t row = blockIdx.y; row < rows; row += gridDim.y)
        y[ids[row] * y_stride + col] += weights[row] * sq_get(x, row * x_stride + col);
}

template <class X>
static cudaError_t run_add_rows(cudaStream_t stream, struct sq_matrix x, const int32_t *ids, const float *weights,
                                struct sq_matrix y)
{
    return sq_launch(add_rows<X>, sq_element_grid(x.rows, x.cols), SQ_ELEMENT_THREADS, stream, (const X *)x.data,
                     x.stride, ids, weights, (float *)y.data, y.stride, x.rows, x.cols);
}

cudaError_t sq_kernel_add_rows(cudaStream_t stream, struct sq_matrix x, const int32_t *ids, const float *weights,
                               struct sq_matrix y)
{
    return x.dtype == SQ_F32 ? run_add_rows<float>(stream, x, ids, weights, y)
                             : run_add_rows<uint16_t>(stream, x, ids, weights, y);
}

/* A block per row. */
template <class X>
static __global__ void gate_rows(const X *x, int64_t x_stride, const float *w, float *y, int64_t y_stride, int64_t rows,
                                 int64_t x_cols, int64_t y_cols)
{
    __shared__ float parts[THREADS / 32];
    for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
        float sum = 0.0f;
        for (int64_t i = threadIdx.x; i < x_cols; i += THREADS)
            sum += sq_get(x, row * x_stride + i) * w[i];
        const float factor = sigmoid(sq_block_sum<THREADS>(sum, parts));
        for (int64_t i = threadIdx.x; i < y_cols; i += THREADS)
            y[row * y_stride + i] *= factor;
    }
}

template <class X>
static cudaError_t run_gate_rows(cudaStream_t stream, struct sq_matrix x, const float *w, struct sq_matrix y)
{
    return sq_launch(gate_rows<X>, sq_blocks(x.rows, 1), THREADS, stream, (const X *)x.data, x.stride, w,
                     (float *)y.data, y.stride, x.rows, x.cols, y.cols);
}

cudaError_t sq_kernel_gate_rows(cudaStream_t stream, struct sq_matrix x, const float *w, struct sq_matrix y)
{
    return x.dtype == SQ_F32 ? run_gate_rows<float>(stream, x, w, y) : run_gate_rows<uint16_t>(stream, x, w, y);
}
