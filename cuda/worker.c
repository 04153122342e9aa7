#include "cuda/cuda_private.h"

static enum sq_status take_memory(struct sq_cuda_worker *worker)
{
    SQ_TRY(sq_cuda_checked(cudaMalloc(&worker->workspace, SQ_CUDA_WORKSPACE), "memory for cuBLAS"));
    SQ_TRY(sq_cuda_checked(cudaMalloc(&worker->room, SQ_CUDA_ROOM), "memory for operations"));
    return sq_cuda_checked(cudaMallocHost((void **)&worker->flag, sizeof *worker->flag), "pinned memory");
}

enum sq_status sq_cuda_worker_create(struct sq_cuda_worker *worker)
{
    SQ_TRY(sq_cuda_checked(cudaStreamCreateWithFlags(&worker->stream, cudaStreamNonBlocking), "creating a stream"));
    SQ_TRY(take_memory(worker));
    SQ_TRY(sq_cublas_checked(cublasCreate(&worker->blas), "creating a handle"));
    SQ_TRY(sq_cublas_checked(cublasSetStream(worker->blas, worker->stream), "setting the stream"));
    SQ_TRY(sq_cublas_checked(cublasSetWorkspace(worker->blas, worker->workspace, SQ_CUDA_WORKSPACE),
                             "setting the workspace"));
    /* partial sums of a product stay f32 where the result is bf16; f32 products are true f32 by default */
    const unsigned mode = CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
    SQ_TRY(sq_cublas_checked(cublasSetMathMode(worker->blas, (cublasMath_t)mode), "setting the arithmetic"));
    SQ_TRY(sq_cusolver_checked(cusolverDnCreate(&worker->solver), "creating a handle"));
    return sq_cusolver_checked(cusolverDnSetStream(worker->solver, worker->stream), "setting the stream");
}

/* What was never made is NULL. Errors on the way out change nothing. */
void sq_cuda_worker_destroy(struct sq_cuda_worker *worker)
{
    if (worker->stream) (void)cudaStreamSynchronize(worker->stream);
    if (worker->solver) (void)cusolverDnDestroy(worker->solver);
    if (worker->blas) (void)cublasDestroy(worker->blas);
    (void)cudaFreeHost(worker->flag);
    (void)cudaFree(worker->room);
    (void)cudaFree(worker->workspace);
    if (worker->stream) (void)cudaStreamDestroy(worker->stream);
}

enum sq_status sq_cuda_wait(const struct sq_cuda_worker *worker, const char *what)
{
    return sq_cuda_checked(cudaStreamSynchronize(worker->stream), what);
}

enum sq_status sq_cuda_wait_all(const struct sq_cuda_worker *worker, const char *what)
{
    cudaError_t out = cudaStreamSynchronize(worker->out), work = cudaStreamSynchronize(worker->stream);
    return sq_cuda_checked(out != cudaSuccess ? out : work, what);
}

enum sq_status sq_cuda_fetch(const struct sq_cuda_worker *worker, const int *memory, int *value_p)
{
    SQ_TRY(sq_cuda_checked(
        cudaMemcpyAsync(worker->flag, memory, sizeof *memory, cudaMemcpyDeviceToHost, worker->stream), "a result"));
    SQ_TRY(sq_cuda_wait(worker, "waiting for a result"));
    *value_p = *worker->flag;
    return SQ_OK;
}
