/* The seam between the program and the hardware: a const table of operations on matrices in the backend's memory.
 * Every slot is filled by every backend. Contract tests (tests/test_backend*.c) run on each of them.
 *
 * Who runs an operation: sq_parallel() spreads independent items (samples, tiles) over the backend's workers; inside an
 * item every operation is done by that one worker. What an item computes therefore does not depend on how many workers
 * there are: this is where the promise "same bytes from any number of threads" is kept. */
#ifndef SQ_TENSOR_BACKEND_H
#define SQ_TENSOR_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "tensor/dtype.h"

/* A row-major view [rows, cols] of backend memory; stride in elements between rows. Owns nothing. */
struct sq_matrix {
    void *data;
    enum sq_dtype dtype;
    int64_t rows, cols, stride;
};

/* View of a dense array. */
static inline struct sq_matrix sq_matrix_view(void *data, enum sq_dtype dtype, int64_t rows, int64_t cols)
{
    struct sq_matrix m = {data, dtype, rows, cols, cols};
    return m;
}

/* The sub-view [row, row + rows) x [col, col + cols). */
struct sq_matrix sq_matrix_part(struct sq_matrix m, int64_t row, int64_t rows, int64_t col, int64_t cols);

struct sq_backend;

/* Work on item `index`; `worker` in [0, n_workers) names scratch memory that no other running item uses. */
typedef enum sq_status sq_item_fn(void *context, int64_t index, int worker);

/* Attention of one sample; q [length, n_heads * head_dim], k [length, n_kv_heads * head_dim], v [length, n_kv_heads *
 * value_dim]. */
struct sq_attention {
    int64_t n_heads, n_kv_heads, head_dim, value_dim;
    float scale;    /* factor on q.k, usually 1/sqrt(head_dim) */
    int64_t window; /* sliding window: position i sees (i - window, i]; 0: all earlier positions */
    float cap;      /* scaled scores become cap tanh(score / cap); 0: they stay */
    const float
        *slopes;        /* backend memory [n_heads]: score of key j for query i += slope (j - i) (ALiBi); may be NULL */
    const float *sinks; /* backend memory [n_heads]: a score, as it is, that every query of the head has beside those of
                         * the keys, for a value of zeros; may be NULL */
};

/* Pairs of positions of which one sees the other or itself; window as above. Local. */
double sq_attention_pairs(int64_t length, int64_t window);

/* A softmax over a vocabulary that arrives in pieces; starts as {0, 0, -INFINITY, -1}. */
struct sq_softmax {
    double sum;   /* sum of exp(z - max) */
    double cross; /* sum of exp(z - max) (z - other) */
    float max;    /* largest logit so far, at vocabulary entry argmax (the first of equals) */
    int32_t argmax;
};

enum sq_norm_kind { SQ_NORM_RMS, SQ_NORM_LAYER };
enum sq_rope_pairs { SQ_ROPE_HALVES, SQ_ROPE_NEIGHBOURS }; /* entries i, i + n_frequencies; or 2 i, 2 i + 1 */
enum sq_activation {
    SQ_ACT_SILU,
    SQ_ACT_RELU,
    SQ_ACT_GELU,
    SQ_ACT_GELU_TANH,
    SQ_ACT_CLAMPED /* with m = min(x, SQ_CLAMP): m sigmoid(SQ_CLAMPED_SLOPE m); a gate g counts as
                    * min(max(g, -SQ_CLAMP), SQ_CLAMP) + 1 (GPT-OSS) */
};
#define SQ_CLAMP 7.0f
#define SQ_CLAMPED_SLOPE 1.702f

/* What a router makes of its logits z, and what the weights of the chosen experts are made from. */
enum sq_router_kind {
    SQ_ROUTER_SOFTMAX,        /* softmax over all experts */
    SQ_ROUTER_SOFTMAX_CHOSEN, /* z itself; weights are the softmax over the chosen ones */
    SQ_ROUTER_SIGMOID         /* 1 / (1 + exp(-z)) */
};

/* What stands for a group of experts when groups are chosen. */
enum sq_group_score { SQ_GROUP_BEST, SQ_GROUP_BEST_TWO }; /* its largest score; the sum of its two largest */

#define SQ_ROUTING_GROUPS 64

/* How a token's experts are chosen: first the best groups, where there are groups, then the best experts in them, by
 * score + bias; of equals the first. */
struct sq_routing {
    enum sq_router_kind kind;
    int64_t n_experts, n_chosen;
    int64_t n_groups, n_chosen_groups; /* at most SQ_ROUTING_GROUPS; n_groups 0 or 1: no groups */
    enum sq_group_score group_score;
    bool normalise;    /* weights (scores without bias) are divided by their sum */
    float scale;       /* and then multiplied by this */
    const float *bias; /* backend memory [n_experts]; may be NULL */
};

/* What the host does beside the workers: while others have items in hand, the main thread of parallel() takes one step
 * after another; when there is no more, it helps with the items. What is left goes on in the next parallel(). */
struct sq_beside {
    bool (*step)(void *context); /* a short step; whether there may be more. What fails is kept in the context */
    void *context;
};

/* Where parts of memory begin that workers have each for itself, or samples, or ranks: the most that libraries look at
 * in an address when they choose a kernel. What comes out of an item then does not depend on who has it, or where. */
#define SQ_ALIGNMENT 256

static inline int64_t sq_aligned(int64_t bytes)
{
    return (bytes + SQ_ALIGNMENT - 1) / SQ_ALIGNMENT * SQ_ALIGNMENT;
}

#define SQ_LANES 2 /* uploads beside the work that may be on their way at once */

struct sq_grid; /* gptq's description of a quantization grid: tensor/grid.h */

struct sq_backend_ops {
    const char *name;
    void (*destroy)(struct sq_backend *backend);

    /* --- memory ------------------------------------------------------------------------------------------------ */
    enum sq_status (*alloc)(struct sq_backend *backend, const char *what, size_t bytes, void **memory_p);
    void (*free)(struct sq_backend *backend, void *memory);
    /* Between host memory and the backend's; done when they return. Memory copied onto itself stays as it is: where the
     * two are the same (is_host), callers hand in one buffer as both. */
    enum sq_status (*upload)(struct sq_backend *backend, const void *host, size_t bytes, void *memory);
    enum sq_status (*download)(struct sq_backend *backend, const void *memory, size_t bytes, void *host);
    /* Host memory for what is on its way to or from the backend's. take_rows, add, add_rows, gather_rows, convert,
     * clear and column_squares, which come to each element once, also take it in place of the backend's. */
    enum sq_status (*alloc_host)(struct sq_backend *backend, const char *what, size_t bytes, void **memory_p);
    void (*free_host)(struct sq_backend *backend, void *memory);
    /* Inside the backend's memory: target = source; bytes of zero. One worker each. */
    enum sq_status (*copy)(struct sq_backend *backend, const void *source, size_t bytes, void *target);
    enum sq_status (*clear)(struct sq_backend *backend, void *memory, size_t bytes);

    /* --- copies beside the work ---------------------------------------------------------------------------------- */
    /* Starts a download that goes on while this worker goes on. It is done when parallel() returns (outside of it: at
     * once); memory stays as it is until settle(). host: memory of alloc_host. */
    enum sq_status (*fetch)(struct sq_backend *backend, const void *memory, size_t bytes, void *host);
    /* What this worker does from now on comes after its fetches. */
    enum sq_status (*settle)(struct sq_backend *backend);
    /* Starts an upload that goes on while all workers go on; host, memory of alloc_host, stays as it is until sent() of
     * the lane. lane in [0, SQ_LANES). By the main thread. */
    enum sq_status (*send)(struct sq_backend *backend, int lane, const void *host, size_t bytes, void *memory);
    /* Waits until what was sent last in this lane is there. By the main thread. */
    enum sq_status (*sent)(struct sq_backend *backend, int lane);
    /* What this worker does from now on comes after everything that was sent so far. */
    enum sq_status (*receive)(struct sq_backend *backend);

    /* --- execution --------------------------------------------------------------------------------------------- */
    /* Runs fn for every index in [0, count), in any order; returns the worst status after all have ended. Meanwhile the
     * main thread takes steps of what goes on beside it (struct sq_beside). */
    enum sq_status (*parallel)(struct sq_backend *backend, int64_t count, sq_item_fn *fn, void *context);

    /* --- dense products (one worker each) ---------------------------------------------------------------------- */
    /* y = x w' + bias.  x [m, k], w [n, k] of one dtype (F32 or BF16); y [m, n] F32 or that dtype; bias F32 [n] or
     * NULL. Sums in f32. */
    enum sq_status (*linear)(struct sq_backend *backend, struct sq_matrix x, struct sq_matrix w, const float *bias,
                             struct sq_matrix y);
    /* c = a b (accumulate: c += a b); all F32, a [m, k], b [k, n], c [m, n]. */
    enum sq_status (*matmul)(struct sq_backend *backend, struct sq_matrix a, struct sq_matrix b, bool accumulate,
                             struct sq_matrix c);
    /* The same where no code depends on it: with f32's accuracy, but other roundings, where that is faster. m and n at
     * most SQ_SOLVE_ROWS_MAX. */
    enum sq_status (*matmul_split)(struct sq_backend *backend, struct sq_matrix a, struct sq_matrix b, bool accumulate,
                                   struct sq_matrix c);

    /* --- exact sums of Hessians (one worker each) ----------------------------------------------------------------- */
    /* squares[j] = sum over rows of x[:, j]^2, f64 in host memory; x F32 or BF16 [m, n]. */
    enum sq_status (*column_squares)(struct sq_backend *backend, struct sq_matrix x, double *squares);
    /* Rows [row, row + rows) of x F32 or BF16 [t, n] into packed, an F32 buffer of sq_gram_elements(t, n) elements, as
     * gram_add() wants them; row even, and rows too unless they are the last. Nothing where the backend takes x as it
     * is. */
    enum sq_status (*gram_pack)(struct sq_backend *backend, struct sq_matrix x, int64_t row, int64_t rows,
                                float *packed);
    /* sums[i - row, j] += trunc((x'x)[i, j] * scale[i] * scale[j]), sums I64 [rows, row + rows], for j <= i; what is
     * beyond the diagonal may or may not be added. x [t, n], packed: all of its columns; row a multiple of
     * SQ_GRAM_COLUMNS; scale F32 [n], powers of two. The sum over t, at most sizes.hessian_tokens, is made in f32. */
    enum sq_status (*gram_add)(struct sq_backend *backend, struct sq_matrix x, const float *packed, int64_t row,
                               const float *scale, struct sq_matrix sums);
    /* c[i, j] = sums[i, j] * row_scale[i] * col_scale[j], rounded once to F32; the scales here f64. */
    enum sq_status (*fixed_get)(struct sq_backend *backend, struct sq_matrix sums, const double *row_scale,
                                const double *col_scale, struct sq_matrix c);
    /* Rows [row, row + rows) of the lower triangle of m F32 [n, n] into the columns of the upper one. */
    enum sq_status (*mirror)(struct sq_backend *backend, struct sq_matrix m, int64_t row, int64_t rows);

    /* --- tiles of the factorization (one worker each), all F32 -------------------------------------------------- */
    /* a = L L', L lower triangular in place of a's lower triangle (the upper one is set to zero).
     * SQ_ERR_NUMERIC without a message when a is not positive definite. */
    enum sq_status (*potrf)(struct sq_backend *backend, struct sq_matrix a);
    /* b = b inv(L)', L [n, n] lower triangular, b [m, n] in place. */
    enum sq_status (*trsm)(struct sq_backend *backend, struct sq_matrix l, struct sq_matrix b);
    /* c -= a b'; a [m, k], b [n, k], c [m, n]. */
    enum sq_status (*update)(struct sq_backend *backend, struct sq_matrix a, struct sq_matrix b, struct sq_matrix c);

    /* --- the model's steps (one worker each, usually one sample) ------------------------------------------------ */
    /* out[i] = table[ids[i] - first] where that row is in the table F32 [rows, n], else out[i] stays; out F32 [m, n].
     */
    enum sq_status (*take_rows)(struct sq_backend *backend, struct sq_matrix table, int64_t first, const int32_t *ids,
                                struct sq_matrix out);
    /* y = norm(x) * weight + bias by row; x F32 or BF16 [m, n], y F32 or BF16, weight F32 [n], bias F32 [n] or NULL.
     * Sums in f32 (RMS) or f32 two-pass (LAYER). y may be x. */
    enum sq_status (*norm)(struct sq_backend *backend, enum sq_norm_kind kind, struct sq_matrix x, const float *weight,
                           const float *bias, float epsilon, struct sq_matrix y);
    /* Rotates the first 2 * n_frequencies entries of every head of x [m, n_heads * head_dim], by pairs; (a, b) becomes
     * (a c - b s, b c + a s), c = cosine[t * n_frequencies + i] for row t and pair i, s likewise. In place. What
     * follows these entries may be missing from the last head. */
    enum sq_status (*rope)(struct sq_backend *backend, enum sq_rope_pairs pairs, struct sq_matrix x, int64_t head_dim,
                           int64_t n_frequencies, const float *cosine, const float *sine);
    /* out [length, n_heads * value_dim] = causal attention; q, k, v, out of one dtype; softmax in f32. scratch: F32,
     * attention_scratch(shape, length) bytes, this worker's own. */
    enum sq_status (*attention)(struct sq_backend *backend, const struct sq_attention *shape, struct sq_matrix q,
                                struct sq_matrix k, struct sq_matrix v, void *scratch, struct sq_matrix out);
    size_t (*attention_scratch)(struct sq_backend *backend, const struct sq_attention *shape, int64_t length);
    /* y = act(x), or act(x) * gate where gate.data is not NULL; x, gate, y of one dtype. y may be x. */
    enum sq_status (*activate)(struct sq_backend *backend, enum sq_activation kind, struct sq_matrix x,
                               struct sq_matrix gate, struct sq_matrix y);
    /* y += x; y F32, x F32 or BF16. */
    enum sq_status (*add)(struct sq_backend *backend, struct sq_matrix x, struct sq_matrix y);
    /* z = scale z, then, where cap > 0, z = cap tanh(z / cap); F32, in place. */
    enum sq_status (*rescale)(struct sq_backend *backend, float scale, float cap, struct sq_matrix z);
    /* y = x, between F32 and BF16 either way. */
    enum sq_status (*convert)(struct sq_backend *backend, struct sq_matrix x, struct sq_matrix y);
    /* y[:, h y_step + i] = x[:, h x_step + i] for i < width and every h < count: parts of heads; y of x's dtype. x_step
     * may be 0. */
    enum sq_status (*copy_parts)(struct sq_backend *backend, int64_t count, int64_t width, struct sq_matrix x,
                                 int64_t x_step, struct sq_matrix y, int64_t y_step);
    /* *finite_p: no element of x (F32 or BF16) is NaN or infinite. */
    enum sq_status (*all_finite)(struct sq_backend *backend, struct sq_matrix x, bool *finite_p);
    /* Folds the logits z F32 [m, n] of vocabulary entries [first, first + n) into the softmax of every row, state [m];
     * with other.data not NULL (logits of another model, same shape) also into its cross sum. */
    enum sq_status (*softmax_fold)(struct sq_backend *backend, struct sq_matrix z, struct sq_matrix other,
                                   int64_t first, struct sq_softmax *state);
    /* out[i] = z[i, ids[i] - first] where z F32 [m, n] has that column, else out[i] stays; out F32 [m]. */
    enum sq_status (*pick)(struct sq_backend *backend, struct sq_matrix z, int64_t first, const int32_t *ids,
                           float *out);

    /* --- mixtures of experts (one worker each) ------------------------------------------------------------------ */
    /* Chooses the experts of every token. scores F32 [m, n_experts]: logits, which become scores (without bias); chosen
     * I32 and weights F32 [m, n_chosen], the best expert first. */
    enum sq_status (*route)(struct sq_backend *backend, const struct sq_routing *routing, struct sq_matrix scores,
                            struct sq_matrix chosen, struct sq_matrix weights);
    /* y[i] = x[ids[i]]; x, y of one dtype, F32 or BF16; ids in backend memory [y.rows], each a row of x. */
    enum sq_status (*gather_rows)(struct sq_backend *backend, struct sq_matrix x, const int32_t *ids,
                                  struct sq_matrix y);
    /* y[ids[i]] += weights[i] x[i]; x F32 or BF16 [m, n], y F32; ids and weights F32 in backend memory [m], no id
     * twice. */
    enum sq_status (*add_rows)(struct sq_backend *backend, struct sq_matrix x, const int32_t *ids, const float *weights,
                               struct sq_matrix y);
    /* y[i] *= 1 / (1 + exp(-x[i] w)); x F32 or BF16 [m, k], w F32 [k], y F32 [m, n]. */
    enum sq_status (*gate_rows)(struct sq_backend *backend, struct sq_matrix x, const float *w, struct sq_matrix y);

    /* --- the solver's column kernels (one worker each) ---------------------------------------------------------- */
    /* see tensor/solve_ops.h */
    const struct sq_solve_ops *solve;
};

/* Sizes of the pieces in which the big stages work. They decide the arithmetic: fixed for a kind of backend, and never
 * dependent on the number of ranks or workers. */
struct sq_sizes {
    int64_t solve_rows;     /* output rows of a tile of the solver, a multiple of 32 and at most SQ_SOLVE_ROWS_MAX */
    int64_t solve_columns;  /* columns of the solver that one product brings what lies outside of them, or one block */
    int64_t factor_tile;    /* edge of the tiles of the factorization */
    int64_t factor_rows;    /* rows of a column of these tiles that one of its products takes */
    int64_t hessian_panel;  /* rows of a panel of the Hessian, a multiple of SQ_GRAM_COLUMNS; no bits depend on it */
    int64_t hessian_tokens; /* tokens whose product is made in f32 and then added: at most these */
    int64_t hessian_packed; /* elements of inputs that are packed at once, or those of one product; 0: x as it is */
    int64_t hessian_slice;  /* elements that are reduced at once, or one panel; half of it where that goes on beside */
    int64_t expert_rows;    /* tokens of an expert that go through it at once */
};

/* Instruction sets of the CPU backend, best first. */
enum sq_isa { SQ_ISA_BEST, SQ_ISA_AMX, SQ_ISA_AVX512BF16, SQ_ISA_AVX512, SQ_ISA_AVX2, SQ_ISA_GENERIC };

#define SQ_SOLVE_ROWS_MAX 2048
#define SQ_GRAM_COLUMNS 16 /* packed columns come in multiples of these */

/* Elements of F32 that x [rows, cols] of either dtype takes when packed. */
static inline int64_t sq_gram_elements(int64_t rows, int64_t cols)
{
    return rows * ((cols + SQ_GRAM_COLUMNS - 1) / SQ_GRAM_COLUMNS * SQ_GRAM_COLUMNS);
}

struct sq_backend_traits; /* traits.h */

struct sq_backend {
    const struct sq_backend_ops *ops;
    const struct sq_backend_traits *traits; /* what it was made with */
    struct sq_sizes sizes;
    int n_workers;           /* may be made less, outside of parallel(): the others then get no items */
    bool is_host;            /* its memory is the host's */
    struct sq_beside beside; /* step NULL: nothing. The caller's to set, outside of parallel() */
    bool has_bf16;           /* linear and gram_add take BF16, by instructions made for it */
    bool bf16_is_faster;     /* has_bf16, and they take less time than those of F32 */
    /* what the bits depend on beside the code */
    char libraries[96]; /* "oneDNN 2.6.3 (instructions 0x7), OpenBLAS 0.3.21 Haswell" */
    const char *isa;    /* "avx512", "avx2", "generic" */
    enum sq_isa held;   /* the CPU's instruction set that has the same bits when it is asked for; SQ_ISA_BEST: there is
                           none, the libraries use more */
};

/* What the host has at `host`, as the backend sees it: itself where memory is the host's, else a copy in `room`, which
 * is in the backend's memory. */
enum sq_status sq_backend_view(struct sq_backend *backend, const void *host, size_t bytes, void *room,
                               const void **view_p) SQ_MUST_CHECK;

/* Where the host writes what goes to `memory` of the backend (by upload, from there): memory itself, or `room`. */
static inline void *sq_backend_draft(const struct sq_backend *backend, void *memory, void *room)
{
    return backend->is_host ? memory : room;
}

/* Makes the CPU backend with n_threads workers (0: as many as this process may run on) for this instruction set, which
 * the processor must have (SQ_ISA_BEST: the best that it has). Owned by the caller, destroyed with
 * backend->ops->destroy(backend). Local. */
enum sq_status sq_backend_create_cpu(int n_threads, enum sq_isa isa, struct sq_backend **backend_p) SQ_MUST_CHECK;

#endif
