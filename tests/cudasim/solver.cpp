// cuSOLVER: the Cholesky factorization of a tile.
#include "sim.hpp"

#include "dense.hpp"

#include <cusolverDn.h>

struct cusolverDnContext {
    cudaStream_t stream;
};

using namespace cudasim;

static int workspace_floats(int n) // any size serves; one that grows with n finds a caller who does not ask
{
    return n + 32;
}

cusolverStatus_t cusolverDnCreate(cusolverDnHandle_t *handle)
{
    if (should_fail(kind::create)) return CUSOLVER_STATUS_ALLOC_FAILED;
    *handle = new cusolverDnContext{};
    count_object("cuSOLVER handles", 1);
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnDestroy(cusolverDnHandle_t handle)
{
    if (!handle) return CUSOLVER_STATUS_NOT_INITIALIZED;
    delete handle;
    count_object("cuSOLVER handles", -1);
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnSetStream(cusolverDnHandle_t handle, cudaStream_t stream)
{
    if (!handle) return CUSOLVER_STATUS_NOT_INITIALIZED;
    handle->stream = stream;
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnSpotrf_bufferSize(cusolverDnHandle_t handle, cublasFillMode_t, int n, float *, int lda,
                                             int *Lwork)
{
    if (!handle) return CUSOLVER_STATUS_NOT_INITIALIZED;
    if (n < 0 || lda < (n > 1 ? n : 1)) return CUSOLVER_STATUS_INVALID_VALUE;
    *Lwork = workspace_floats(n);
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnSpotrf(cusolverDnHandle_t handle, cublasFillMode_t uplo, int n, float *A, int lda,
                                  float *Workspace, int Lwork, int *devInfo)
{
    call guard;
    if (!handle) return CUSOLVER_STATUS_NOT_INITIALIZED;
    if (should_fail(kind::solver)) return CUSOLVER_STATUS_EXECUTION_FAILED;
    if (n < 1 || lda < n || Lwork < workspace_floats(n) ||
        !is_device("cusolverDnSpotrf, matrix", A, sizeof *A * ((size_t)lda * (size_t)(n - 1) + (size_t)n)) ||
        !is_device("cusolverDnSpotrf, workspace", Workspace, sizeof *Workspace * (size_t)Lwork) ||
        !is_device("cusolverDnSpotrf, devInfo", devInfo, sizeof *devInfo))
        return CUSOLVER_STATUS_INVALID_VALUE;
    auto run = [=] {
        const bool upper = uplo == CUBLAS_FILL_MODE_UPPER;
        for (int i = 0; i < Lwork; i++)
            Workspace[i] = -1; // it is the library's while it works
        for (int j = 0; j < n; j++)
            check_written(A + (size_t)j * (size_t)lda + (upper ? 0 : j), sizeof *A * (size_t)(upper ? j + 1 : n - j));
        *devInfo = cholesky(upper, n, A, lda);
        note_written(devInfo, sizeof *devInfo);
    };
    const bool taken = enqueue(handle->stream, {"cusolverDnSpotrf", run, nullptr, nullptr}) == cudaSuccess;
    return taken ? CUSOLVER_STATUS_SUCCESS : CUSOLVER_STATUS_EXECUTION_FAILED;
}
