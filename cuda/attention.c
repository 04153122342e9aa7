/* Causal attention of one sample: queries in blocks, keys in tiles, all heads of a tile at once. The two products of a
 * tile are batches of cuBLAS products on tensor cores (where the inputs are BF16); the softmax between them is a kernel
 * that reads and writes the tile's scores. No more than a tile of them is ever in memory. */
#include "cuda/cuda_private.h"
#include "cuda/kernels/kernels.h"
#include "tensor/cuda_traits.h"

struct attending {
    struct sq_backend *backend;
    const struct sq_attention *shape;
    struct sq_matrix q, k, v;
    struct sq_score_tile tile;
};

static int64_t at_most(int64_t value, int64_t bound)
{
    return value < bound ? value : bound;
}

size_t sq_cuda_attention_scratch(struct sq_backend *backend, const struct sq_attention *shape, int64_t length)
{
    return backend->traits->attention_scratch(shape, length);
}

static void lay_out(struct attending *a, void *scratch)
{
    struct sq_score_tile *tile = &a->tile;
    int64_t rows = a->shape->n_heads * tile->query_stride;
    tile->scores = scratch;
    tile->sums = tile->scores + rows * tile->key_stride;
    tile->largest = tile->sums + rows * a->shape->value_dim;
    tile->total = tile->largest + rows;
    /* from a multiple of 16 bytes on */
    tile->weights = a->v.dtype == SQ_F32
                        ? (void *)tile->scores
                        : (char *)scratch + ((size_t)((char *)(tile->total + rows) - (char *)scratch) + 15) / 16 * 16;
}

/* c = a b + beta c for a batch of heads; as cuBLAS sees them, by columns. */
struct batch {
    const void *left, *right;
    void *out;
    enum sq_dtype type;
    int64_t left_stride, left_step, right_stride, right_step, out_stride, out_step;
    int64_t m, n, k, count;
    bool is_left_turned;
    float beta;
};

static enum sq_status multiply(struct sq_backend *backend, const struct batch *b)
{
    const float one = 1;
    cudaDataType type = sq_cuda_type(b->type);
    return sq_cublas_checked(
        cublasGemmStridedBatchedEx(sq_cuda_worker(backend)->blas, b->is_left_turned ? CUBLAS_OP_T : CUBLAS_OP_N,
                                   CUBLAS_OP_N, (int)b->m, (int)b->n, (int)b->k, &one, b->left, type,
                                   (int)b->left_stride, b->left_step, b->right, type, (int)b->right_stride,
                                   b->right_step, &b->beta, b->out, CUDA_R_32F, (int)b->out_stride, b->out_step,
                                   (int)b->count, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
        "a batch of products");
}

/* Heads first, first + sharing, ...: one for each head of keys and values. */
static enum sq_status score_heads(const struct attending *a, int64_t first, int64_t sharing)
{
    const struct sq_score_tile *tile = &a->tile;
    int64_t head_dim = a->shape->head_dim, head_scores = tile->query_stride * tile->key_stride;
    struct sq_matrix q = sq_matrix_part(a->q, tile->first_query, tile->queries, first * head_dim, head_dim);
    struct sq_matrix k = sq_matrix_part(a->k, tile->first_key, tile->keys, 0, head_dim);
    const struct batch batch = {.left = k.data,
                                .left_stride = k.stride,
                                .left_step = head_dim,
                                .is_left_turned = true,
                                .right = q.data,
                                .right_stride = q.stride,
                                .right_step = sharing * head_dim,
                                .out = tile->scores + first * head_scores,
                                .out_stride = tile->key_stride,
                                .out_step = sharing * head_scores,
                                .type = q.dtype,
                                .m = tile->keys,
                                .n = tile->queries,
                                .k = head_dim,
                                .count = a->shape->n_kv_heads};
    return multiply(a->backend, &batch);
}

static enum sq_status add_values(const struct attending *a, int64_t first, int64_t sharing)
{
    const struct sq_score_tile *tile = &a->tile;
    int64_t value_dim = a->shape->value_dim, head_scores = tile->query_stride * tile->key_stride;
    int64_t head_sums = tile->query_stride * value_dim;
    struct sq_matrix v = sq_matrix_part(a->v, tile->first_key, tile->keys, 0, value_dim);
    const struct batch batch = {.left = v.data,
                                .left_stride = v.stride,
                                .left_step = value_dim,
                                .right = (const char *)tile->weights +
                                         (size_t)(first * head_scores) * sq_dtype_size(v.dtype),
                                .right_stride = tile->key_stride,
                                .right_step = sharing * head_scores,
                                .out = tile->sums + first * head_sums,
                                .out_stride = value_dim,
                                .out_step = sharing * head_sums,
                                .type = v.dtype,
                                .m = value_dim,
                                .n = tile->queries,
                                .k = tile->keys,
                                .count = a->shape->n_kv_heads,
                                .beta = 1};
    return multiply(a->backend, &batch);
}

static enum sq_status attend_tile(const struct attending *a)
{
    int64_t sharing = a->shape->n_heads / a->shape->n_kv_heads;
    for (int64_t first = 0; first < sharing; first++)
        SQ_TRY(score_heads(a, first, sharing));
    SQ_TRY(sq_cuda_checked(sq_kernel_attention_weigh(sq_cuda_worker(a->backend)->stream, &a->tile), "a softmax"));
    for (int64_t first = 0; first < sharing; first++)
        SQ_TRY(add_values(a, first, sharing));
    return SQ_OK;
}

/* One block of queries against the keys that any of them sees. */
static enum sq_status attend_block(struct attending *a, struct sq_matrix out)
{
    cudaStream_t stream = sq_cuda_worker(a->backend)->stream;
    struct sq_score_tile *tile = &a->tile;
    int64_t end = tile->first_query + tile->queries, past = tile->first_query - tile->window + 1;
    int64_t first = tile->window && past > 0 ? past / SQ_CUDA_QUERIES * SQ_CUDA_QUERIES : 0;
    SQ_TRY(sq_cuda_checked(sq_kernel_attention_start(stream, tile), "starting attention"));
    for (tile->first_key = first; tile->first_key < end; tile->first_key += SQ_CUDA_KEYS) {
        tile->keys = at_most(end - tile->first_key, SQ_CUDA_KEYS);
        SQ_TRY(attend_tile(a));
    }
    struct sq_matrix rows = sq_matrix_part(out, tile->first_query, tile->queries, 0, out.cols);
    return sq_cuda_checked(sq_kernel_attention_finish(stream, tile, rows), "ending attention");
}

enum sq_status sq_cuda_attention(struct sq_backend *backend, const struct sq_attention *shape, struct sq_matrix q,
                                 struct sq_matrix k, struct sq_matrix v, void *scratch, struct sq_matrix out)
{
    struct attending a = {.backend = backend, .shape = shape, .q = q, .k = k, .v = v};
    struct sq_score_tile *tile = &a.tile;
    *tile = (struct sq_score_tile){.heads = shape->n_heads,
                                   .query_stride = sq_cuda_full_queries(q.rows),
                                   .key_stride = sq_cuda_full_keys(q.rows),
                                   .window = shape->window,
                                   .value_dim = shape->value_dim,
                                   .scale = shape->scale,
                                   .cap = shape->cap,
                                   .slopes = shape->slopes,
                                   .sinks = shape->sinks,
                                   .dtype = v.dtype};
    lay_out(&a, scratch);
    for (tile->first_query = 0; tile->first_query < q.rows; tile->first_query += SQ_CUDA_QUERIES) {
        tile->queries = at_most(q.rows - tile->first_query, SQ_CUDA_QUERIES);
        SQ_TRY(attend_block(&a, out));
    }
    return SQ_OK;
}
