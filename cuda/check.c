#include "cuda/check.h"

#include "base/log.h"

void sq_cuda_forget_error(void)
{
    (void)cudaGetLastError();
}

enum sq_status sq_cuda_checked(cudaError_t code, const char *what)
{
    if (code == cudaSuccess) return SQ_OK;
    sq_cuda_forget_error();
    sq_error("CUDA: %s: %s", what, cudaGetErrorString(code));
    return code == cudaErrorMemoryAllocation ? SQ_ERR_MEMORY : SQ_ERR_LIBRARY;
}

enum sq_status sq_cuda_answered(cudaError_t code, const char *what, bool *done_p)
{
    *done_p = code == cudaSuccess;
    if (code != cudaErrorNotReady) return sq_cuda_checked(code, what);
    sq_cuda_forget_error();
    return SQ_OK;
}

enum sq_status sq_cublas_checked(cublasStatus_t code, const char *what)
{
    if (code == CUBLAS_STATUS_SUCCESS) return SQ_OK;
    sq_error("cuBLAS: %s: %s", what, cublasGetStatusString(code));
    return code == CUBLAS_STATUS_ALLOC_FAILED ? SQ_ERR_MEMORY : SQ_ERR_LIBRARY;
}

enum sq_status sq_cusolver_checked(cusolverStatus_t code, const char *what)
{
    if (code == CUSOLVER_STATUS_SUCCESS) return SQ_OK;
    sq_error("cuSOLVER: %s: status %d", what, (int)code);
    return code == CUSOLVER_STATUS_ALLOC_FAILED ? SQ_ERR_MEMORY : SQ_ERR_LIBRARY;
}
