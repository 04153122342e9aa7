/* The model's steps on the CPU, over the kernels of the processor at hand; attention is in cpu_attention.c.
 * BF16 rows are widened into a small buffer, worked on as floats, and rounded once when they are stored. */
#include <math.h>
#include <string.h>

#include "tensor/cpu_private.h"
#include "tensor/kernels/forward.h"

#define CHUNK 512 /* floats of the buffer; stays in the first-level cache */

static const struct sq_forward_kernels *kernels_of(struct sq_backend *backend)
{
    return ((struct sq_cpu *)backend)->forward;
}

static void *element(struct sq_matrix m, int64_t row, int64_t col)
{
    return (char *)m.data + (size_t)(row * m.stride + col) * sq_dtype_size(m.dtype);
}

static int64_t chunk_at(int64_t col, int64_t cols)
{
    return cols - col < CHUNK ? cols - col : CHUNK;
}

/* Elements [col, col + n) of a row as floats: where they are, or widened into buffer. */
static const float *load(const struct sq_forward_kernels *kernels, struct sq_matrix m, int64_t row, int64_t col,
                         int64_t n, float *buffer)
{
    if (m.dtype == SQ_F32) return element(m, row, col);
    kernels->widen(element(m, row, col), n, buffer);
    return buffer;
}

/* Where to compute elements of a row as floats, and, after that, their way into the row. */
static float *target(struct sq_matrix m, int64_t row, int64_t col, float *buffer)
{
    return m.dtype == SQ_F32 ? element(m, row, col) : buffer;
}

static void store(const struct sq_forward_kernels *kernels, const float *values, int64_t n, struct sq_matrix m,
                  int64_t row, int64_t col)
{
    if (m.dtype == SQ_BF16) kernels->narrow(values, n, element(m, row, col));
}

static float row_mean(const struct sq_forward_kernels *kernels, struct sq_matrix x, int64_t row)
{
    float buffer[CHUNK], total = 0.0f;
    for (int64_t col = 0, n; col < x.cols; col += n) {
        n = chunk_at(col, x.cols);
        total += kernels->sum(load(kernels, x, row, col, n, buffer), n);
    }
    return total / (float)x.cols;
}

static float row_mean_square(const struct sq_forward_kernels *kernels, struct sq_matrix x, int64_t row, float shift)
{
    float buffer[CHUNK], total = 0.0f;
    for (int64_t col = 0, n; col < x.cols; col += n) {
        n = chunk_at(col, x.cols);
        total += kernels->sum_squares(load(kernels, x, row, col, n, buffer), n, shift);
    }
    return total / (float)x.cols;
}

enum sq_status sq_cpu_take_rows(struct sq_backend *backend, struct sq_matrix table, int64_t first, const int32_t *ids,
                                struct sq_matrix out)
{
    (void)backend;
    for (int64_t i = 0; i < out.rows; i++)
        if (ids[i] >= first && ids[i] < first + table.rows)
            memcpy(element(out, i, 0), element(table, ids[i] - first, 0), (size_t)out.cols * sizeof(float));
    return SQ_OK;
}

enum sq_status sq_cpu_norm(struct sq_backend *backend, enum sq_norm_kind kind, struct sq_matrix x, const float *weight,
                           const float *bias, float epsilon, struct sq_matrix y)
{
    const struct sq_forward_kernels *kernels = kernels_of(backend);
    float in[CHUNK], out[CHUNK];
    for (int64_t row = 0; row < x.rows; row++) {
        float mean = kind == SQ_NORM_LAYER ? row_mean(kernels, x, row) : 0.0f;
        float factor = 1.0f / sqrtf(row_mean_square(kernels, x, row, mean) + epsilon);
        for (int64_t col = 0, n; col < x.cols; col += n) {
            n = chunk_at(col, x.cols);
            float *values = target(y, row, col, out);
            kernels->normalize(load(kernels, x, row, col, n, in), n, mean, factor, weight + col,
                               bias ? bias + col : NULL, values);
            store(kernels, values, n, y, row, col);
        }
    }
    return SQ_OK;
}

enum sq_status sq_cpu_rope(struct sq_backend *backend, enum sq_rope_pairs pairs, struct sq_matrix x, int64_t head_dim,
                           int64_t n_frequencies, const float *cosine, const float *sine)
{
    const struct sq_forward_kernels *kernels = kernels_of(backend);
    sq_rotate_fn *const rotations[2][2] = {
        [SQ_ROPE_HALVES] = {kernels->rotate_halves_f32, kernels->rotate_halves_bf16},
        [SQ_ROPE_NEIGHBOURS] = {kernels->rotate_neighbours_f32, kernels->rotate_neighbours_bf16}};
    sq_rotate_fn *rotate = rotations[pairs][x.dtype == SQ_BF16];
    for (int64_t row = 0; row < x.rows; row++)
        rotate(element(x, row, 0), (x.cols + head_dim - 1) / head_dim, head_dim, n_frequencies,
               cosine + row * n_frequencies, sine + row * n_frequencies);
    return SQ_OK;
}

static sq_activation_fn *activation_of(const struct sq_forward_kernels *kernels, enum sq_activation kind)
{
    switch (kind) {
    case SQ_ACT_RELU:
        return kernels->relu;
    case SQ_ACT_GELU:
        return kernels->gelu;
    case SQ_ACT_GELU_TANH:
        return kernels->gelu_tanh;
    case SQ_ACT_CLAMPED:
        return kernels->clamped;
    case SQ_ACT_SILU:
        break;
    }
    return kernels->silu;
}

enum sq_status sq_cpu_activate(struct sq_backend *backend, enum sq_activation kind, struct sq_matrix x,
                               struct sq_matrix gate, struct sq_matrix y)
{
    const struct sq_forward_kernels *kernels = kernels_of(backend);
    sq_activation_fn *activation = activation_of(kernels, kind);
    void (*multiply)(const float *, int64_t, float *) =
        kind == SQ_ACT_CLAMPED ? kernels->multiply_clamped : kernels->multiply;
    float in[CHUNK], out[CHUNK];
    for (int64_t row = 0; row < x.rows; row++) {
        for (int64_t col = 0, n; col < x.cols; col += n) {
            n = chunk_at(col, x.cols);
            /* through the buffer even for F32: y may also be gate */
            activation(load(kernels, x, row, col, n, in), n, out);
            if (gate.data) multiply(load(kernels, gate, row, col, n, in), n, out);
            if (y.dtype == SQ_F32) memcpy(element(y, row, col), out, (size_t)n * sizeof *out);
            store(kernels, out, n, y, row, col);
        }
    }
    return SQ_OK;
}

enum sq_status sq_cpu_add(struct sq_backend *backend, struct sq_matrix x, struct sq_matrix y)
{
    const struct sq_forward_kernels *kernels = kernels_of(backend);
    float in[CHUNK];
    for (int64_t row = 0; row < x.rows; row++) {
        for (int64_t col = 0, n; col < x.cols; col += n) {
            n = chunk_at(col, x.cols);
            kernels->add(load(kernels, x, row, col, n, in), n, element(y, row, col));
        }
    }
    return SQ_OK;
}

enum sq_status sq_cpu_rescale(struct sq_backend *backend, float scale, float cap, struct sq_matrix z)
{
    const struct sq_forward_kernels *kernels = kernels_of(backend);
    for (int64_t row = 0; row < z.rows; row++) {
        if (cap > 0)
            kernels->cap(scale, cap, z.cols, element(z, row, 0));
        else
            kernels->scale(scale, z.cols, element(z, row, 0));
    }
    return SQ_OK;
}

enum sq_status sq_cpu_convert(struct sq_backend *backend, struct sq_matrix x, struct sq_matrix y)
{
    const struct sq_forward_kernels *kernels = kernels_of(backend);
    for (int64_t row = 0; row < x.rows; row++) {
        void *to = element(y, row, 0);
        const void *from = element(x, row, 0);
        if (x.dtype == y.dtype)
            memcpy(to, from, (size_t)x.cols * sq_dtype_size(x.dtype));
        else if (x.dtype == SQ_F32)
            kernels->narrow(from, x.cols, to);
        else
            kernels->widen(from, x.cols, to);
    }
    return SQ_OK;
}

enum sq_status sq_cpu_copy_parts(struct sq_backend *backend, int64_t count, int64_t width, struct sq_matrix x,
                                 int64_t x_step, struct sq_matrix y, int64_t y_step)
{
    (void)backend;
    for (int64_t row = 0; row < x.rows; row++)
        for (int64_t head = 0; head < count; head++)
            memcpy(element(y, row, head * y_step), element(x, row, head * x_step),
                   (size_t)width * sq_dtype_size(x.dtype));
    return SQ_OK;
}

enum sq_status sq_cpu_all_finite(struct sq_backend *backend, struct sq_matrix x, bool *finite_p)
{
    const struct sq_forward_kernels *kernels = kernels_of(backend);
    bool finite = true;
    for (int64_t row = 0; row < x.rows && finite; row++) {
        const void *values = element(x, row, 0);
        finite = x.dtype == SQ_F32 ? kernels->finite_f32(values, x.cols) : kernels->finite_bf16(values, x.cols);
    }
    *finite_p = finite;
    return SQ_OK;
}

/* Moves the state to a larger maximum, if the row has one. */
static void raise_max(const struct sq_forward_kernels *kernels, const float *z, int64_t n, int64_t first,
                      struct sq_softmax *state)
{
    float top = kernels->max(z, n);
    if (!(top > state->max)) return;
    double factor = exp((double)state->max - (double)top);
    state->sum *= factor;
    state->cross *= factor;
    state->max = top;
    int64_t i = 0;
    while (z[i] != top)
        i++;
    state->argmax = (int32_t)(first + i);
}

enum sq_status sq_cpu_softmax_fold(struct sq_backend *backend, struct sq_matrix z, struct sq_matrix other,
                                   int64_t first, struct sq_softmax *state)
{
    const struct sq_forward_kernels *kernels = kernels_of(backend);
    for (int64_t row = 0; row < z.rows; row++, state++) {
        raise_max(kernels, element(z, row, 0), z.cols, first, state);
        for (int64_t col = 0, n; col < z.cols; col += n) {
            n = chunk_at(col, z.cols); /* sums of a chunk in f32, of chunks in f64 */
            const float *values = element(z, row, col);
            float cross = 0.0f;
            state->sum +=
                (double)(other.data ? kernels->exp_cross(values, element(other, row, col), n, state->max, &cross)
                                    : kernels->exp_only(values, n, state->max));
            state->cross += (double)cross;
        }
    }
    return SQ_OK;
}

enum sq_status sq_cpu_pick(struct sq_backend *backend, struct sq_matrix z, int64_t first, const int32_t *ids,
                           float *out)
{
    (void)backend;
    for (int64_t i = 0; i < z.rows; i++)
        if (ids[i] >= first && ids[i] < first + z.cols) out[i] = *(const float *)element(z, i, ids[i] - first);
    return SQ_OK;
}
