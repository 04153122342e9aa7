/* cuBLAS and cuSOLVER of the stand-in against plain loops in double precision, and the checks of their arguments. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <cublas_v2.h>
#include <cusolverDn.h>

struct dense {
    cudaStream_t stream;
    cublasHandle_t blas;
    cusolverDnHandle_t solver;
};

static int setup(void **state)
{
    struct dense *d = calloc(1, sizeof *d);
    *state = d;
    return cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking) || cublasCreate(&d->blas) ||
           cublasSetStream(d->blas, d->stream) || cusolverDnCreate(&d->solver) ||
           cusolverDnSetStream(d->solver, d->stream);
}

static int teardown(void **state)
{
    struct dense *d = *state;
    int bad = cublasDestroy(d->blas) || cusolverDnDestroy(d->solver) || cudaStreamDestroy(d->stream);
    free(d);
    return bad;
}

/* --- numbers ------------------------------------------------------------------------------------------------------ */

static float random_float(void)
{
    static uint32_t x = 12345;
    x = x * 1664525u + 1013904223u;
    return (float)(x >> 8) / (float)(1 << 23) - 1;
}

/* Cut to what bf16 holds when type says so, so that the same numbers serve both types. */
static float *random_floats(size_t count, cudaDataType type)
{
    float *values = malloc(count * sizeof *values);
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        values[i] = random_float();
        memcpy(&bits, &values[i], sizeof bits);
        bits &= type == CUDA_R_16BF ? 0xffff0000u : 0xffffffffu;
        memcpy(&values[i], &bits, sizeof bits);
    }
    return values;
}

static size_t bytes_of(cudaDataType type)
{
    return type == CUDA_R_16BF ? 2 : 4;
}

/* Numbers to the device, in their type. */
static void *upload(const struct dense *d, const float *values, size_t count, cudaDataType type)
{
    void *memory;
    uint16_t *halves = malloc(count * sizeof *halves);
    for (size_t i = 0; i < count; i++)
        memcpy(&halves[i], (const char *)&values[i] + 2, 2);
    assert_int_equal(cudaMalloc(&memory, count * bytes_of(type)), cudaSuccess);
    assert_int_equal(cudaMemcpyAsync(memory, type == CUDA_R_16BF ? (const void *)halves : (const void *)values,
                                     count * bytes_of(type), cudaMemcpyHostToDevice, d->stream),
                     cudaSuccess);
    assert_int_equal(cudaStreamSynchronize(d->stream), cudaSuccess);
    free(halves);
    return memory;
}

static float *download(const struct dense *d, const void *memory, size_t count, cudaDataType type)
{
    float *values = calloc(count, sizeof *values);
    char *raw = malloc(count * bytes_of(type));
    assert_int_equal(cudaMemcpyAsync(raw, memory, count * bytes_of(type), cudaMemcpyDeviceToHost, d->stream),
                     cudaSuccess);
    assert_int_equal(cudaStreamSynchronize(d->stream), cudaSuccess);
    for (size_t i = 0; i < count; i++)
        memcpy((char *)&values[i] + 4 - bytes_of(type), raw + i * bytes_of(type), bytes_of(type));
    free(raw);
    return values;
}

/* --- products ----------------------------------------------------------------------------------------------------- */

struct gemm_case {
    int m, n, k;
    cublasOperation_t ta, tb;
    cudaDataType type, c_type;
    float alpha, beta;
};

static const struct gemm_case gemm_cases[] = {
    {1, 1, 1, CUBLAS_OP_N, CUBLAS_OP_N, CUDA_R_32F, CUDA_R_32F, 1, 0},
    {17, 5, 33, CUBLAS_OP_N, CUBLAS_OP_N, CUDA_R_32F, CUDA_R_32F, 1, 0},
    {33, 19, 64, CUBLAS_OP_T, CUBLAS_OP_N, CUDA_R_32F, CUDA_R_32F, -1, 1},
    {16, 4, 7, CUBLAS_OP_N, CUBLAS_OP_T, CUDA_R_32F, CUDA_R_32F, 2, 0.5f},
    {40, 23, 31, CUBLAS_OP_T, CUBLAS_OP_T, CUDA_R_32F, CUDA_R_32F, 1, 1},
    {33, 19, 64, CUBLAS_OP_T, CUBLAS_OP_N, CUDA_R_16BF, CUDA_R_32F, 1, 0},
    {31, 20, 50, CUBLAS_OP_N, CUBLAS_OP_T, CUDA_R_16BF, CUDA_R_16BF, 1, 0},
    {12, 20, 50, CUBLAS_OP_N, CUBLAS_OP_N, CUDA_R_16BF, CUDA_R_16BF, 1, 1},
};

static double stored(const float *a, int ld, cublasOperation_t op, int row, int col)
{
    return op == CUBLAS_OP_N ? a[row + (ptrdiff_t)col * ld] : a[col + (ptrdiff_t)row * ld];
}

static void check_gemm(const struct dense *d, const struct gemm_case *g, int batch)
{
    const int lda = (g->ta == CUBLAS_OP_N ? g->m : g->k) + 3, ldb = (g->tb == CUBLAS_OP_N ? g->k : g->n) + 1,
              ldc = g->m + 2;
    const int cols_a = g->ta == CUBLAS_OP_N ? g->k : g->m, cols_b = g->tb == CUBLAS_OP_N ? g->n : g->k;
    const size_t na = (size_t)(lda * cols_a), nb = (size_t)(ldb * cols_b), nc = (size_t)(ldc * g->n),
                 all = (size_t)batch;
    float *a = random_floats(na * all, g->type), *b = random_floats(nb * all, g->type),
          *c = random_floats(nc * all, g->c_type);
    if (g->beta == 0) memset(c, 0xff, nc * all * sizeof *c); /* must not be read */
    void *da = upload(d, a, na * all, g->type), *db = upload(d, b, nb * all, g->type),
         *dc = upload(d, c, nc * all, g->c_type);
    assert_int_equal(cublasGemmStridedBatchedEx(d->blas, g->ta, g->tb, g->m, g->n, g->k, &g->alpha, da, g->type, lda,
                                                (long long)na, db, g->type, ldb, (long long)nb, &g->beta, dc, g->c_type,
                                                ldc, (long long)nc, batch, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
                     CUBLAS_STATUS_SUCCESS);
    float *got = download(d, dc, nc * all, g->c_type);
    for (int s = 0; s < batch; s++)
        for (int j = 0; j < g->n; j++)
            for (int i = 0; i < g->m; i++) {
                double sum = 0;
                for (int p = 0; p < g->k; p++)
                    sum += stored(a + na * (size_t)s, lda, g->ta, i, p) * stored(b + nb * (size_t)s, ldb, g->tb, p, j);
                const size_t at = nc * (size_t)s + (size_t)(i + j * ldc);
                sum = g->alpha * sum + (g->beta != 0 ? g->beta * (double)c[at] : 0);
                /* f32: k roundings of terms below 1; bf16 keeps 8 bits of a result below 16 */
                assert_true(fabs(got[at] - sum) <= (g->c_type == CUDA_R_32F ? 1e-7 * g->k * 4 : 16.0 / 256));
            }
    free(a), free(b), free(c), free(got);
    assert_int_equal(cudaFree(da) || cudaFree(db) || cudaFree(dc), 0);
}

static void products(void **state)
{
    for (size_t i = 0; i < sizeof gemm_cases / sizeof *gemm_cases; i++) {
        check_gemm(*state, &gemm_cases[i], 1);
        check_gemm(*state, &gemm_cases[i], 3);
    }
}

/* c = a b, for rows of a of this stride that start `offset` numbers behind its memory, c likewise. */
static float *multiply(const struct dense *d, int m, int n, int k, int stride, int offset)
{
    const float one = 1, zero = 0;
    const size_t na = (size_t)(offset + k * stride), nc = (size_t)(offset + n * stride);
    float *a = calloc(na, sizeof *a), *b = malloc((size_t)(k * n) * sizeof *b), *dc;
    for (int p = 0; p < k; p++)
        for (int i = 0; i < stride; i++)
            a[offset + i + p * stride] = sinf((float)(17 * i + p)); /* the same numbers each time */
    for (int i = 0; i < k * n; i++)
        b[i] = cosf((float)i);
    float *da = upload(d, a, na, CUDA_R_32F), *db = upload(d, b, (size_t)(k * n), CUDA_R_32F);
    assert_int_equal(cudaMalloc((void **)&dc, nc * sizeof *dc), cudaSuccess);
    assert_int_equal(cublasGemmEx(d->blas, CUBLAS_OP_N, CUBLAS_OP_N, m, n, k, &one, da + offset, CUDA_R_32F, stride, db,
                                  CUDA_R_32F, k, &zero, dc + offset, CUDA_R_32F, stride, CUBLAS_COMPUTE_32F,
                                  CUBLAS_GEMM_DEFAULT),
                     CUBLAS_STATUS_SUCCESS);
    float *all = download(d, dc, nc, CUDA_R_32F), *c = calloc((size_t)(m * n), sizeof *c);
    for (int j = 0; j < n; j++)
        memcpy(c + j * m, all + offset + j * stride, (size_t)m * sizeof *c);
    free(a), free(b), free(all);
    assert_int_equal(cudaFree(da) || cudaFree(db) || cudaFree(dc), 0);
    return c;
}

/* The same call: the same bits; one of another shape or alignment adds in another order. */
static void orders_of_sums(void **state)
{
    enum { M = 40, N = 20, K = 300 };
    static const int other[][4] = {{M, N - 4, M, 0}, {M - 8, N, M, 0}, {M, N, M + 8, 0}, {M, N, M, 4}};
    float *c = multiply(*state, M, N, K, M, 0), *again = multiply(*state, M, N, K, M, 0);
    assert_memory_equal(c, again, M * N * sizeof *c);
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        const int m = other[i][0], n = other[i][1];
        float *rounded = multiply(*state, m, n, K, other[i][2], other[i][3]);
        int differ = 0;
        for (int j = 0; j < n; j++)
            for (int row = 0; row < m; row++) {
                assert_true(fabsf(rounded[row + j * m] - c[row + j * M]) < 1e-3f);
                differ += rounded[row + j * m] != c[row + j * M];
            }
        assert_true(differ > 0);
        free(rounded);
    }
    free(c), free(again);
}

/* --- triangular solves -------------------------------------------------------------------------------------------- */

/* |op(A) X - alpha B| or |X op(A) - alpha B|, the largest; A's other triangle counts as zero. */
static double residual(const float *a, int order, const float *x, const float *b, int m, int n, int left, int upper,
                       int transposed, int unit, double alpha)
{
    double worst = 0;
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            double sum = 0;
            for (int p = 0; p < order; p++) {
                int row = left ? i : p, col = left ? p : j;
                if (transposed) {
                    int t = row;
                    row = col, col = t;
                }
                double value = row == col && unit ? 1 : (upper ? row <= col : row >= col) ? a[row + col * order] : 0;
                sum += value * (left ? x[p + j * m] : x[i + p * m]);
            }
            worst = fmax(worst, fabs(sum - alpha * b[i + j * m]));
        }
    return worst;
}

static void check_trsm(const struct dense *d, int m, int n, int bits)
{
    const int left = bits & 1, upper = bits >> 1 & 1, transposed = bits >> 2 & 1, unit = bits >> 3 & 1;
    const int order = left ? m : n;
    const float alpha = 1.5f;
    float *a = random_floats((size_t)(order * order), CUDA_R_32F), *b = random_floats((size_t)(m * n), CUDA_R_32F);
    for (int i = 0; i < order * order; i++)
        a[i] = i % (order + 1) == 0 ? 2 + a[i] : 0.1f * a[i]; /* well conditioned */
    float *da = upload(d, a, (size_t)(order * order), CUDA_R_32F), *db = upload(d, b, (size_t)(m * n), CUDA_R_32F);
    assert_int_equal(cublasStrsm(d->blas, left ? CUBLAS_SIDE_LEFT : CUBLAS_SIDE_RIGHT,
                                 upper ? CUBLAS_FILL_MODE_UPPER : CUBLAS_FILL_MODE_LOWER,
                                 transposed ? CUBLAS_OP_T : CUBLAS_OP_N, unit ? CUBLAS_DIAG_UNIT : CUBLAS_DIAG_NON_UNIT,
                                 m, n, &alpha, da, order, db, m),
                     CUBLAS_STATUS_SUCCESS);
    float *x = download(d, db, (size_t)(m * n), CUDA_R_32F);
    assert_true(residual(a, order, x, b, m, n, left, upper, transposed, unit, alpha) <
                1e-5); /* f32, numbers of size 1 */
    free(a), free(b), free(x);
    assert_int_equal(cudaFree(da) || cudaFree(db), 0);
}

static void triangular_solves(void **state)
{
    for (int bits = 0; bits < 16; bits++) {
        check_trsm(*state, 1, 1, bits);
        check_trsm(*state, 20, 7, bits);
        check_trsm(*state, 5, 18, bits);
    }
}

/* --- Cholesky ----------------------------------------------------------------------------------------------------- */

static int run_potrf(const struct dense *d, int upper, int n, float *a)
{
    const cublasFillMode_t uplo = upper ? CUBLAS_FILL_MODE_UPPER : CUBLAS_FILL_MODE_LOWER;
    float *da = upload(d, a, (size_t)(n * n), CUDA_R_32F), *work;
    int floats, info = -1, *dinfo;
    assert_int_equal(cusolverDnSpotrf_bufferSize(d->solver, uplo, n, da, n, &floats), CUSOLVER_STATUS_SUCCESS);
    assert_int_equal(cudaMalloc((void **)&work, (size_t)floats * sizeof *work), cudaSuccess);
    assert_int_equal(cudaMalloc((void **)&dinfo, sizeof *dinfo), cudaSuccess);
    assert_int_equal(cusolverDnSpotrf(d->solver, uplo, n, da, n, work, floats - 1, dinfo),
                     CUSOLVER_STATUS_INVALID_VALUE);
    assert_int_equal(cusolverDnSpotrf(d->solver, uplo, n, da, n, work, floats, dinfo), CUSOLVER_STATUS_SUCCESS);
    assert_int_equal(cudaMemcpyAsync(&info, dinfo, sizeof info, cudaMemcpyDeviceToHost, d->stream), cudaSuccess);
    assert_int_equal(cudaStreamSynchronize(d->stream), cudaSuccess);
    float *l = download(d, da, (size_t)(n * n), CUDA_R_32F);
    memcpy(a, l, (size_t)(n * n) * sizeof *l);
    free(l);
    assert_int_equal(cudaFree(da) || cudaFree(work) || cudaFree(dinfo), 0);
    return info;
}

static void cholesky(void **state)
{
    enum { n = 30 };
    for (int upper = 0; upper < 2; upper++) {
        float *x = random_floats(n * n, CUDA_R_32F), *a = calloc(n * n, sizeof *a), *l = calloc(n * n, sizeof *l);
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++) {
                for (int p = 0; p < n; p++)
                    a[i + j * n] += x[i + p * n] * x[j + p * n];
                a[i + j * n] += i == j;
                l[i + j * n] = (upper ? i <= j : i >= j) ? a[i + j * n] : 7; /* the other triangle stays */
            }
        assert_int_equal(run_potrf(*state, upper, n, l), 0);
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++) {
                double sum = 0;
                for (int p = 0; p <= (i < j ? i : j); p++)
                    sum += upper ? (double)l[p + i * n] * l[p + j * n] : (double)l[i + p * n] * l[j + p * n];
                assert_true(fabs(sum - a[i + j * n]) < 1e-4); /* f32, entries of size 10 */
                assert_true(i == j || (upper ? i < j : i > j) || l[i + j * n] == 7);
            }
        for (int i = 0; i < n * n; i++)
            l[i] = a[i];
        l[11 * (n + 1)] = -1;
        assert_int_equal(run_potrf(*state, upper, n, l), 12);
        free(x), free(a), free(l);
    }
}

/* --- arguments ---------------------------------------------------------------------------------------------------- */

static void bad_arguments(void **state)
{
    const struct dense *d = *state;
    const float one = 1;
    float values[16] = {0};
    float *a = upload(d, values, 16, CUDA_R_32F);
#define GEMM(m, n, k, lda, ldb, ldc, memory)                                                                           \
    cublasGemmEx(d->blas, CUBLAS_OP_N, CUBLAS_OP_N, m, n, k, &one, a, CUDA_R_32F, lda, memory, CUDA_R_32F, ldb, &one,  \
                 a, CUDA_R_32F, ldc, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT)
    assert_int_equal(GEMM(4, 4, 4, 4, 4, 4, a), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(GEMM(4, 4, 4, 3, 4, 4, a), CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(GEMM(4, 4, 4, 4, 3, 4, a), CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(GEMM(4, 4, 4, 4, 4, 3, a), CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(GEMM(-1, 4, 4, 4, 4, 4, a), CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(GEMM(4, 4, 4, 4, 4, 4, values), CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(GEMM(4, 4, 4, 4, 4, 4, a + 1), CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(GEMM(0, 4, 4, 4, 4, 4, a), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(cublasStrsm(d->blas, CUBLAS_SIDE_LEFT, CUBLAS_FILL_MODE_UPPER, CUBLAS_OP_N, CUBLAS_DIAG_UNIT, 4, 4,
                                 &one, a, 3, a, 4),
                     CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(cublasSetWorkspace(d->blas, values, sizeof values), CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(cublasSetStream(NULL, d->stream), CUBLAS_STATUS_NOT_INITIALIZED);
    assert_int_equal(cudaFree(a), cudaSuccess);
#undef GEMM
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products), cmocka_unit_test(orders_of_sums), cmocka_unit_test(triangular_solves),
        cmocka_unit_test(cholesky), cmocka_unit_test(bad_arguments),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
