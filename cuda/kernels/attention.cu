/* What attention does between its products: weights from scores, a warp per query of a head, with the softmax kept up
 * from tile to tile (Milakov and Gimelshein, "Online normalizer calculation for softmax"). */
#include "cuda/kernels/device.cuh"
#include "cuda/kernels/kernels.h"

#define WARPS 4

/* The query of this warp, counted through all heads; the block's last warps may have none. */
static __device__ __forceinline__ int64_t this_query(void)
{
    return (int64_t)blockIdx.x * WARPS + threadIdx.y;
}

static __device__ __forceinline__ int64_t row_of(const struct sq_score_tile &tile, int64_t query)
{
    return query / tile.queries * tile.query_stride + query % tile.queries;
}

static __global__ void start(struct sq_score_tile tile)
{
    const int64_t query = this_query();
    if (query >= tile.heads * tile.queries) return;
    const int64_t row = row_of(tile, query);
    for (int64_t i = threadIdx.x; i < tile.value_dim; i += 32)
        tile.sums[row * tile.value_dim + i] = 0.0f;
    if (threadIdx.x == 0) {
        const float *sinks = tile.sinks;
        tile.largest[row] = sinks ? sinks[query / tile.queries] : -INFINITY;
        tile.total[row] = sinks ? 1.0f : 0.0f;
    }
}

/* A score that is more than scaled: for a key `distance` positions after the query. */
static __device__ float adjust(const struct sq_score_tile &tile, float slope, float score, float distance)
{
    float scaled = score * tile.scale;
    if (tile.cap > 0.0f) scaled = tile.cap * tanhf(scaled / tile.cap);
    return fmaf(slope, distance, scaled);
}

template <class T> static __global__ void weigh(struct sq_score_tile tile)
{
    const int64_t query = this_query();
    if (query >= tile.heads * tile.queries) return;
    const int64_t row = row_of(tile, query), position = tile.first_query + query % tile.queries;
    const int64_t causal = position + 1 - tile.first_key, past = position - tile.window + 1 - tile.first_key;
    const int64_t end = causal < tile.keys ? causal : tile.keys, begin = tile.window && past > 0 ? past : 0;
    const float *scores = tile.scores + row * tile.key_stride;
    T *weights = (T *)tile.weights + row * tile.key_stride;
    const float before = tile.largest[row], slope = tile.slopes ? tile.slopes[query / tile.queries] : 0.0f;
    const float distance = (float)(tile.first_key - position); /* of key 0 */
    const bool plain = tile.cap == 0.0f && !tile.slopes;
    float top = before;
    for (int64_t i = begin + threadIdx.x; i < end; i += 32)
        top = fmaxf(top, plain ? scores[i] * tile.scale : adjust(tile, slope, scores[i], distance + (float)i));
    for (int lanes = 16; lanes > 0; lanes /= 2)
        top = fmaxf(top, __shfl_xor_sync(SQ_ALL_LANES, top, lanes));
    __syncwarp(); /* weights may be written over the scores, which other lanes have read */
    float sum = 0.0f;
    for (int64_t i = threadIdx.x; i < tile.keys; i += 32) {
        const bool seen = i >= begin && i < end;
        const float over = !seen   ? 0.0f
                           : plain ? fmaf(scores[i], tile.scale, -top)
                                   : adjust(tile, slope, scores[i], distance + (float)i) - top;
        const float weight = seen ? expf(over) : 0.0f;
        sum += weight;
        sq_put(weight, weights, i);
    }
    sum = sq_warp_sum(sum);
    const float factor = top > before ? expf(before - top) : 1.0f;
    for (int64_t i = threadIdx.x; factor != 1.0f && i < tile.value_dim; i += 32)
        tile.sums[row * tile.value_dim + i] *= factor;
    __syncwarp(); /* all lanes have read `before` */
    if (threadIdx.x == 0) {
        tile.largest[row] = top;
        tile.total[row] = tile.total[row] * factor + sum;
    }
}

template <class T> static __global__ void finish(struct sq_score_tile tile, T *out, int64_t stride)
{
    const int64_t query = this_query();
    if (query >= tile.heads * tile.queries) return;
    const int64_t row = row_of(tile, query), head = query / tile.queries;
    const float factor = 1.0f / tile.total[row];
    for (int64_t i = threadIdx.x; i < tile.value_dim; i += 32)
        sq_put(tile.sums[row * tile.value_dim + i] * factor, out,
               query % tile.queries * stride + head * tile.value_dim + i);
}

cudaError_t sq_kernel_attention_start(cudaStream_t stream, const struct sq_score_tile *tile)
{
    return sq_launch(start, sq_blocks(tile->heads * tile->queries, WARPS), dim3(32, WARPS), stream, *tile);
}

cudaError_t sq_kernel_attention_weigh(cudaStream_t stream, const struct sq_score_tile *tile)
{
    const dim3 grid(sq_blocks(tile->heads * tile->queries, WARPS)), block(32, WARPS);
    if (tile->dtype == SQ_F32) return sq_launch(weigh<float>, grid, block, stream, *tile);
    return sq_launch(weigh<uint16_t>, grid, block, stream, *tile);
}

cudaError_t sq_kernel_attention_finish(cudaStream_t stream, const struct sq_score_tile *tile, struct sq_matrix out)
{
    const dim3 grid(sq_blocks(tile->heads * tile->queries, WARPS)), block(32, WARPS);
    if (out.dtype == SQ_F32) return sq_launch(finish<float>, grid, block, stream, *tile, (float *)out.data, out.stride);
    return sq_launch(finish<uint16_t>, grid, block, stream, *tile, (uint16_t *)out.data, out.stride);
}
