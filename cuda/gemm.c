/* Products by cuBLAS. It stores by columns: a row-major c = a b is its c' = b' a'. */
#include "cuda/cuda_private.h"
#include "cuda/kernels/kernels.h"

cudaDataType sq_cuda_type(enum sq_dtype dtype)
{
    return dtype == SQ_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

struct factor {
    struct sq_matrix matrix;
    bool is_turned; /* its transpose is meant */
};

/* c = alpha a b + beta c */
static enum sq_status multiply(struct sq_backend *backend, float alpha, struct factor a, struct factor b, float beta,
                               struct sq_matrix c)
{
    int64_t k = a.is_turned ? a.matrix.rows : a.matrix.cols;
    if (c.rows == 0 || c.cols == 0) return SQ_OK;
    cublasOperation_t left = b.is_turned ? CUBLAS_OP_T : CUBLAS_OP_N, right = a.is_turned ? CUBLAS_OP_T : CUBLAS_OP_N;
    return sq_cublas_checked(cublasGemmEx(sq_cuda_worker(backend)->blas, left, right, (int)c.cols, (int)c.rows, (int)k,
                                          &alpha, b.matrix.data, sq_cuda_type(b.matrix.dtype), (int)b.matrix.stride,
                                          a.matrix.data, sq_cuda_type(a.matrix.dtype), (int)a.matrix.stride, &beta,
                                          c.data, sq_cuda_type(c.dtype), (int)c.stride, CUBLAS_COMPUTE_32F,
                                          CUBLAS_GEMM_DEFAULT),
                             "a product");
}

/* y = x w' + bias, y BF16: rows in pieces by way of f32, so that the sum is rounded once. */
static enum sq_status linear_in_pieces(struct sq_backend *backend, struct sq_matrix x, struct sq_matrix w,
                                       const float *bias, struct sq_matrix y)
{
    struct sq_cuda_worker *worker = sq_cuda_worker(backend);
    int64_t most = (int64_t)(SQ_CUDA_ROOM / sizeof(float)) / y.cols;
    most = most > 128 ? most / 128 * 128 : most;
    for (int64_t row = 0; row < y.rows; row += most) {
        int64_t rows = y.rows - row < most ? y.rows - row : most;
        struct sq_matrix sums = sq_matrix_view(worker->room, SQ_F32, rows, y.cols);
        struct factor part = {sq_matrix_part(x, row, rows, 0, x.cols), false}, weights = {w, true};
        SQ_TRY(multiply(backend, 1, part, weights, 0, sums));
        SQ_TRY(sq_cuda_checked(sq_kernel_add_bias(worker->stream, sums, bias, sq_matrix_part(y, row, rows, 0, y.cols)),
                               "a bias"));
    }
    return SQ_OK;
}

enum sq_status sq_cuda_linear(struct sq_backend *backend, struct sq_matrix x, struct sq_matrix w, const float *bias,
                              struct sq_matrix y)
{
    if (bias && y.dtype == SQ_BF16) return linear_in_pieces(backend, x, w, bias, y);
    SQ_TRY(multiply(backend, 1, (struct factor){x, false}, (struct factor){w, true}, 0, y));
    if (!bias || y.rows == 0) return SQ_OK;
    return sq_cuda_checked(sq_kernel_add_bias(sq_cuda_worker(backend)->stream, y, bias, y), "a bias");
}

enum sq_status sq_cuda_matmul(struct sq_backend *backend, struct sq_matrix a, struct sq_matrix b, bool accumulate,
                              struct sq_matrix c)
{
    return multiply(backend, 1, (struct factor){a, false}, (struct factor){b, false}, accumulate ? 1 : 0, c);
}

enum sq_status sq_cuda_gram(struct sq_backend *backend, struct sq_matrix x, struct sq_matrix y, struct sq_matrix c)
{
    return multiply(backend, 1, (struct factor){x, true}, (struct factor){y, false}, 0, c);
}

enum sq_status sq_cuda_update(struct sq_backend *backend, struct sq_matrix a, struct sq_matrix b, struct sq_matrix c)
{
    return multiply(backend, -1, (struct factor){a, false}, (struct factor){b, true}, 1, c);
}
