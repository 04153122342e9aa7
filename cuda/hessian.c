#include "cuda/cuda_private.h"
#include "cuda/kernels/kernels.h"

/* The squares go by way of the worker's room: as many columns at a time as it holds. */
enum sq_status sq_cuda_column_squares(struct sq_backend *backend, struct sq_matrix x, double *squares)
{
    struct sq_cuda_worker *worker = sq_cuda_worker(backend);
    const int64_t most = (int64_t)(SQ_CUDA_ROOM / sizeof *squares);
    for (int64_t col = 0; col < x.cols; col += most) {
        int64_t cols = x.cols - col < most ? x.cols - col : most;
        struct sq_matrix part = sq_matrix_part(x, 0, x.rows, col, cols);
        SQ_TRY(sq_cuda_checked(sq_kernel_column_squares(worker->stream, part, worker->room), "column squares"));
        SQ_TRY(sq_cuda_download(backend, worker->room, (size_t)cols * sizeof *squares, squares + col));
    }
    return SQ_OK;
}

/* cuBLAS takes x as it is. */
enum sq_status sq_cuda_gram_pack(struct sq_backend *backend, struct sq_matrix x, int64_t row, int64_t rows,
                                 float *packed)
{
    (void)backend, (void)x, (void)row, (void)rows, (void)packed;
    return SQ_OK;
}

/* By way of the worker's room: as many columns at a time as it holds. */
enum sq_status sq_cuda_gram_add(struct sq_backend *backend, struct sq_matrix x, const float *packed, int64_t row,
                                const float *scale, struct sq_matrix sums)
{
    struct sq_cuda_worker *worker = sq_cuda_worker(backend);
    const int64_t most = (int64_t)(SQ_CUDA_ROOM / sizeof(float)) / sums.rows;
    struct sq_matrix left = sq_matrix_part(x, 0, x.rows, row, sums.rows);
    (void)packed;
    for (int64_t col = 0; col < sums.cols; col += most) {
        int64_t cols = sums.cols - col < most ? sums.cols - col : most;
        struct sq_matrix product = sq_matrix_view(worker->room, SQ_F32, sums.rows, cols);
        SQ_TRY(sq_cuda_gram(backend, left, sq_matrix_part(x, 0, x.rows, col, cols), product));
        SQ_TRY(sq_cuda_checked(sq_kernel_fixed_add(worker->stream, product, scale + row, scale + col,
                                                   sq_matrix_part(sums, 0, sums.rows, col, cols)),
                               "adding in fixed point"));
    }
    return SQ_OK;
}

enum sq_status sq_cuda_fixed_get(struct sq_backend *backend, struct sq_matrix sums, const double *row_scale,
                                 const double *col_scale, struct sq_matrix c)
{
    cudaStream_t stream = sq_cuda_worker(backend)->stream;
    return sq_cuda_checked(sq_kernel_fixed_get(stream, sums, row_scale, col_scale, c), "leaving fixed point");
}

enum sq_status sq_cuda_mirror(struct sq_backend *backend, struct sq_matrix m, int64_t row, int64_t rows)
{
    return sq_cuda_checked(sq_kernel_mirror(sq_cuda_worker(backend)->stream, m, row, rows), "mirroring");
}
