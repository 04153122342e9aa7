/* Causal attention of one sample on the CPU: queries in blocks, keys in tiles, softmax kept up from tile to tile
 * (Milakov and Gimelshein, "Online normalizer calculation for softmax"), so that scores take little memory for any
 * length. The products are of our own: keys and values are packed once for all queries of the heads that share them,
 * where a library would do so for every block. The sizes of blocks and tiles are fixed: they decide the order of sums.
 */
#include <math.h>
#include <string.h>

#include "tensor/cpu_private.h"
#include "tensor/kernels/attention.h"
#include "tensor/kernels/forward.h"
#include "tensor/kernels/gram.h"

#define QUERIES 32 /* a multiple of SQ_WORD_ROWS */
#define KEYS 512
#define SCORE_STRIDE (KEYS + 16) /* rows start in different cache sets */
#define BLOCK 64                 /* scores that the kernels take at once; divides KEYS */

/* One block of queries of one head against its keys. */
struct block {
    struct sq_cpu *cpu;
    const struct sq_attention *shape;
    bool has_pairs;                /* words are of two bf16 values, else of an f32 */
    struct sq_matrix q, k, v, out; /* of this head; q and out: only the block's rows */
    float *keys, *values;          /* k and v packed */
    int64_t head;
    int64_t first_query;                /* position of the block's first row */
    float *queries;                     /* [QUERIES, query_words] */
    float *scores;                      /* [QUERIES, SCORE_STRIDE] */
    void *weights;                      /* the same, f32 or bf16 */
    float *sums;                        /* [QUERIES, sum_stride]: sum of exp(score - max) v */
    float max[QUERIES], total[QUERIES]; /* per query: largest score so far, sum of exp(score - max) */
};

static int64_t strips_of(int64_t n)
{
    return (n + SQ_GRAM_COLUMNS - 1) / SQ_GRAM_COLUMNS * SQ_GRAM_COLUMNS;
}

size_t sq_cpu_attention_scratch_bytes(const struct sq_attention *shape, int64_t length)
{
    int64_t columns = strips_of(shape->head_dim) + strips_of(shape->value_dim);
    return (size_t)((strips_of(length) + QUERIES) * columns + QUERIES * 2 * SCORE_STRIDE) * sizeof(float);
}

size_t sq_cpu_attention_scratch(struct sq_backend *backend, const struct sq_attention *shape, int64_t length)
{
    (void)backend;
    return sq_cpu_attention_scratch_bytes(shape, length);
}

/* Words of n values that follow each other along a sum. */
static int64_t words_of(const struct block *block, int64_t n)
{
    return block->has_pairs ? (n + 1) / 2 : n;
}

static int64_t sum_stride(const struct block *block)
{
    return strips_of(block->v.cols);
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
    if (block->has_pairs) return kernels->exp_sum_bf16(scores, n, scale, max, weights);
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

/* Row i of the scores of keys [first_key, first_key + n) becomes weights exp(score - max), zero where the mask is and
 * in what fills up the last word. */
static void weigh_row(struct block *block, int64_t i, int64_t first_key, int64_t n)
{
    const struct sq_forward_kernels *kernels = block->cpu->forward;
    const struct sq_attention *shape = block->shape;
    int64_t size = block->has_pairs ? (int64_t)sizeof(uint16_t) : (int64_t)sizeof(float);
    int64_t whole = words_of(block, n) * (int64_t)sizeof(float); /* bytes */
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
            kernels->scale(factor, sum_stride(block), block->sums + i * sum_stride(block));
            block->total[i] *= factor;
            block->max[i] = top;
        }
        block->total[i] += weigh(block, scores + from, to - from, scale, block->max[i], weights + from * size);
    }
    begin = at_most(begin, n);
    end = at_least(end, begin);
    memset(weights, 0, (size_t)(begin * size));
    memset(weights + end * size, 0, (size_t)(whole - end * size));
}

static void multiply(const struct block *block, const struct sq_word_product *product)
{
    const struct sq_attention_kernels *kernels = block->cpu->attention;
    if (block->has_pairs)
        kernels->multiply_bf16(product);
    else
        kernels->multiply_f32(product);
}

/* Keys [first_key, first_key + n); first_key is a multiple of QUERIES. */
static void attend_tile(struct block *block, int64_t first_key, int64_t n)
{
    int64_t lanes = block->cpu->gram->lanes, rows = (block->q.rows + SQ_WORD_ROWS - 1) / SQ_WORD_ROWS * SQ_WORD_ROWS;
    int64_t query_words = words_of(block, block->q.cols), value_words = words_of(block, block->v.rows);
    const struct sq_word_product scores = {.left = block->queries,
                                           .left_stride = query_words,
                                           .right = block->keys + first_key * query_words,
                                           .right_strip = lanes * query_words,
                                           .rows = rows,
                                           .steps = query_words,
                                           .cols = (n + lanes - 1) / lanes * lanes,
                                           .c = block->scores,
                                           .stride = SCORE_STRIDE};
    const struct sq_word_product sums = {.left = block->weights,
                                         .left_stride = words_of(block, SCORE_STRIDE),
                                         .right = block->values + words_of(block, first_key) * lanes,
                                         .right_strip = lanes * value_words,
                                         .rows = rows,
                                         .steps = words_of(block, n),
                                         .cols = (block->v.cols + lanes - 1) / lanes * lanes,
                                         .accumulate = true,
                                         .c = block->sums,
                                         .stride = sum_stride(block)};
    multiply(block, &scores);
    for (int64_t i = 0; i < block->q.rows; i++)
        weigh_row(block, i, first_key, n);
    multiply(block, &sums);
}

/* The block's rows as words. */
static void take_queries(const struct block *block)
{
    const struct sq_attention_kernels *kernels = block->cpu->attention;
    int64_t words = words_of(block, block->q.cols);
    for (int64_t i = 0; i < block->q.rows; i++) {
        const void *row = sq_matrix_part(block->q, i, 1, 0, block->q.cols).data;
        if (block->q.dtype == SQ_BF16)
            kernels->words_bf16(row, block->q.cols, block->queries + i * words);
        else
            kernels->words_f32(row, block->q.cols, block->queries + i * words);
    }
}

static enum sq_status attend_block(struct block *block)
{
    const struct sq_forward_kernels *kernels = block->cpu->forward;
    int64_t rows = block->q.rows, stride = sum_stride(block), end = block->first_query + rows,
            window = block->shape->window;
    const float *sinks = block->shape->sinks;
    int64_t first = window ? at_least(block->first_query - window + 1, 0) / QUERIES * QUERIES : 0;
    memset(block->sums, 0, (size_t)(QUERIES * stride) * sizeof *block->sums);
    for (int64_t i = 0; i < rows; i++) {
        block->max[i] = sinks ? sinks[block->head] : -INFINITY;
        block->total[i] = sinks ? 1.0f : 0.0f;
    }
    take_queries(block);
    for (int64_t key = first; key < end; key += KEYS)
        attend_tile(block, key, at_most(end - key, KEYS));
    for (int64_t i = 0; i < rows; i++)
        kernels->scale(1.0f / block->total[i], stride, block->sums + i * stride);
    struct sq_matrix sums = {block->sums, SQ_F32, rows, block->v.cols, stride};
    return sq_cpu_convert(&block->cpu->base, sums, block->out);
}

static void pack(const struct block *block)
{
    const struct sq_gram_kernels *gram = block->cpu->gram;
    const struct sq_attention_kernels *kernels = block->cpu->attention;
    const struct sq_matrix *k = &block->k, *v = &block->v;
    if (k->dtype == SQ_BF16) {
        kernels->pack_keys_bf16(k->data, k->stride, k->rows, k->cols, block->keys);
        gram->pack_bf16(v->data, v->stride, v->rows, v->cols, words_of(block, v->rows), block->values);
    } else {
        kernels->pack_keys_f32(k->data, k->stride, k->rows, k->cols, block->keys);
        gram->pack_f32(v->data, v->stride, v->rows, v->cols, words_of(block, v->rows), block->values);
    }
}

static enum sq_status attend_head(struct block *block, struct sq_matrix q, struct sq_matrix out)
{
    int64_t head_dim = block->k.cols, value_dim = block->v.cols, length = block->k.rows;
    for (int64_t row = 0; row < length; row += QUERIES) {
        int64_t rows = at_most(length - row, QUERIES);
        block->first_query = row;
        block->q = sq_matrix_part(q, row, rows, block->head * head_dim, head_dim);
        block->out = sq_matrix_part(out, row, rows, block->head * value_dim, value_dim);
        SQ_TRY(attend_block(block));
    }
    return SQ_OK;
}

enum sq_status sq_cpu_attention(struct sq_backend *backend, const struct sq_attention *shape, struct sq_matrix q,
                                struct sq_matrix k, struct sq_matrix v, void *scratch, struct sq_matrix out)
{
    struct sq_cpu *cpu = (struct sq_cpu *)backend;
    int64_t length = q.rows, sharing = shape->n_heads / shape->n_kv_heads;
    int64_t key_columns = strips_of(shape->head_dim), value_columns = strips_of(shape->value_dim);
    struct block block = {
        .cpu = cpu, .shape = shape, .has_pairs = v.dtype == SQ_BF16 && cpu->gram->pair == 2, .keys = scratch};
    block.values = block.keys + strips_of(length) * key_columns;
    block.queries = block.values + strips_of(length) * value_columns;
    block.sums = block.queries + QUERIES * key_columns;
    block.scores = block.sums + QUERIES * value_columns;
    block.weights = block.has_pairs ? block.scores + QUERIES * SCORE_STRIDE : block.scores;
    memset(block.queries, 0, (size_t)(QUERIES * key_columns) * sizeof(float));
    for (block.head = 0; block.head < shape->n_heads; block.head++) {
        if (block.head % sharing == 0) {
            int64_t kv = block.head / sharing;
            block.k = sq_matrix_part(k, 0, length, kv * shape->head_dim, shape->head_dim);
            block.v = sq_matrix_part(v, 0, length, kv * shape->value_dim, shape->value_dim);
            pack(&block);
        }
        SQ_TRY(attend_head(&block, q, out));
    }
    return SQ_OK;
}
