/* The libraries' error codes as statuses; each prints one message with the library's own words. */
#ifndef SQ_CUDA_CHECK_H
#define SQ_CUDA_CHECK_H

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cusolverDn.h>

#include "base/status.h"

enum sq_status sq_cuda_checked(cudaError_t code, const char *what) SQ_MUST_CHECK;
enum sq_status sq_cublas_checked(cublasStatus_t code, const char *what) SQ_MUST_CHECK;
enum sq_status sq_cusolver_checked(cusolverStatus_t code, const char *what) SQ_MUST_CHECK;

#endif
