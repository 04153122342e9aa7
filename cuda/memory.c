/* Device memory, pinned host memory, and what moves between them. */
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "cuda/cuda_private.h"

enum sq_status sq_cuda_free_bytes(struct sq_backend *backend, int64_t *bytes_p)
{
    size_t free_bytes = 0, total = 0;
    (void)backend;
    SQ_TRY(sq_cuda_checked(cudaMemGetInfo(&free_bytes, &total), "asking for free memory"));
    *bytes_p = (int64_t)free_bytes;
    return SQ_OK;
}

enum sq_status sq_cuda_alloc(struct sq_backend *backend, const char *what, size_t bytes, void **memory_p)
{
    cudaError_t code = cudaMalloc(memory_p, bytes ? bytes : 1);
    if (code == cudaSuccess) return SQ_OK;
    int64_t left = 0;
    char needs[24], has[24];
    sq_cuda_forget_error();
    if (sq_cuda_free_bytes(backend, &left) != SQ_OK) return SQ_ERR_LIBRARY;
    sq_size_format_apart((double)bytes, (double)left, needs, has);
    sq_error("device %d: %s needs %s, %s are free: %s", ((struct sq_cuda *)backend)->device, what, needs, has,
             cudaGetErrorString(code));
    return code == cudaErrorMemoryAllocation ? SQ_ERR_MEMORY : SQ_ERR_LIBRARY;
}

void sq_cuda_free(struct sq_backend *backend, void *memory)
{
    if (!memory) return;
    (void)cudaStreamSynchronize(sq_cuda_worker(backend)->stream); /* it may still be in use there */
    (void)cudaFree(memory);
}

enum sq_status sq_cuda_upload(struct sq_backend *backend, const void *host, size_t bytes, void *memory)
{
    const struct sq_cuda_worker *worker = sq_cuda_worker(backend);
    if (bytes == 0) return SQ_OK;
    SQ_TRY(sq_cuda_checked(cudaMemcpyAsync(memory, host, bytes, cudaMemcpyHostToDevice, worker->stream), "an upload"));
    return sq_cuda_wait(worker, "an upload");
}

enum sq_status sq_cuda_download(struct sq_backend *backend, const void *memory, size_t bytes, void *host)
{
    const struct sq_cuda_worker *worker = sq_cuda_worker(backend);
    if (bytes == 0) return SQ_OK;
    SQ_TRY(sq_cuda_checked(cudaMemcpyAsync(host, memory, bytes, cudaMemcpyDeviceToHost, worker->stream), "a download"));
    return sq_cuda_wait(worker, "a download");
}

enum sq_status sq_cuda_alloc_host(struct sq_backend *backend, const char *what, size_t bytes, void **memory_p)
{
    cudaError_t code = cudaMallocHost(memory_p, bytes ? bytes : 1);
    if (code == cudaSuccess) return SQ_OK;
    char text[16];
    sq_cuda_forget_error();
    sq_error("device %d: %s needs %s of pinned host memory: %s", ((struct sq_cuda *)backend)->device, what,
             sq_size_format((double)bytes, text), cudaGetErrorString(code));
    return code == cudaErrorMemoryAllocation ? SQ_ERR_MEMORY : SQ_ERR_LIBRARY;
}

void sq_cuda_free_host(struct sq_backend *backend, void *memory)
{
    (void)backend;
    (void)cudaFreeHost(memory);
}

enum sq_status sq_cuda_copy(struct sq_backend *backend, const void *source, size_t bytes, void *target)
{
    if (bytes == 0) return SQ_OK;
    return sq_cuda_checked(
        cudaMemcpyAsync(target, source, bytes, cudaMemcpyDeviceToDevice, sq_cuda_worker(backend)->stream), "a copy");
}

enum sq_status sq_cuda_clear(struct sq_backend *backend, void *memory, size_t bytes)
{
    if (bytes == 0) return SQ_OK;
    return sq_cuda_checked(cudaMemsetAsync(memory, 0, bytes, sq_cuda_worker(backend)->stream), "clearing memory");
}
