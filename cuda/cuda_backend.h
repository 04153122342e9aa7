/* The CUDA backend: a struct sq_backend whose memory is one device's. Built where CMake finds CUDA (SQ_HAS_CUDA). */
#ifndef SQ_CUDA_BACKEND_H
#define SQ_CUDA_BACKEND_H

#include <stddef.h>

#include "base/status.h"
#include "tensor/backend.h"

/* Devices of this process that the program has kernels for; 0 without a driver, too. others: those that are not counted
 * and why, or the runtime's words where it finds none; else empty. Local. */
int sq_cuda_device_count(char *others, size_t bytes);
/* The index-th of them, below the count. Local. */
int sq_cuda_device_number(int index);

/* Makes the backend on this device with n_workers streams (0: the default). Owned by the caller, destroyed with
 * backend->ops->destroy(backend). Local. */
enum sq_status sq_backend_create_cuda(int device, int n_workers, struct sq_backend **backend_p) SQ_MUST_CHECK;

/* Bytes of the device's memory that are free now. Local. */
enum sq_status sq_cuda_free_bytes(struct sq_backend *backend, int64_t *bytes_p) SQ_MUST_CHECK;

#endif
