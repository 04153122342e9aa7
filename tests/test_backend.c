/* The contract of a backend: products, tiles of the factorization and execution, each against a plain double-precision
 * loop. */
#include "backend_fixture.h"

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
        check_linear(300, 1100, 2, type, true); /* on the stand-in for CUDA two pieces each way */
        check_linear(3, 100000, 1, type, true); /* only columns in pieces */
        check_linear(1, 262272, 1, type, true); /* a row is more than a piece */
    }
}

static void check_matmul(enum sq_status (*matmul)(struct sq_backend *, struct sq_matrix, struct sq_matrix, bool,
                                                  struct sq_matrix),
                         int64_t m, int64_t k, int64_t n, bool accumulate)
{
    struct sq_matrix a = make(SQ_F32, m, k, 1), b = make(SQ_F32, k, n, 2), c = make(SQ_F32, m, n, 3);
    struct sq_matrix before = make(SQ_F32, m, n, 3);
    struct sq_matrix out = give(c);
    assert_int_equal(matmul(backend, give(a), give(b), accumulate, out), SQ_OK);
    take(out, c);
    free_given();
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = accumulate ? at(before, i, j) : 0, magnitude = fabs(sum);
            for (int64_t l = 0; l < k; l++) {
                sum += at(a, i, l) * at(b, l, j);
                magnitude += fabs(at(a, i, l) * at(b, l, j));
            }
            check_near(c, i, j, sum, magnitude, (double)k + 2);
        }
    free(a.data);
    free(b.data);
    free(c.data);
    free(before.data);
}

static void test_matmul(void **state)
{
    (void)state;
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        check_matmul(ops->matmul, 32, 70, 45, accumulate);
        check_matmul(ops->matmul_split, 1, 1, 1, accumulate);
        check_matmul(ops->matmul_split, 3, 5, 64, accumulate);
        check_matmul(ops->matmul_split, 192, 33, 45, accumulate);
        check_matmul(ops->matmul_split, 256, 700, 64, accumulate);  /* on the stand-in for CUDA two pieces */
        check_matmul(ops->matmul_split, 2000, 1500, 1, accumulate); /* on a device two pieces */
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
            for (int64_t row = 0; row < part.rows; row += 26) {
                int64_t rows = part.rows - row < 26 ? part.rows - row : 26;
                assert_int_equal(ops->gram_pack(backend, given_x, row, rows, packed), SQ_OK);
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
        cmocka_unit_test(test_mirror),
        cmocka_unit_test(test_potrf_and_trsm),
        cmocka_unit_test(test_update),
        cmocka_unit_test(test_parallel_does_each_item_once_and_keeps_the_worst),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
