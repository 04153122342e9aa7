/* The model's steps on the CPU where the contract test does not reach: every kernel variant this processor can run,
 * attention over several tiles, softmaxes in pieces. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/cpu_isa.h"
#include "tensor/cpu_private.h"
#include "tensor/kernels/forward.h"

/* --- kernels, each variant ---------------------------------------------------------------------------------------- */

static const struct sq_forward_kernels *variants[5] = {&sq_forward_kernels_generic};
static int n_variants = 1;

static void find_variants(void)
{
#if defined(__x86_64__)
    if (sq_cpu_has(SQ_ISA_AVX2)) variants[n_variants++] = &sq_forward_kernels_avx2;
    if (sq_cpu_has(SQ_ISA_AVX512)) variants[n_variants++] = &sq_forward_kernels_avx512;
    if (sq_cpu_has(SQ_ISA_AVX512BF16)) variants[n_variants++] = &sq_forward_kernels_avx512bf16;
    if (sq_cpu_has(SQ_ISA_AMX)) variants[n_variants++] = &sq_forward_kernels_amx;
#endif
}

#define N 1031 /* no multiple of any vector length */

static void fill(float *x, int n, float low, float high)
{
    for (int i = 0; i < n; i++)
        x[i] = low + (high - low) * (float)((i * 7919) % n) / (float)(n - 1);
}

/* exp of anything down to where it becomes exp(-87); 1.5e-7 from the polynomial, the rest from rounding x to f32 parts.
 */
static void test_exp(void **state)
{
    (void)state;
    for (int v = 0; v < n_variants; v++) {
        float x[N], y[N];
        fill(x, N, -100.0f, 0.0f);
        memcpy(y, x, sizeof x);
        float sum = variants[v]->exp_sum(y, N, 0.9f, 0.0f);
        double total = 0, tolerance = variants[v] == &sq_forward_kernels_generic ? 1e-6 : 4e-7;
        for (int i = 0; i < N; i++) {
            double argument = (double)(0.9f * x[i]), expected = exp(argument < -87 ? -87 : argument);
            assert_true(fabs((double)y[i] - expected) <= (tolerance - 6e-8 * argument) * expected);
            total += (double)y[i];
        }
        assert_true(fabs((double)sum - total) <= 1e-6 * total);
        float nan[3] = {-1.0f, NAN, 0.0f};
        assert_true(isnan(variants[v]->exp_sum(nan, 3, 1.0f, 0.0f)) && isnan(nan[1]));
    }
}

static double plain_activation(int kind, double x)
{
    double u = sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x);
    switch (kind) {
    case 0:
        return x / (1 + exp(-x));
    case 1:
        return x > 0 ? x : 0;
    case 2:
        return x / 2 * (1 + erf(x / sqrt(2.0)));
    default:
        return x / 2 * (1 + tanh(u));
    }
}

static void test_activations(void **state)
{
    (void)state;
    for (int v = 0; v < n_variants; v++) {
        sq_activation_fn *const functions[] = {variants[v]->silu, variants[v]->relu, variants[v]->gelu,
                                               variants[v]->gelu_tanh};
        for (int kind = 0; kind < 4; kind++) {
            float x[N], y[N];
            fill(x, N, -120.0f, 120.0f);
            for (int i = 0; i < N / 2; i++)
                x[i] /= 40.0f;
            functions[kind](x, N, y);
            for (int i = 0; i < N; i++) {
                double expected = plain_activation(kind, (double)x[i]);
                assert_true(fabs((double)y[i] - expected) <= 4e-7 * fmax(1, fabs((double)x[i])));
            }
            float odd[2] = {NAN, INFINITY};
            functions[kind](odd, 2, odd);
            assert_true(isnan(odd[0]) && odd[1] == INFINITY);
        }
    }
}

/* In relative terms: a cap is there to bend large scores and leave small ones alone. */
static void test_cap(void **state)
{
    (void)state;
    for (int v = 0; v < n_variants; v++) {
        float x[N], y[N];
        fill(x, N, -3.0f, 3.0f);
        for (int i = 0; i < N; i++)
            x[i] *= x[i] * x[i] * 5.0f; /* dense around zero, up to 135 */
        memcpy(y, x, sizeof x);
        variants[v]->cap(0.5f, 7.0f, N, y);
        for (int i = 0; i < N; i++) {
            double expected = 7 * tanh(0.5 * (double)x[i] / 7);
            assert_true(fabs((double)y[i] - expected) <= 6e-7 * fabs(expected));
        }
        float odd[3] = {NAN, INFINITY, -INFINITY};
        variants[v]->cap(1.0f, 7.0f, 3, odd);
        assert_true(isnan(odd[0]) && odd[1] == 7.0f && odd[2] == -7.0f);
    }
}

static void test_max_at_every_length(void **state)
{
    (void)state;
    for (int v = 0; v < n_variants; v++) {
        float x[N];
        for (int n = 0; n < 200; n++) {
            assert_true(variants[v]->max(x, 0) == -INFINITY);
            for (int top = 0; top < n; top++) {
                fill(x, n + 1, -5.0f, -1.0f);
                x[top] = -0.5f;
                assert_true(variants[v]->max(x, n) == -0.5f);
            }
        }
    }
}

static void test_finite(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int v = 0; v < n_variants; v++)
        for (int i = 0; i < 70; i++)
            for (int b = 0; b < 3; b++) {
                float x[70];
                uint16_t h[70];
                fill(x, 70, -1e36f, 1e36f);
                variants[v]->narrow(x, 70, h);
                assert_true(variants[v]->finite_f32(x, 70) && variants[v]->finite_bf16(h, 70));
                x[i] = bad[b];
                variants[v]->narrow(x, 70, h);
                assert_false(variants[v]->finite_f32(x, 70));
                assert_false(variants[v]->finite_bf16(h, 70));
            }
}

/* --- attention over several tiles --------------------------------------------------------------------------------- */

static struct sq_backend *backend;

static struct sq_matrix random_matrix(enum sq_dtype dtype, int64_t rows, int64_t cols)
{
    float *values = malloc((size_t)(rows * cols) * sizeof *values);
    void *data = aligned_alloc(64, ((size_t)(rows * cols) * sizeof *values + 63) / 64 * 64);
    for (int64_t i = 0; i < rows * cols; i++)
        values[i] = (float)rand() / (float)RAND_MAX * 4.0f - 2.0f;
    sq_dtype_from_f32(values, rows * cols, dtype, data);
    free(values);
    return sq_matrix_view(data, dtype, rows, cols);
}

static double value_at(struct sq_matrix m, int64_t row, int64_t col)
{
    float value;
    sq_dtype_to_f32(m.dtype, sq_matrix_part(m, row, 1, col, 1).data, 1, &value);
    return (double)value;
}

/* One output row of one head in double. */
static void plain_row(const struct sq_attention *shape, struct sq_matrix q, struct sq_matrix k, struct sq_matrix v,
                      int64_t row, int64_t head, double *out)
{
    int64_t d = shape->head_dim, kv = head / (shape->n_heads / shape->n_kv_heads);
    int64_t first = shape->window && row >= shape->window ? row - shape->window + 1 : 0;
    double total = 0;
    memset(out, 0, (size_t)d * sizeof *out);
    for (int64_t key = first; key <= row; key++) {
        double score = 0;
        for (int64_t i = 0; i < d; i++)
            score += value_at(q, row, head * d + i) * value_at(k, key, kv * d + i);
        score *= (double)shape->scale;
        if (shape->cap > 0) score = (double)shape->cap * tanh(score / (double)shape->cap);
        if (shape->slopes) score += (double)shape->slopes[head] * (double)(key - row);
        double weight = exp(score);
        total += weight;
        for (int64_t i = 0; i < d; i++)
            out[i] += weight * value_at(v, key, kv * d + i);
    }
    for (int64_t i = 0; i < d; i++)
        out[i] /= total;
}

static void check_attention(enum sq_dtype dtype, int64_t length, int64_t window, bool adjusted)
{
    static const float slopes[] = {0.5f, 0.1f, 0.01f, 0.001f};
    struct sq_attention shape = {
        .n_heads = 4, .n_kv_heads = 2, .head_dim = 16, .value_dim = 16, .scale = 0.25f, .window = window};
    if (adjusted) shape.cap = 3.0f;
    if (adjusted) shape.slopes = slopes;
    struct sq_matrix q = random_matrix(dtype, length, 64), k = random_matrix(dtype, length, 32);
    struct sq_matrix v = random_matrix(dtype, length, 32), out = random_matrix(dtype, length, 64);
    size_t bytes = backend->ops->attention_scratch(backend, &shape, length);
    void *scratch = aligned_alloc(64, (bytes + 63) / 64 * 64);
    /* f32: sums of a thousand terms; bf16: the weights and the result are rounded to 2^-9 */
    double tolerance = dtype == SQ_F32 ? 2e-6 : 2e-2, expected[16];
    assert_int_equal(backend->ops->attention(backend, &shape, q, k, v, scratch, out), SQ_OK);
    for (int64_t row = 0; row < length; row += row % 64 < 2 || length < 200 ? 1 : 61)
        for (int64_t head = 0; head < 4; head++) {
            plain_row(&shape, q, k, v, row, head, expected);
            for (int64_t i = 0; i < 16; i++)
                assert_true(fabs(value_at(out, row, head * 16 + i) - expected[i]) <= tolerance);
        }
    void *all[] = {q.data, k.data, v.data, out.data, scratch};
    for (int i = 0; i < 5; i++)
        free(all[i]);
}

static void test_attention_over_tiles(void **state)
{
    (void)state;
    static const int64_t lengths[] = {127, 128, 129, 512, 640, 1100};
    static const int64_t windows[] = {0, 1, 100, 700};
    for (int l = 0; l < 6; l++)
        for (int w = 0; w < 4; w++) {
            check_attention(SQ_F32, lengths[l], windows[w], false);
            check_attention(SQ_F32, lengths[l], windows[w], true);
            if (backend->has_bf16) check_attention(SQ_BF16, lengths[l], windows[w], false);
        }
}

/* --- softmax in pieces -------------------------------------------------------------------------------------------- */

static void test_softmax_in_pieces(void **state)
{
    (void)state;
    enum { ROWS = 3, VOCAB = 1500 };
    struct sq_matrix z = random_matrix(SQ_F32, ROWS, VOCAB), other = random_matrix(SQ_F32, ROWS, VOCAB);
    ((float *)z.data)[VOCAB + 1234] = 30.0f; /* the largest comes late, and far above the rest */
    struct sq_softmax states[ROWS];
    for (int r = 0; r < ROWS; r++)
        states[r] = (struct sq_softmax){.max = -INFINITY, .argmax = -1};
    static const int64_t ends[] = {1, 600, 1499, VOCAB};
    for (int64_t piece = 0, first = 0; piece < 4; first = ends[piece++]) {
        int64_t n = ends[piece] - first;
        assert_int_equal(backend->ops->softmax_fold(backend, sq_matrix_part(z, 0, ROWS, first, n),
                                                    sq_matrix_part(other, 0, ROWS, first, n), first, states),
                         SQ_OK);
    }
    for (int64_t r = 0; r < ROWS; r++) {
        int64_t best = 0;
        double sum = 0, cross = 0;
        for (int64_t i = 0; i < VOCAB; i++)
            if (value_at(z, r, i) > value_at(z, r, best)) best = i;
        for (int64_t i = 0; i < VOCAB; i++) {
            double e = exp(value_at(z, r, i) - value_at(z, r, best));
            sum += e;
            cross += e * (value_at(z, r, i) - value_at(other, r, i));
        }
        assert_int_equal(states[r].argmax, best);
        assert_true((double)states[r].max == value_at(z, r, best));
        assert_true(fabs(states[r].sum - sum) <= 1e-6 * sum);
        assert_true(fabs(states[r].cross - cross) <= 1e-6 * sum * 4); /* differences are up to 4 */
    }
    free(z.data);
    free(other.data);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp),
        cmocka_unit_test(test_activations),
        cmocka_unit_test(test_cap),
        cmocka_unit_test(test_max_at_every_length),
        cmocka_unit_test(test_finite),
        cmocka_unit_test(test_attention_over_tiles),
        cmocka_unit_test(test_softmax_in_pieces),
    };
    find_variants();
    if (sq_backend_create_cpu(1, SQ_ISA_BEST, &backend) != SQ_OK) return 1;
    int n_failed = cmocka_run_group_tests(tests, NULL, NULL);
    backend->ops->destroy(backend);
    return n_failed;
}
