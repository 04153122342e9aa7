/* Causal attention of one sample on the CPU: queries in blocks, keys in tiles, softmax kept up from tile to tile
 * (Milakov and Gimelshein, "Online normalizer calculation for softmax"), so the scratch memory does not grow with the
 * length. The sizes of blocks and tiles are fixed: they decide the order of sums, and keep the number of product shapes
 * small. */
#include <math.h>
#include <string.h>

#include "tensor/cpu_private.h"
#include "tensor/kernels/forward.h"

#define QUERIES 128
#define KEYS 512
#define SCORE_STRIDE (KEYS + 16) /* rows start in different cache sets */
#define BLOCK 64                 /* scores that the kernels take at once; divides KEYS */

/* One block of queries of one head against its keys. */
struct block {
    struct sq_cpu *cpu;
    const struct sq_attention *shape;
    struct sq_matrix q, k, v, out; /* of this head; q and out: only the block's rows */
    int64_t head;
    int64_t first_query;                /* position of the block's first row */
    float *scores;                      /* [QUERIES, SCORE_STRIDE] */
    void *weights;                      /* the same in v's dtype */
    float *sums;                        /* [QUERIES, value_dim]: sum of exp(score - max) v */
    float max[QUERIES], total[QUERIES]; /* per query: largest score so far, sum of exp(score - max) */
};

size_t sq_cpu_attention_scratch(struct sq_backend *backend, const struct sq_attention *shape, int64_t length)
{
    (void)backend;
    (void)length;
    return (size_t)(QUERIES * (2 * SCORE_STRIDE + shape->value_dim)) * sizeof(float);
}

static int64_t at_least(int64_t value, int64_t bound)
{
    return value < bound ? bound : value;
}

static int64_t at_most(int64_t value, int64_t bound)
{
    return value > bound ? bound : value;
}

/* What is done to n scores beside scaling, the first of them `distance` positions after the query; returns the scale
 * that is left to apply. */
static float adjust_scores(const struct block *block, float distance, int64_t n, float *scores)
{
    const struct sq_forward_kernels *kernels = block->cpu->forward;
    const struct sq_attention *shape = block->shape;
    float scale = shape->scale;
    if (shape->cap > 0) {
        kernels->cap(scale, shape->cap, n, scores);
        scale = 1.0f;
    }
    if (shape->slopes) {
        kernels->ramp(scale, shape->slopes[block->head], distance, n, scores);
        scale = 1.0f;
    }
    return scale;
}

/* weights = exp(scale score - max), n of them; returns their sum. */
static float weigh(const struct block *block, float *scores, int64_t n, float scale, float max, void *weights)
{
    const struct sq_forward_kernels *kernels = block->cpu->forward;
    if (block->v.dtype == SQ_BF16) return kernels->exp_sum_bf16(scores, n, scale, max, weights);
    return kernels->exp_sum(scores, n, scale, max); /* in place: weights are the scores' memory */
}

/* Scores [*begin_p, *end_p), widened to whole blocks of the kernels' loops by scores that weigh nothing. */
static void widen_row(float *scores, int64_t *begin_p, int64_t *end_p)
{
    int64_t begin = *begin_p / BLOCK * BLOCK, end = (*end_p + BLOCK - 1) / BLOCK * BLOCK;
    for (int64_t j = begin; j < *begin_p; j++)
        scores[j] = -INFINITY;
    for (int64_t j = *end_p; j < end; j++)
        scores[j] = -INFINITY;
    *begin_p = begin;
    *end_p = end;
}

/* Row i of the scores of keys [first_key, first_key + n) becomes weights exp(score - max), zero where the mask is. */
static void weigh_row(struct block *block, int64_t i, int64_t first_key, int64_t n)
{
    const struct sq_forward_kernels *kernels = block->cpu->forward;
    const struct sq_attention *shape = block->shape;
    int64_t size = (int64_t)sq_dtype_size(block->v.dtype);
    float *scores = block->scores + i * SCORE_STRIDE;
    char *weights = (char *)block->weights + i * SCORE_STRIDE * size;
    int64_t position = block->first_query + i;
    int64_t end = at_most(position + 1 - first_key, n);
    int64_t begin = shape->window ? at_least(position - shape->window + 1 - first_key, 0) : 0;
    if (begin < end) {
        int64_t from = begin, to = end;
        float scale = adjust_scores(block, (float)(first_key + begin - position), end - begin, scores + begin);
        widen_row(scores, &from, &to);
        float top = kernels->max(scores + from, to - from) * scale;
        if (top > block->max[i]) {
            float factor = expf(block->max[i] - top);
            kernels->scale(factor, block->v.cols, block->sums + i * block->v.cols);
            block->total[i] *= factor;
            block->max[i] = top;
        }
        block->total[i] += weigh(block, scores + from, to - from, scale, block->max[i], weights + from * size);
    }
    begin = at_most(begin, n);
    end = at_least(end, begin);
    memset(weights, 0, (size_t)(begin * size));
    memset(weights + end * size, 0, (size_t)((n - end) * size));
}

static enum sq_status attend_tile(struct block *block, int64_t first_key, int64_t n)
{
    struct sq_backend *backend = &block->cpu->base;
    int64_t rows = block->q.rows;
    struct sq_matrix scores = {block->scores, SQ_F32, rows, n, SCORE_STRIDE};
    struct sq_matrix weights = {block->weights, block->v.dtype, rows, n, SCORE_STRIDE};
    SQ_TRY(sq_cpu_linear(backend, block->q, sq_matrix_part(block->k, first_key, n, 0, block->k.cols), NULL, scores));
    for (int64_t i = 0; i < rows; i++)
        weigh_row(block, i, first_key, n);
    return sq_cpu_matmul(backend, weights, sq_matrix_part(block->v, first_key, n, 0, block->v.cols), true,
                         sq_matrix_view(block->sums, SQ_F32, rows, block->v.cols));
}

static enum sq_status attend_block(struct block *block)
{
    const struct sq_forward_kernels *kernels = block->cpu->forward;
    int64_t rows = block->q.rows, value_dim = block->v.cols, end = block->first_query + rows,
            window = block->shape->window;
    int64_t first = window ? at_least(block->first_query - window + 1, 0) / QUERIES * QUERIES : 0;
    memset(block->sums, 0, (size_t)(rows * value_dim) * sizeof *block->sums);
    for (int64_t i = 0; i < rows; i++) {
        block->max[i] = -INFINITY;
        block->total[i] = 0.0f;
    }
    for (int64_t key = first; key < end; key += KEYS)
        SQ_TRY(attend_tile(block, key, at_most(end - key, KEYS)));
    for (int64_t i = 0; i < rows; i++)
        kernels->scale(1.0f / block->total[i], value_dim, block->sums + i * value_dim);
    return sq_cpu_convert(&block->cpu->base, sq_matrix_view(block->sums, SQ_F32, rows, value_dim), block->out);
}

enum sq_status sq_cpu_attention(struct sq_backend *backend, const struct sq_attention *shape, struct sq_matrix q,
                                struct sq_matrix k, struct sq_matrix v, void *scratch, struct sq_matrix out)
{
    int64_t head_dim = shape->head_dim, value_dim = shape->value_dim, length = q.rows,
            sharing = shape->n_heads / shape->n_kv_heads;
    struct block block = {.cpu = (struct sq_cpu *)backend, .shape = shape, .scores = scratch};
    float *second = block.scores + QUERIES * SCORE_STRIDE;
    block.weights = v.dtype == SQ_F32 ? block.scores : second;
    block.sums = second + QUERIES * SCORE_STRIDE;
    for (int64_t head = 0; head < shape->n_heads; head++) {
        block.head = head;
        block.k = sq_matrix_part(k, 0, length, head / sharing * head_dim, head_dim);
        block.v = sq_matrix_part(v, 0, length, head / sharing * value_dim, value_dim);
        for (int64_t row = 0; row < length; row += QUERIES) {
            int64_t rows = at_most(length - row, QUERIES);
            block.first_query = row;
            block.q = sq_matrix_part(q, row, rows, head * head_dim, head_dim);
            block.out = sq_matrix_part(out, row, rows, head * value_dim, value_dim);
            SQ_TRY(attend_block(&block));
        }
    }
    return SQ_OK;
}
