/* What each operation of the dry backend counts. */
#include <string.h>

#include "tensor/dry_private.h"
#include "tensor/solve_ops.h"

/* --- memory ------------------------------------------------------------------------------------------------------- */

static enum sq_status dry_upload(struct sq_backend *backend, const void *host, size_t bytes, void *memory)
{
    return host == memory ? SQ_OK : sq_dry_do(backend, SQ_WORK_COPY, (double)bytes, 0);
}

/* NULL: nobody wants to see it. */
static enum sq_status dry_download(struct sq_backend *backend, const void *memory, size_t bytes, void *host)
{
    (void)memory;
    if (host) memset(host, 0, bytes);
    return sq_dry_do(backend, SQ_WORK_COPY, (double)bytes, 0);
}

/* As if it were not beside the work; nobody looks at what came out. */
static enum sq_status dry_fetch(struct sq_backend *backend, const void *memory, size_t bytes, void *host)
{
    (void)memory, (void)host;
    return sq_dry_do(backend, SQ_WORK_COPY, (double)bytes, 0);
}

static enum sq_status dry_settle(struct sq_backend *backend)
{
    (void)backend;
    return SQ_OK;
}

static enum sq_status dry_copy(struct sq_backend *backend, const void *source, size_t bytes, void *target)
{
    (void)source;
    (void)target;
    return sq_dry_do(backend, SQ_WORK_STREAM, 2 * (double)bytes, 0);
}

static enum sq_status dry_clear(struct sq_backend *backend, void *memory, size_t bytes)
{
    (void)memory;
    return sq_dry_do(backend, SQ_WORK_STREAM, (double)bytes, 0);
}

/* --- products ----------------------------------------------------------------------------------------------------- */

static int64_t smallest(int64_t a, int64_t b, int64_t c)
{
    int64_t least = a < b ? a : b;
    return least < c ? least : c;
}

static double cells(struct sq_matrix m)
{
    return (double)m.rows * (double)m.cols;
}

static double bytes_of(struct sq_matrix m)
{
    return cells(m) * (double)sq_dtype_size(m.dtype);
}

static enum sq_status dry_linear(struct sq_backend *backend, struct sq_matrix x, struct sq_matrix w, const float *bias,
                                 struct sq_matrix y)
{
    (void)bias;
    (void)y;
    return sq_dry_do(backend, x.dtype == SQ_BF16 ? SQ_WORK_BF16 : SQ_WORK_F32, 2 * cells(x) * (double)w.rows,
                     smallest(x.rows, x.cols, w.rows));
}

static enum sq_status dry_matmul(struct sq_backend *backend, struct sq_matrix a, struct sq_matrix b, bool accumulate,
                                 struct sq_matrix c)
{
    (void)accumulate;
    (void)c;
    return sq_dry_do(backend, SQ_WORK_TILE, 2 * cells(a) * (double)b.cols, smallest(a.rows, a.cols, a.cols));
}

/* Both factors are split first: F32 is read, and BF16 is written for each product. */
static enum sq_status dry_matmul_split(struct sq_backend *backend, struct sq_matrix a, struct sq_matrix b,
                                       bool accumulate, struct sq_matrix c)
{
    const struct sq_rate *of = ((struct sq_dry *)backend)->rates->of;
    const int n_products = backend->traits->split_products;
    bool is_faster = n_products > 0 && of[SQ_WORK_BF16].per_second > n_products * of[SQ_WORK_TILE].per_second;
    if (!is_faster) return dry_matmul(backend, a, b, accumulate, c);
    SQ_TRY(sq_dry_do(backend, SQ_WORK_STREAM, (bytes_of(a) + bytes_of(b)) * (1 + 0.5 * n_products), 0));
    return sq_dry_do(backend, SQ_WORK_BF16, 2 * cells(a) * (double)b.cols * n_products,
                     smallest(a.rows, a.cols, b.cols));
}

static enum sq_status dry_column_squares(struct sq_backend *backend, struct sq_matrix x, double *squares)
{
    memset(squares, 0, (size_t)x.cols * sizeof *squares);
    return sq_dry_do(backend, SQ_WORK_MATH, cells(x), 0);
}

static enum sq_status dry_gram_pack(struct sq_backend *backend, struct sq_matrix x, int64_t row, int64_t rows,
                                    float *packed)
{
    (void)row;
    (void)packed;
    if (backend->sizes.hessian_packed == 0) return SQ_OK;
    return sq_dry_do(backend, SQ_WORK_TURN, (double)rows * (double)x.cols, 0);
}

static enum sq_status dry_gram_add(struct sq_backend *backend, struct sq_matrix x, const float *packed, int64_t row,
                                   const float *scale, struct sq_matrix sums)
{
    (void)packed;
    (void)scale;
    double pairs = (double)sums.rows * ((double)row + 0.5 * (double)(sums.rows + 1));
    return sq_dry_do(backend, x.dtype == SQ_BF16 ? SQ_WORK_GRAM_BF16 : SQ_WORK_GRAM_F32, 2 * (double)x.rows * pairs, 0);
}

static enum sq_status dry_fixed_get(struct sq_backend *backend, struct sq_matrix sums, const double *row_scale,
                                    const double *col_scale, struct sq_matrix c)
{
    (void)row_scale;
    (void)col_scale;
    return sq_dry_do(backend, SQ_WORK_STREAM, bytes_of(sums) + bytes_of(c), 0);
}

static enum sq_status dry_mirror(struct sq_backend *backend, struct sq_matrix m, int64_t row, int64_t rows)
{
    (void)m;
    return sq_dry_do(backend, SQ_WORK_TURN, (double)rows * ((double)row + 0.5 * (double)rows), 0);
}

static enum sq_status dry_potrf(struct sq_backend *backend, struct sq_matrix a)
{
    return sq_dry_do(backend, SQ_WORK_FACTOR, cells(a) * (double)a.cols / 3, a.rows);
}

static enum sq_status dry_trsm(struct sq_backend *backend, struct sq_matrix l, struct sq_matrix b)
{
    return sq_dry_do(backend, SQ_WORK_FACTOR, cells(b) * (double)l.cols, l.rows);
}

static enum sq_status dry_update(struct sq_backend *backend, struct sq_matrix a, struct sq_matrix b, struct sq_matrix c)
{
    return sq_dry_do(backend, SQ_WORK_FACTOR, 2 * cells(a) * (double)b.rows, smallest(c.rows, c.cols, a.cols));
}

/* --- the model's steps -------------------------------------------------------------------------------------------- */

static enum sq_status dry_take_rows(struct sq_backend *backend, struct sq_matrix table, int64_t first,
                                    const int32_t *ids, struct sq_matrix out)
{
    (void)first;
    (void)ids;
    (void)table;
    return sq_dry_do(backend, SQ_WORK_STREAM, (double)out.rows * sizeof(float), 0);
}

static enum sq_status dry_norm(struct sq_backend *backend, enum sq_norm_kind kind, struct sq_matrix x,
                               const float *weight, const float *bias, float epsilon, struct sq_matrix y)
{
    (void)kind;
    (void)weight;
    (void)bias;
    (void)epsilon;
    (void)y;
    return sq_dry_do(backend, SQ_WORK_MATH, cells(x), 0);
}

static enum sq_status dry_rope(struct sq_backend *backend, enum sq_rope_pairs pairs, struct sq_matrix x,
                               int64_t head_dim, int64_t n_frequencies, const float *cosine, const float *sine)
{
    (void)pairs;
    (void)head_dim;
    (void)n_frequencies;
    (void)cosine;
    (void)sine;
    return sq_dry_do(backend, SQ_WORK_MATH, cells(x), 0);
}

static enum sq_status dry_attention(struct sq_backend *backend, const struct sq_attention *shape, struct sq_matrix q,
                                    struct sq_matrix k, struct sq_matrix v, void *scratch, struct sq_matrix out)
{
    (void)k;
    (void)v;
    (void)scratch;
    (void)out;
    double widths = (double)(shape->n_heads * (shape->head_dim + shape->value_dim));
    double operations = 2 * sq_attention_pairs(q.rows, shape->window) * widths;
    return sq_dry_do(backend, SQ_WORK_ATTENTION, operations, shape->head_dim);
}

static size_t dry_attention_scratch(struct sq_backend *backend, const struct sq_attention *shape, int64_t length)
{
    return backend->traits->attention_scratch(shape, length);
}

static enum sq_status dry_activate(struct sq_backend *backend, enum sq_activation kind, struct sq_matrix x,
                                   struct sq_matrix gate, struct sq_matrix y)
{
    (void)kind;
    (void)gate;
    (void)y;
    return sq_dry_do(backend, SQ_WORK_MATH, cells(x), 0);
}

static enum sq_status dry_add(struct sq_backend *backend, struct sq_matrix x, struct sq_matrix y)
{
    return sq_dry_do(backend, SQ_WORK_STREAM, bytes_of(x) + 2 * bytes_of(y), 0);
}

static enum sq_status dry_rescale(struct sq_backend *backend, float scale, float cap, struct sq_matrix z)
{
    (void)scale;
    (void)cap;
    return sq_dry_do(backend, SQ_WORK_STREAM, 2 * bytes_of(z), 0);
}

static enum sq_status dry_convert(struct sq_backend *backend, struct sq_matrix x, struct sq_matrix y)
{
    return sq_dry_do(backend, SQ_WORK_STREAM, bytes_of(x) + bytes_of(y), 0);
}

static enum sq_status dry_copy_parts(struct sq_backend *backend, int64_t count, int64_t width, struct sq_matrix x,
                                     int64_t x_step, struct sq_matrix y, int64_t y_step)
{
    (void)x_step;
    (void)y_step;
    double elements = (double)x.rows * (double)(count * width);
    return sq_dry_do(backend, SQ_WORK_STREAM, 2 * elements * (double)sq_dtype_size(y.dtype), 0);
}

static enum sq_status dry_all_finite(struct sq_backend *backend, struct sq_matrix x, bool *finite_p)
{
    *finite_p = true;
    return sq_dry_do(backend, SQ_WORK_STREAM, bytes_of(x), 0);
}

static enum sq_status dry_softmax_fold(struct sq_backend *backend, struct sq_matrix z, struct sq_matrix other,
                                       int64_t first, struct sq_softmax *state)
{
    (void)other;
    (void)first;
    (void)state;
    return sq_dry_do(backend, SQ_WORK_MATH, cells(z), 0);
}

static enum sq_status dry_pick(struct sq_backend *backend, struct sq_matrix z, int64_t first, const int32_t *ids,
                               float *out)
{
    (void)first;
    (void)ids;
    (void)out;
    return sq_dry_do(backend, SQ_WORK_STREAM, (double)z.rows * sizeof(float), 0);
}

/* --- mixtures of experts ------------------------------------------------------------------------------------------ */

static enum sq_status dry_route(struct sq_backend *backend, const struct sq_routing *routing, struct sq_matrix scores,
                                struct sq_matrix chosen, struct sq_matrix weights)
{
    (void)routing;
    (void)chosen;
    (void)weights;
    return sq_dry_do(backend, SQ_WORK_MATH, cells(scores), 0);
}

static enum sq_status dry_gather_rows(struct sq_backend *backend, struct sq_matrix x, const int32_t *ids,
                                      struct sq_matrix y)
{
    (void)x;
    (void)ids;
    return sq_dry_do(backend, SQ_WORK_STREAM, 2 * bytes_of(y), 0);
}

static enum sq_status dry_add_rows(struct sq_backend *backend, struct sq_matrix x, const int32_t *ids,
                                   const float *weights, struct sq_matrix y)
{
    (void)ids;
    (void)weights;
    (void)y;
    return sq_dry_do(backend, SQ_WORK_STREAM, bytes_of(x) + 2 * cells(x) * sizeof(float), 0);
}

static enum sq_status dry_gate_rows(struct sq_backend *backend, struct sq_matrix x, const float *w, struct sq_matrix y)
{
    (void)w;
    return sq_dry_do(backend, SQ_WORK_STREAM, bytes_of(x) + 2 * bytes_of(y), 0);
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

const struct sq_backend_ops sq_dry_ops = {
    .name = "dry",
    .destroy = sq_dry_destroy,
    .alloc = sq_dry_alloc,
    .free = sq_dry_free,
    .upload = dry_upload,
    .download = dry_download,
    .alloc_host = sq_dry_alloc_host,
    .free_host = sq_dry_free,
    .copy = dry_copy,
    .clear = dry_clear,
    .fetch = dry_fetch,
    .settle = dry_settle,
    .send = sq_dry_send,
    .sent = sq_dry_sent,
    .receive = dry_settle,
    .parallel = sq_dry_parallel,
    .linear = dry_linear,
    .matmul = dry_matmul,
    .matmul_split = dry_matmul_split,
    .column_squares = dry_column_squares,
    .gram_pack = dry_gram_pack,
    .gram_add = dry_gram_add,
    .fixed_get = dry_fixed_get,
    .mirror = dry_mirror,
    .potrf = dry_potrf,
    .trsm = dry_trsm,
    .update = dry_update,
    .take_rows = dry_take_rows,
    .norm = dry_norm,
    .rope = dry_rope,
    .attention = dry_attention,
    .attention_scratch = dry_attention_scratch,
    .activate = dry_activate,
    .add = dry_add,
    .rescale = dry_rescale,
    .convert = dry_convert,
    .copy_parts = dry_copy_parts,
    .all_finite = dry_all_finite,
    .softmax_fold = dry_softmax_fold,
    .pick = dry_pick,
    .route = dry_route,
    .gather_rows = dry_gather_rows,
    .add_rows = dry_add_rows,
    .gate_rows = dry_gate_rows,
    .solve = &sq_dry_solve_ops,
};
