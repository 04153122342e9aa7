/* The backend that a test runs on, by SHARDQ_TEST_BACKEND (cpu, cuda), and host arrays in its memory. */
#ifndef TEST_BACKENDS_H
#define TEST_BACKENDS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/backend.h"
#ifdef SQ_HAS_CUDA
#include "cuda/cuda_backend.h"
#endif

#define NO_DEVICE 77 /* ctest's exit code for a skipped test */

/* Ends the program as skipped where the backend wanted has no device here. */
static inline enum sq_status backend_create(int n_threads, struct sq_backend **backend_p)
{
    const char *name = getenv("SHARDQ_TEST_BACKEND");
    if (!name || !strcmp(name, "cpu")) return sq_backend_create_cpu(n_threads, SQ_ISA_BEST, backend_p);
#ifdef SQ_HAS_CUDA
    char why[512];
    if (!strcmp(name, "cuda") && sq_cuda_device_count(why, sizeof why) > 0)
        return sq_backend_create_cuda(sq_cuda_device_number(0), n_threads, backend_p);
    if (!strcmp(name, "cuda")) {
        fprintf(stderr, "skipped: %s\n", why);
        exit(NO_DEVICE);
    }
#endif
    fprintf(stderr, "there is no backend '%s'\n", name);
    abort();
}

/* Only then do activations go to a file, and are all allocations those of base/memory.h. */
static inline bool backend_in_host_memory(void)
{
    const char *name = getenv("SHARDQ_TEST_BACKEND");
    return !name || !strcmp(name, "cpu");
}

/* A copy of host memory in the backend's; freed by backend_free(). */
static inline void *backend_give(struct sq_backend *backend, const void *host, size_t bytes)
{
    void *memory = backend->is_host ? aligned_alloc(64, (bytes + 63) / 64 * 64) : NULL; /* whatever allocations fail */
    if (!memory && backend->ops->alloc(backend, "test data", bytes, &memory) != SQ_OK) abort();
    if (backend->ops->upload(backend, host, bytes, memory) != SQ_OK) abort();
    return memory;
}

/* Back into host memory. */
static inline void backend_take(struct sq_backend *backend, const void *memory, size_t bytes, void *host)
{
    if (backend->ops->download(backend, memory, bytes, host) != SQ_OK) abort();
}

/* A dense matrix of the backend's as a host array; freed with free(). */
static inline void *backend_read(struct sq_backend *backend, struct sq_matrix m)
{
    size_t bytes = (size_t)(m.rows * m.cols) * sq_dtype_size(m.dtype);
    void *host = malloc(bytes + 1);
    backend_take(backend, m.data, bytes, host);
    return host;
}

static inline void backend_free(struct sq_backend *backend, void *memory)
{
    if (backend->is_host)
        free(memory);
    else
        backend->ops->free(backend, memory);
}

#endif
