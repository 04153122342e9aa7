/* Tiles of the factorization, and what is done to whole matrices before and after it. Row-major a is column-major a',
 * hence the flipped sides and triangles. */
#include "base/log.h"
#include "cuda/cuda_private.h"
#include "cuda/kernels/kernels.h"

static cudaStream_t stream_of(struct sq_backend *backend)
{
    return sq_cuda_worker(backend)->stream;
}

/* --- tiles -------------------------------------------------------------------------------------------------------- */

/* The worker's room: the answer, then cuSOLVER's workspace. */
#define ANSWER_BYTES 256

static enum sq_status check_room(int64_t n, int elements)
{
    if ((size_t)elements * sizeof(float) + ANSWER_BYTES <= SQ_CUDA_ROOM) return SQ_OK;
    sq_error("cuSOLVER: spotrf of a tile of %lld wants a workspace of %d numbers; there is room for %zu", (long long)n,
             elements, (SQ_CUDA_ROOM - ANSWER_BYTES) / sizeof(float));
    return SQ_ERR_LIBRARY;
}

enum sq_status sq_cuda_potrf(struct sq_backend *backend, struct sq_matrix a)
{
    struct sq_cuda_worker *worker = sq_cuda_worker(backend);
    int n = (int)a.rows, lda = (int)a.stride, elements = 0, answer = 0;
    int *device_answer = worker->room;
    float *workspace = (float *)((char *)worker->room + ANSWER_BYTES);
    const cublasFillMode_t upper = CUBLAS_FILL_MODE_UPPER; /* a' = U'U: a = L L' */
    SQ_TRY(sq_cusolver_checked(cusolverDnSpotrf_bufferSize(worker->solver, upper, n, a.data, lda, &elements),
                               "spotrf's workspace"));
    SQ_TRY(check_room(a.rows, elements));
    SQ_TRY(sq_cusolver_checked(
        cusolverDnSpotrf(worker->solver, upper, n, a.data, lda, workspace, elements, device_answer), "spotrf"));
    SQ_TRY(sq_cuda_checked(sq_kernel_clear_upper(worker->stream, a), "clearing a triangle"));
    SQ_TRY(sq_cuda_fetch(worker, device_answer, &answer));
    if (answer < 0) {
        sq_error("cuSOLVER: spotrf: argument %d is wrong", -answer);
        return SQ_ERR_LIBRARY;
    }
    return answer > 0 ? SQ_ERR_NUMERIC : SQ_OK;
}

enum sq_status sq_cuda_trsm(struct sq_backend *backend, struct sq_matrix l, struct sq_matrix b)
{
    const float one = 1;
    /* b := b inv(L)'  <=>  b' := inv(L) b', and column-major sees L as U = L' */
    return sq_cublas_checked(cublasStrsm(sq_cuda_worker(backend)->blas, CUBLAS_SIDE_LEFT, CUBLAS_FILL_MODE_UPPER,
                                         CUBLAS_OP_T, CUBLAS_DIAG_NON_UNIT, (int)b.cols, (int)b.rows, &one, l.data,
                                         (int)l.stride, b.data, (int)b.stride),
                             "strsm");
}

/* --- whole matrices ----------------------------------------------------------------------------------------------- */

enum sq_status sq_cuda_diagonal(struct sq_backend *backend, struct sq_matrix m, float *diagonal)
{
    struct sq_cuda_worker *worker = sq_cuda_worker(backend);
    const int64_t most = (int64_t)(SQ_CUDA_ROOM / sizeof *diagonal);
    for (int64_t i = 0; i < m.rows; i += most) {
        int64_t count = m.rows - i < most ? m.rows - i : most;
        struct sq_matrix part = sq_matrix_part(m, i, count, i, count);
        SQ_TRY(sq_cuda_checked(sq_kernel_diagonal(worker->stream, part, worker->room), "taking a diagonal"));
        SQ_TRY(sq_cuda_download(backend, worker->room, (size_t)count * sizeof *diagonal, diagonal + i));
    }
    return SQ_OK;
}

enum sq_status sq_cuda_set_dead(struct sq_backend *backend, const uint8_t *dead, struct sq_matrix hessian)
{
    return sq_cuda_checked(sq_kernel_set_dead(stream_of(backend), dead, hessian), "marking dead inputs");
}

enum sq_status sq_cuda_arrange(struct sq_backend *backend, struct sq_matrix hessian, const int32_t *order, float ridge,
                               bool off_diagonal, int64_t row, int64_t rows, struct sq_matrix out)
{
    return sq_cuda_checked(sq_kernel_arrange(stream_of(backend), hessian, order, ridge, off_diagonal, row, rows, out),
                           "ordering columns");
}

enum sq_status sq_cuda_unit_form(struct sq_backend *backend, const float *pivots, int64_t row, int64_t rows,
                                 struct sq_matrix m)
{
    return sq_cuda_checked(sq_kernel_unit_form(stream_of(backend), pivots, row, rows, m), "the factor's unit form");
}
