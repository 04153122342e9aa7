/* The contract of a backend: every operation against a plain double-precision loop. Tolerances: f32 sums of n terms are
 * good to n * 2^-24 of the sum of magnitudes; bf16 results to one rounding, 2^-8. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backends.h"

static struct sq_backend *backend;
static const struct sq_backend_ops *ops;

static int set_up(void **state)
{
    (void)state;
    if (backend_create(2, &backend) != SQ_OK) return -1;
    ops = backend->ops;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    ops->destroy(backend);
    return 0;
}

/* --- matrices with known values -------------------------------------------------------------------------------------
 */

/* What the backend has been given in the test at hand. */
static void *given[32];
static int n_given;

static void *give_array(const void *host, size_t bytes)
{
    return given[n_given++] = backend_give(backend, host, bytes);
}

static size_t bytes_of(struct sq_matrix m)
{
    return (size_t)(((m.rows - 1) * m.stride + m.cols) * (int64_t)sq_dtype_size(m.dtype));
}

/* The same matrix in the backend's memory; a matrix without data stays so. */
static struct sq_matrix give(struct sq_matrix m)
{
    if (m.data) m.data = give_array(m.data, bytes_of(m));
    return m;
}

/* A result: from the backend's memory into the host's. */
static void take(struct sq_matrix from, struct sq_matrix to)
{
    backend_take(backend, from.data, bytes_of(to), to.data);
}

static void free_given(void)
{
    while (n_given > 0)
        backend_free(backend, given[--n_given]);
}

/* A seeded matrix inside a wider buffer, so that strides matter. */
static struct sq_matrix make(enum sq_dtype dtype, int64_t rows, int64_t cols, uint32_t seed)
{
    int64_t stride = cols + 3;
    char *data = calloc((size_t)(rows * stride + 1), 8);
    for (int64_t i = 0; i < rows * stride; i++) {
        uint32_t hash = (uint32_t)(i + 1) * 2654435761u ^ seed * 40503u;
        hash ^= hash >> 13;
        hash *= 1274126177u;
        float value = (float)(hash >> 8) / 8388608.0f - 1;
        if (dtype == SQ_F32 || dtype == SQ_BF16)
            sq_dtype_from_f32(&value, 1, dtype, data + (size_t)i * sq_dtype_size(dtype));
    }
    return (struct sq_matrix){data, dtype, rows, cols, stride};
}

static double at(struct sq_matrix m, int64_t i, int64_t j)
{
    float value;
    sq_dtype_to_f32(m.dtype, sq_matrix_part(m, i, 1, j, 1).data, 1, &value);
    return (double)value;
}

static void check_near(struct sq_matrix m, int64_t i, int64_t j, double expected, double magnitude, double terms)
{
    double unit = m.dtype == SQ_BF16 ? 0x1p-8 : 0;
    double bound = magnitude * terms * 0x1p-23 + fabs(expected) * unit + 1e-7;
    if (!(fabs(at(m, i, j) - expected) <= bound))
        fail_msg("entry (%d, %d) is %.9g, expected %.9g within %.2g", (int)i, (int)j, at(m, i, j), expected, bound);
}

/* The type combinations of a product that this machine has. */
static int n_types(void)
{
    return backend->has_bf16 ? 3 : 1;
}
static const enum sq_dtype in_types[] = {SQ_F32, SQ_BF16, SQ_BF16};
static const enum sq_dtype out_types[] = {SQ_F32, SQ_F32, SQ_BF16};

/* --- products ----------------------------------------------------------------------------------------------------- */

static void check_linear(int64_t m, int64_t n, int64_t k, int type, bool has_bias)
{
    struct sq_matrix x = make(in_types[type], m, k, 1), w = make(in_types[type], n, k, 2);
    struct sq_matrix bias = make(SQ_F32, 1, n, 3), y = make(out_types[type], m, n, 4);
    struct sq_matrix out = give(y);
    assert_int_equal(ops->linear(backend, give(x), give(w), has_bias ? give(bias).data : NULL, out), SQ_OK);
    take(out, y);
    free_given();
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = has_bias ? at(bias, 0, j) : 0, magnitude = 1;
            for (int64_t l = 0; l < k; l++) {
                sum += at(x, i, l) * at(w, j, l);
                magnitude += fabs(at(x, i, l) * at(w, j, l));
            }
            check_near(y, i, j, sum, magnitude, (double)k);
        }
    free(x.data);
    free(w.data);
    free(bias.data);
    free(y.data);
}

static void test_linear(void **state)
{
    (void)state;
    for (int type = 0; type < n_types(); type++) {
        check_linear(1, 1, 1, type, false);
        check_linear(5, 7, 3, type, true);
        check_linear(33, 65, 130, type, true);
        check_linear(64, 17, 96, type, false);
    }
}

static void test_matmul(void **state)
{
    (void)state;
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        struct sq_matrix a = make(SQ_F32, 32, 70, 1), b = make(SQ_F32, 70, 45, 2), c = make(SQ_F32, 32, 45, 3);
        struct sq_matrix before = make(SQ_F32, 32, 45, 3);
        struct sq_matrix out = give(c);
        assert_int_equal(ops->matmul(backend, give(a), give(b), accumulate, out), SQ_OK);
        take(out, c);
        free_given();
        for (int64_t i = 0; i < 32; i++)
            for (int64_t j = 0; j < 45; j++) {
                double sum = accumulate ? at(before, i, j) : 0;
                for (int64_t l = 0; l < 70; l++)
                    sum += at(a, i, l) * at(b, l, j);
                check_near(c, i, j, sum, 70, 70);
            }
        free(a.data);
        free(b.data);
        free(c.data);
        free(before.data);
    }
}

/* Rows [row, row + rows) of x'x; scales differ from column to column, and the sums are not empty before. */
static void check_gram_rows(struct sq_matrix x, struct sq_matrix given_x, const float *packed, int64_t row,
                            int64_t rows)
{
    struct sq_matrix sums = make(SQ_I64, rows, row + rows, 3);
    float *scale = malloc((size_t)x.cols * sizeof *scale);
    for (int64_t j = 0; j < x.cols; j++)
        scale[j] = ldexpf(1, 16 + (int)(j % 5));
    for (int64_t i = 0; i < rows * sums.stride; i++)
        ((int64_t *)sums.data)[i] = 1000 * i;
    struct sq_matrix out = give(sums);
    assert_int_equal(
        ops->gram_add(backend, given_x, packed, row, give_array(scale, (size_t)x.cols * sizeof *scale), out), SQ_OK);
    take(out, sums);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j <= row + i; j++) {
            double sum = 0, steps = (double)scale[row + i] * (double)scale[j];
            for (int64_t t = 0; t < x.rows; t++)
                sum += at(x, t, row + i) * at(x, t, j);
            double got = (double)(((int64_t *)sums.data)[i * sums.stride + j] - 1000 * (i * sums.stride + j));
            assert_true(fabs(got - sum * steps) <= 1 + (double)(x.rows * x.rows) * 0x1p-24 * steps);
        }
    for (int64_t i = 0; i + 1 < rows; i++) /* between the rows of sums */
        assert_int_equal(((int64_t *)sums.data)[i * sums.stride + row + rows], 1000 * (i * sums.stride + row + rows));
    free(scale);
    free(sums.data);
}

/* Odd counts of rows, less than a vector of columns, one more than whole tiles, panels that end in the middle. */
static void test_gram(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = {{90, 60}, {0, 20}, {1, 5}, {91, 49}, {257, 16}, {64, 130}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int type = 0; type < (backend->has_bf16 ? 2 : 1); type++) {
            struct sq_matrix x = make(in_types[type], shapes[s][0] + 1, shapes[s][1], 1);
            struct sq_matrix part = sq_matrix_part(x, 0, shapes[s][0], 0, x.cols), all = give(x);
            struct sq_matrix given_x = sq_matrix_part(all, 0, part.rows, 0, x.cols);
            size_t bytes = (size_t)sq_gram_elements(x.rows, x.cols) * sizeof(float);
            float *room = malloc(bytes), *packed;
            memset(room, 0xff, bytes);
            packed = give_array(room, bytes);
            for (int64_t col = 0; col < x.cols; col += 3 * SQ_GRAM_COLUMNS) {
                int64_t cols = x.cols - col < 3 * SQ_GRAM_COLUMNS ? x.cols - col : 3 * SQ_GRAM_COLUMNS;
                assert_int_equal(ops->gram_pack(backend, given_x, col, cols, packed), SQ_OK);
            }
            for (int64_t row = 0; row < x.cols; row += 2 * SQ_GRAM_COLUMNS)
                check_gram_rows(part, given_x, packed, row,
                                x.cols - row < 2 * SQ_GRAM_COLUMNS ? x.cols - row : 2 * SQ_GRAM_COLUMNS);
            free_given();
            free(room);
            free(x.data);
        }
}

static void test_leaving_fixed_point(void **state)
{
    (void)state;
    enum { M = 9, N = 13 };
    struct sq_matrix sums = make(SQ_I64, M, N, 3), back = make(SQ_F32, M, N, 2);
    double row[M], col[N];
    for (int i = 0; i < M; i++)
        row[i] = ldexp(1, -20 - i);
    for (int j = 0; j < N; j++)
        col[j] = 2.0 / 3 * ldexp(1, j - 20);
    for (int64_t i = 0; i < M * sums.stride; i++)
        ((int64_t *)sums.data)[i] = (i % 2 ? -1 : 1) * (((int64_t)1 << 60) / (i + 1));
    struct sq_matrix out = give(back);
    assert_int_equal(ops->fixed_get(backend, give(sums), give_array(row, sizeof row), give_array(col, sizeof col), out),
                     SQ_OK);
    take(out, back);
    free_given();
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            double exact = (double)((int64_t *)sums.data)[i * sums.stride + j] * row[i] * col[j];
            assert_true(fabs(at(back, i, j) - exact) <= 0x1p-23 * fabs(exact));
        }
    free(sums.data);
    free(back.data);
}

static void test_column_squares(void **state)
{
    (void)state;
    for (int type = 0; type < 2; type++) {
        struct sq_matrix x = make(in_types[type], 21, 33, 5);
        double squares[33];
        assert_int_equal(ops->column_squares(backend, give(x), squares), SQ_OK);
        free_given();
        for (int64_t j = 0; j < 33; j++) {
            double sum = 0;
            for (int64_t i = 0; i < 21; i++)
                sum += at(x, i, j) * at(x, i, j);
            assert_true(fabs(squares[j] - sum) <= 1e-6 * sum);
        }
        free(x.data);
    }
}

static void test_mirror(void **state)
{
    (void)state;
    struct sq_matrix m = make(SQ_F32, 40, 40, 6), before = make(SQ_F32, 40, 40, 6);
    struct sq_matrix out = give(m);
    assert_int_equal(ops->mirror(backend, out, 17, 9), SQ_OK);
    take(out, m);
    free_given();
    for (int64_t i = 0; i < 40; i++)
        for (int64_t j = 0; j < 40; j++) {
            bool mirrored = j > i && j >= 17 && j < 26;
            assert_true(at(m, i, j) == (mirrored ? at(before, j, i) : at(before, i, j)));
        }
    free(m.data);
    free(before.data);
}

/* --- tiles of the factorization ----------------------------------------------------------------------------------- */

static void test_potrf_and_trsm(void **state)
{
    (void)state;
    enum { N = 50, M = 7 };
    struct sq_matrix g = make(SQ_F32, N, N, 1), a = make(SQ_F32, N, N, 2), b = make(SQ_F32, M, N, 3);
    struct sq_matrix kept = make(SQ_F32, M, N, 3);
    double exact[N][N];
    for (int64_t i = 0; i < N; i++)
        for (int64_t j = 0; j < N; j++) {
            exact[i][j] = i == j ? N : 0;
            for (int64_t l = 0; l < N; l++)
                exact[i][j] += at(g, i, l) * at(g, j, l);
            ((float *)a.data)[i * a.stride + j] = (float)exact[i][j];
        }
    struct sq_matrix factor = give(a), solved = give(b);
    assert_int_equal(ops->potrf(backend, factor), SQ_OK);
    take(factor, a);
    for (int64_t i = 0; i < N; i++)
        for (int64_t j = 0; j < N; j++) {
            double sum = 0;
            for (int64_t l = 0; l < N; l++)
                sum += at(a, i, l) * at(a, j, l);
            if (j > i) assert_true(at(a, i, j) == 0);
            assert_true(fabs(sum - exact[i][j]) < 1e-4 * N);
        }
    assert_int_equal(ops->trsm(backend, factor, solved), SQ_OK); /* b L' gives back what it was */
    take(solved, b);
    for (int64_t i = 0; i < M; i++)
        for (int64_t j = 0; j < N; j++) {
            double sum = 0;
            for (int64_t l = 0; l <= j; l++)
                sum += at(b, i, l) * at(a, j, l);
            assert_true(fabs(sum - at(kept, i, j)) < 1e-4);
        }
    ((float *)a.data)[0] = -1;
    assert_int_equal(ops->potrf(backend, give(a)), SQ_ERR_NUMERIC);
    free_given();
    free(g.data);
    free(a.data);
    free(b.data);
    free(kept.data);
}

static void test_update(void **state)
{
    (void)state;
    struct sq_matrix a = make(SQ_F32, 20, 30, 1), b = make(SQ_F32, 25, 30, 2), c = make(SQ_F32, 20, 25, 3);
    struct sq_matrix before = make(SQ_F32, 20, 25, 3);
    struct sq_matrix out = give(c);
    assert_int_equal(ops->update(backend, give(a), give(b), out), SQ_OK);
    take(out, c);
    free_given();
    for (int64_t i = 0; i < 20; i++)
        for (int64_t j = 0; j < 25; j++) {
            double sum = at(before, i, j);
            for (int64_t l = 0; l < 30; l++)
                sum -= at(a, i, l) * at(b, j, l);
            check_near(c, i, j, sum, 30, 30);
        }
    free(a.data);
    free(b.data);
    free(c.data);
    free(before.data);
}

/* --- rows and columns by number ----------------------------------------------------------------------------------- */

static const int32_t some_ids[6] = {7, 12, 3, 10, 4, 11};

static void test_take_rows(void **state)
{
    (void)state;
    struct sq_matrix table = make(SQ_F32, 5, 19, 1), out = make(SQ_F32, 6, 19, 2), before = make(SQ_F32, 6, 19, 2);
    struct sq_matrix taken_rows = give(out);
    const int32_t *ids = give_array(some_ids, sizeof some_ids);
    assert_int_equal(ops->take_rows(backend, give(table), 7, ids, taken_rows), SQ_OK);
    take(taken_rows, out);
    free_given();
    for (int64_t i = 0; i < 6; i++)
        for (int64_t j = 0; j < 19; j++) {
            bool taken = some_ids[i] >= 7 && some_ids[i] < 12;
            assert_true(at(out, i, j) == (taken ? at(table, some_ids[i] - 7, j) : at(before, i, j)));
        }
    free(table.data);
    free(out.data);
    free(before.data);
}

static void test_pick(void **state)
{
    (void)state;
    struct sq_matrix z = make(SQ_F32, 6, 5, 1);
    float out[6] = {-3, -3, -3, -3, -3, -3};
    float *picked = give_array(out, sizeof out);
    const int32_t *ids = give_array(some_ids, sizeof some_ids);
    assert_int_equal(ops->pick(backend, give(z), 7, ids, picked), SQ_OK);
    backend_take(backend, picked, sizeof out, out);
    free_given();
    for (int64_t i = 0; i < 6; i++) {
        bool there = some_ids[i] >= 7 && some_ids[i] < 12;
        assert_true((double)out[i] == (there ? at(z, i, some_ids[i] - 7) : -3));
    }
    free(z.data);
}

/* --- the model's steps -------------------------------------------------------------------------------------------- */

static void check_norm(enum sq_norm_kind kind, enum sq_dtype in, enum sq_dtype out, bool has_bias)
{
    enum { M = 4, N = 77 };
    const double epsilon = 1e-5;
    struct sq_matrix x = make(in, M, N, 1), weight = make(SQ_F32, 1, N, 2), bias = make(SQ_F32, 1, N, 3);
    struct sq_matrix y = make(out, M, N, 4);
    struct sq_matrix result = give(y);
    assert_int_equal(
        ops->norm(backend, kind, give(x), give(weight).data, has_bias ? give(bias).data : NULL, (float)epsilon, result),
        SQ_OK);
    take(result, y);
    free_given();
    for (int64_t i = 0; i < M; i++) {
        double mean = 0, square = 0;
        for (int64_t j = 0; j < N; j++)
            mean += kind == SQ_NORM_LAYER ? at(x, i, j) / N : 0;
        for (int64_t j = 0; j < N; j++)
            square += (at(x, i, j) - mean) * (at(x, i, j) - mean) / N;
        for (int64_t j = 0; j < N; j++) {
            double value = (at(x, i, j) - mean) / sqrt(square + epsilon) * at(weight, 0, j);
            check_near(y, i, j, value + (has_bias ? at(bias, 0, j) : 0), 4, 16);
        }
    }
    free(x.data);
    free(weight.data);
    free(bias.data);
    free(y.data);
}

static void test_norm(void **state)
{
    (void)state;
    check_norm(SQ_NORM_RMS, SQ_F32, SQ_F32, false);
    check_norm(SQ_NORM_RMS, SQ_F32, SQ_BF16, false);
    check_norm(SQ_NORM_RMS, SQ_BF16, SQ_BF16, false);
    check_norm(SQ_NORM_LAYER, SQ_F32, SQ_F32, true);
    check_norm(SQ_NORM_LAYER, SQ_F32, SQ_BF16, true);
}

static void check_rope(enum sq_rope_pairs pairs)
{
    enum { LENGTH = 6, HEAD = 10, PAIRS = 4 };
    int64_t apart = pairs == SQ_ROPE_HALVES ? PAIRS : 1;
    for (int type = 0; type < 2; type++) {
        struct sq_matrix x = make(in_types[type], LENGTH, 3 * HEAD, 1),
                         before = make(in_types[type], LENGTH, 3 * HEAD, 1);
        float cosine[LENGTH * PAIRS], sine[LENGTH * PAIRS];
        for (int i = 0; i < LENGTH * PAIRS; i++) {
            cosine[i] = cosf((float)i);
            sine[i] = sinf((float)i);
        }
        struct sq_matrix turned = give(x);
        const float *c = give_array(cosine, sizeof cosine), *s = give_array(sine, sizeof sine);
        assert_int_equal(ops->rope(backend, pairs, turned, HEAD, PAIRS, c, s), SQ_OK);
        take(turned, x);
        free_given();
        for (int64_t t = 0; t < LENGTH; t++)
            for (int64_t j = 0; j < 3 * HEAD; j++) {
                int64_t d = j % HEAD, pair = pairs == SQ_ROPE_HALVES ? d % PAIRS : d / 2 % PAIRS;
                bool is_second = pairs == SQ_ROPE_HALVES ? d >= PAIRS : d % 2;
                double expected = at(before, t, j);
                double cos_t = (double)cosine[t * PAIRS + pair], sin_t = (double)sine[t * PAIRS + pair];
                if (d < 2 * PAIRS)
                    expected = is_second ? expected * cos_t + at(before, t, j - apart) * sin_t
                                         : expected * cos_t - at(before, t, j + apart) * sin_t;
                check_near(x, t, j, expected, 2, 4);
            }
        free(x.data);
        free(before.data);
    }
}

static void test_rope(void **state)
{
    (void)state;
    check_rope(SQ_ROPE_HALVES);
    check_rope(SQ_ROPE_NEIGHBOURS);
}

static double plain_attention(const struct sq_attention *shape, struct sq_matrix q, struct sq_matrix k,
                              struct sq_matrix v, int64_t t, int64_t column)
{
    int64_t head = column / shape->head_dim, kv = head / (shape->n_heads / shape->n_kv_heads);
    int64_t first = shape->window && t - shape->window + 1 > 0 ? t - shape->window + 1 : 0;
    double sum = 0, value = 0;
    for (int64_t u = first; u <= t; u++) {
        double score = 0;
        for (int64_t d = 0; d < shape->head_dim; d++)
            score += at(q, t, head * shape->head_dim + d) * at(k, u, kv * shape->head_dim + d);
        score *= (double)shape->scale;
        if (shape->cap > 0) score = (double)shape->cap * tanh(score / (double)shape->cap);
        if (shape->slopes) score += (double)shape->slopes[head] * (double)(u - t);
        double weight = exp(score);
        sum += weight;
        value += weight * at(v, u, kv * shape->head_dim + column % shape->head_dim);
    }
    return value / sum;
}

/* The shapes that are checked: what may be done to scores, alone and together. */
static const float slopes[] = {0.5f, 0.25f, 0.02f, 0.0f};
static const struct sq_attention shapes[] = {
    {.n_heads = 4, .n_kv_heads = 2, .head_dim = 10, .scale = 0.7f},
    {.n_heads = 4, .n_kv_heads = 2, .head_dim = 10, .scale = 0.7f, .cap = 0.8f},
    {.n_heads = 4, .n_kv_heads = 2, .head_dim = 10, .scale = 0.7f, .slopes = slopes},
    {.n_heads = 4, .n_kv_heads = 2, .head_dim = 10, .scale = 1.3f, .cap = 1.1f, .slopes = slopes},
};

static void check_attention(struct sq_attention shape, enum sq_dtype dtype, int64_t length, int64_t window)
{
    shape.window = window;
    struct sq_matrix q = make(dtype, length, 40, 1), k = make(dtype, length, 20, 2), v = make(dtype, length, 20, 3);
    struct sq_matrix out = make(dtype, length, 40, 4);
    struct sq_matrix result = give(out);
    struct sq_attention asked = shape;
    if (shape.slopes) asked.slopes = give_array(slopes, sizeof slopes);
    void *scratch;
    assert_int_equal(ops->alloc(backend, "scratch", ops->attention_scratch(backend, &shape, length), &scratch), SQ_OK);
    assert_int_equal(ops->attention(backend, &asked, give(q), give(k), give(v), scratch, result), SQ_OK);
    take(result, out);
    backend_free(backend, scratch);
    free_given();
    for (int64_t t = 0; t < length; t++)
        for (int64_t j = 0; j < 40; j++) {
            double expected = plain_attention(&shape, q, k, v, t, j);
            /* bf16: the weights of the mean may be rounded to bf16, too */
            if (dtype == SQ_BF16)
                assert_true(fabs(at(out, t, j) - expected) < 0.02);
            else
                check_near(out, t, j, expected, 4, 64);
        }
    free(q.data);
    free(k.data);
    free(v.data);
    free(out.data);
}

static void test_attention(void **state)
{
    (void)state;
    for (int type = 0; type < (backend->has_bf16 ? 2 : 1); type++) {
        for (int s = 0; s < 4; s++) {
            check_attention(shapes[s], in_types[type], 1, 0);
            check_attention(shapes[s], in_types[type], 37, 0);
            check_attention(shapes[s], in_types[type], 37, 8);
            if (s % 3 == 0) check_attention(shapes[s], in_types[type], 150, 0);
            if (s % 3 == 0) check_attention(shapes[s], in_types[type], 150, 70);
        }
    }
}

static void test_rescale(void **state)
{
    (void)state;
    static const float scales[] = {3.0f, 1.0f, 40.0f}, caps[] = {0.0f, 0.5f, 30.0f};
    for (int i = 0; i < 3; i++) {
        struct sq_matrix z = make(SQ_F32, 5, 71, 1), before = make(SQ_F32, 5, 71, 1);
        struct sq_matrix scaled = give(z);
        assert_int_equal(ops->rescale(backend, scales[i], caps[i], scaled), SQ_OK);
        take(scaled, z);
        free_given();
        for (int64_t t = 0; t < 5; t++)
            for (int64_t j = 0; j < 71; j++) {
                double expected = at(before, t, j) * (double)scales[i], cap = (double)caps[i];
                if (cap > 0) expected = cap * tanh(expected / cap);
                check_near(z, t, j, expected, fabs(expected), 8);
            }
        free(z.data);
        free(before.data);
    }
}

static double plain_activation(enum sq_activation kind, double x)
{
    switch (kind) {
    case SQ_ACT_SILU:
        return x / (1 + exp(-x));
    case SQ_ACT_RELU:
        return x > 0 ? x : 0;
    case SQ_ACT_GELU:
        return x * 0.5 * (1 + erf(x / sqrt(2.0)));
    case SQ_ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    }
    return NAN;
}

static void test_activate(void **state)
{
    (void)state;
    for (int kind = SQ_ACT_SILU; kind <= SQ_ACT_GELU_TANH; kind++)
        for (int type = 0; type < 2; type++)
            for (int gated = 0; gated < 2; gated++) {
                struct sq_matrix x = make(in_types[type], 3, 70, 1), gate = make(in_types[type], 3, 70, 2);
                struct sq_matrix y = make(in_types[type], 3, 70, 3), none = {0};
                for (int64_t j = 0; j < 70; j++) { /* reach the tails, too */
                    float wide = (float)(j - 35) * 3;
                    sq_dtype_from_f32(&wide, 1, x.dtype, sq_matrix_part(x, 1, 1, j, 1).data);
                }
                struct sq_matrix out = give(y);
                assert_int_equal(
                    ops->activate(backend, (enum sq_activation)kind, give(x), give(gated ? gate : none), out), SQ_OK);
                take(out, y);
                free_given();
                for (int64_t i = 0; i < 3; i++)
                    for (int64_t j = 0; j < 70; j++) {
                        double expected = plain_activation((enum sq_activation)kind, at(x, i, j));
                        if (gated) expected *= at(gate, i, j);
                        check_near(y, i, j, expected, fabs(at(x, i, j)), 8);
                    }
                free(x.data);
                free(gate.data);
                free(y.data);
            }
}

static void test_add_and_convert(void **state)
{
    (void)state;
    for (int type = 0; type < 2; type++) {
        struct sq_matrix x = make(in_types[type], 5, 37, 1), y = make(SQ_F32, 5, 37, 2),
                         before = make(SQ_F32, 5, 37, 2);
        struct sq_matrix wide = make(SQ_F32, 5, 37, 3), narrow = make(in_types[type], 5, 37, 4);
        struct sq_matrix in = give(x), sum = give(y), widened = give(wide), narrowed = give(narrow);
        assert_int_equal(ops->add(backend, in, sum), SQ_OK);
        assert_int_equal(ops->convert(backend, in, widened), SQ_OK);
        assert_int_equal(ops->convert(backend, widened, narrowed), SQ_OK);
        take(sum, y);
        take(widened, wide);
        take(narrowed, narrow);
        free_given();
        for (int64_t i = 0; i < 5; i++)
            for (int64_t j = 0; j < 37; j++) {
                check_near(y, i, j, at(x, i, j) + at(before, i, j), 2, 1);
                assert_true(at(wide, i, j) == at(x, i, j));
                assert_true(at(narrow, i, j) == at(x, i, j));
            }
        free(x.data);
        free(y.data);
        free(before.data);
        free(wide.data);
        free(narrow.data);
    }
}

static void test_all_finite(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int type = 0; type < 2; type++)
        for (int64_t place = 0; place < 3 * 41; place += 7)
            for (int b = 0; b < 3; b++) {
                struct sq_matrix x = make(in_types[type], 3, 41, 1);
                bool finite = false;
                assert_int_equal(ops->all_finite(backend, give(x), &finite), SQ_OK);
                assert_true(finite);
                sq_dtype_from_f32(&bad[b], 1, x.dtype, sq_matrix_part(x, place / 41, 1, place % 41, 1).data);
                assert_int_equal(ops->all_finite(backend, give(x), &finite), SQ_OK);
                assert_false(finite);
                free_given();
                free(x.data);
            }
}

/* --- execution ---------------------------------------------------------------------------------------------------- */

static enum sq_status count_item(void *context, int64_t index, int worker)
{
    int *counts = context;
    if (worker < 0 || worker >= backend->n_workers) return SQ_ERR_LIBRARY;
    counts[index]++;
    return index == 17 ? SQ_ERR_INPUT : index == 5 ? SQ_STOPPED : SQ_OK;
}

static void test_parallel_does_each_item_once_and_keeps_the_worst(void **state)
{
    (void)state;
    int counts[40] = {0};
    assert_int_equal(ops->parallel(backend, 40, count_item, counts), SQ_ERR_INPUT);
    for (int i = 0; i < 40; i++)
        assert_int_equal(counts[i], 1);
    assert_int_equal(ops->parallel(backend, 0, count_item, counts), SQ_OK);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_matmul),
        cmocka_unit_test(test_gram),
        cmocka_unit_test(test_leaving_fixed_point),
        cmocka_unit_test(test_column_squares),
        cmocka_unit_test(test_potrf_and_trsm),
        cmocka_unit_test(test_update),
        cmocka_unit_test(test_norm),
        cmocka_unit_test(test_rope),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_rescale),
        cmocka_unit_test(test_activate),
        cmocka_unit_test(test_add_and_convert),
        cmocka_unit_test(test_mirror),
        cmocka_unit_test(test_take_rows),
        cmocka_unit_test(test_pick),
        cmocka_unit_test(test_all_finite),
        cmocka_unit_test(test_parallel_does_each_item_once_and_keeps_the_worst),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
