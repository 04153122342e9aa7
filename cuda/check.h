/* The libraries' error codes as statuses; each prints one message with the library's own words. */
#ifndef SQ_CUDA_CHECK_H
#define SQ_CUDA_CHECK_H

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cusolverDn.h>
#include <stdbool.h>

#include "base/status.h"

enum sq_status sq_cuda_checked(cudaError_t code, const char *what) SQ_MUST_CHECK;
/* Whether a stream or event that was asked has come to its end; the code of the question. */
enum sq_status sq_cuda_answered(cudaError_t code, const char *what, bool *done_p) SQ_MUST_CHECK;
/* After a call that failed, which the caller answers for: the runtime forgets it. Otherwise the next launch, which can
 * only ask for the last error of its thread, would be blamed. */
void sq_cuda_forget_error(void);
enum sq_status sq_cublas_checked(cublasStatus_t code, const char *what) SQ_MUST_CHECK;
enum sq_status sq_cusolver_checked(cusolverStatus_t code, const char *what) SQ_MUST_CHECK;

#endif
