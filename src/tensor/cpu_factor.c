/* Tiles of the factorization by LAPACK and BLAS (OpenBLAS) where they are not products, each on the calling thread
 * alone. Debian's OpenBLAS ships no LAPACKE: the Fortran names are declared here. Row-major a is column-major a', hence
 * the flipped sides and triangles. */
#include "base/log.h"
#include "tensor/cpu_private.h"

void spotrf_(const char *uplo, const int *n, float *a, const int *lda, int *info);
void strsm_(const char *side, const char *uplo, const char *trans, const char *diag, const int *m, const int *n,
            const float *alpha, const float *a, const int *lda, float *b, const int *ldb);

enum sq_status sq_cpu_potrf(struct sq_backend *backend, struct sq_matrix a)
{
    (void)backend;
    int n = (int)a.rows, lda = (int)a.stride, info = 0;
    float *values = a.data;
    spotrf_("U", &n, values, &lda, &info); /* a' = U'U in column-major order: a = L L' in ours */
    if (info < 0) {
        sq_error("spotrf: argument %d is wrong", -info);
        return SQ_ERR_LIBRARY;
    }
    if (info > 0) return SQ_ERR_NUMERIC;
    for (int64_t i = 0; i < a.rows; i++)
        for (int64_t j = i + 1; j < a.cols; j++)
            values[i * a.stride + j] = 0;
    return SQ_OK;
}

enum sq_status sq_cpu_trsm(struct sq_backend *backend, struct sq_matrix l, struct sq_matrix b)
{
    (void)backend;
    int m = (int)b.cols, n = (int)b.rows, lda = (int)l.stride, ldb = (int)b.stride;
    const float one = 1;
    /* b := b inv(L)'  <=>  b' := inv(L) b', and column-major sees L as U = L' */
    strsm_("L", "U", "T", "N", &m, &n, &one, l.data, &lda, b.data, &ldb);
    return SQ_OK;
}
