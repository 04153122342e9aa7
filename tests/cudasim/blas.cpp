// cuBLAS: checks as the real one makes them, then the product or solve as an operation of the handle's stream.
#include "sim.hpp"

#include "dense.hpp"

#include <algorithm>
#include <cublas_v2.h>

struct cublasContext {
    cudaStream_t stream;
};

namespace cudasim
{
namespace
{
// A matrix argument as it is stored: rows x cols, columns `stride` apart, `batch` of them `step` elements apart.
struct stored {
    const char *name;
    const void *data;
    cudaDataType type;
    int rows, cols, stride;
    long long step;
};

size_t element_bytes(cudaDataType type)
{
    return type == CUDA_R_32F ? 4 : 2;
}

bool is_valid(const char *what, const stored &s, int batch)
{
    const std::string name = std::string(what) + ", matrix " + s.name;
    if (s.rows < 0 || s.cols < 0 || s.stride < std::max(1, s.rows) || (s.type != CUDA_R_32F && s.type != CUDA_R_16BF)) {
        complain("%s: %d x %d, leading dimension %d, type %d", name.c_str(), s.rows, s.cols, s.stride, (int)s.type);
        return false;
    }
    if (s.rows == 0 || s.cols == 0 || batch == 0) return true;
    const size_t elements = (size_t)s.stride * (size_t)(s.cols - 1) + (size_t)s.rows;
    for (int i = 0; i < batch; i++)
        if (!is_device(name.c_str(), (const char *)s.data + (long long)element_bytes(s.type) * s.step * i,
                       elements * element_bytes(s.type)))
            return false;
    return true;
}

cublasStatus_t queue(cublasHandle_t handle, const char *what, std::function<void()> run)
{
    const bool taken = enqueue(handle->stream, {what, std::move(run), nullptr, nullptr}) == cudaSuccess;
    return taken ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

// Each stored column of it; of a triangle (upper 1, lower 0, -1: all) only what lies in it.
void for_columns(const stored &s, int upper, void (*act)(const void *, size_t))
{
    for (int j = 0; j < s.cols; j++) {
        const int from = upper == 0 ? std::min(j, s.rows) : 0, to = upper == 1 ? std::min(j + 1, s.rows) : s.rows;
        const size_t element = element_bytes(s.type);
        act((const char *)s.data + ((size_t)j * (size_t)s.stride + (size_t)from) * element,
            (size_t)(to - from) * element);
    }
}

struct gemm {
    product shape; // of the first of the batch
    stored a, b, c;
    int batch;
};

stored of_batch(stored s, int i)
{
    s.data = (const char *)s.data + (long long)element_bytes(s.type) * s.step * i;
    return s;
}

void run_gemm(const gemm &g)
{
    for (int i = 0; i < g.batch; i++) {
        product p = g.shape;
        p.a.data = of_batch(g.a, i).data;
        p.b.data = of_batch(g.b, i).data;
        p.c = const_cast<void *>(of_batch(g.c, i).data);
        if (p.k > 0 && p.alpha != 0) {
            for_columns(of_batch(g.a, i), -1, check_written);
            for_columns(of_batch(g.b, i), -1, check_written);
        }
        multiply(p);
        // what is added to stays what it was: of a triangle on the diagonal nobody reads the other half
        if (p.beta == 0) for_columns(of_batch(g.c, i), -1, note_written);
    }
}

// The combinations that both cuBLAS and shardq know.
bool types_are_supported(const gemm &g)
{
    return g.a.type == g.b.type && (g.a.type == CUDA_R_32F ? g.c.type == CUDA_R_32F : true);
}

cublasStatus_t start_gemm(cublasHandle_t handle, const char *what, const gemm &g)
{
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (should_fail(kind::blas)) return CUBLAS_STATUS_EXECUTION_FAILED;
    if (g.shape.k < 0 || g.batch < 0 || !is_valid(what, g.a, g.batch) || !is_valid(what, g.b, g.batch) ||
        !is_valid(what, g.c, g.batch))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!types_are_supported(g)) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (g.shape.m == 0 || g.shape.n == 0 || g.batch == 0) return CUBLAS_STATUS_SUCCESS;
    return queue(handle, what, [g] { run_gemm(g); });
}
} // namespace
} // namespace cudasim

using namespace cudasim;

// --- handles -------------------------------------------------------------------------------------------------------

cublasStatus_t cublasCreate(cublasHandle_t *handle)
{
    if (should_fail(kind::create)) return CUBLAS_STATUS_ALLOC_FAILED;
    *handle = new cublasContext{};
    count_object("cuBLAS handles", 1);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle)
{
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    delete handle;
    count_object("cuBLAS handles", -1);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream)
{
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}

// The workspace is device memory of the caller; nothing here needs it.
cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void *workspace, size_t bytes)
{
    call guard;
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    if ((uintptr_t)workspace % 256 != 0 || (bytes > 0 && !is_device("cublasSetWorkspace", workspace, bytes)))
        return CUBLAS_STATUS_INVALID_VALUE;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t)
{
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetVersion(cublasHandle_t, int *version)
{
    *version = CUBLAS_VERSION;
    return CUBLAS_STATUS_SUCCESS;
}

const char *cublasGetStatusString(cublasStatus_t status)
{
    switch (status) {
    case CUBLAS_STATUS_SUCCESS:
        return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
        return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED:
        return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
        return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_EXECUTION_FAILED:
        return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_NOT_SUPPORTED:
        return "CUBLAS_STATUS_NOT_SUPPORTED";
    }
    return "an unknown status";
}

// --- products ------------------------------------------------------------------------------------------------------

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n,
                            int k, const void *alpha, const void *A, cudaDataType Atype, int lda, const void *B,
                            cudaDataType Btype, int ldb, const void *beta, void *C, cudaDataType Ctype, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t algorithm)
{
    return cublasGemmStridedBatchedEx(handle, transa, transb, m, n, k, alpha, A, Atype, lda, 0, B, Btype, ldb, 0, beta,
                                      C, Ctype, ldc, 0, 1, compute, algorithm);
}

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb,
                                          int m, int n, int k, const void *alpha, const void *A, cudaDataType Atype,
                                          int lda, long long int strideA, const void *B, cudaDataType Btype, int ldb,
                                          long long int strideB, const void *beta, void *C, cudaDataType Ctype, int ldc,
                                          long long int strideC, int batch, cublasComputeType_t compute,
                                          cublasGemmAlgo_t algorithm)
{
    call guard;
    if (!alpha || !beta || compute != CUBLAS_COMPUTE_32F || algorithm != CUBLAS_GEMM_DEFAULT)
        return CUBLAS_STATUS_INVALID_VALUE;
    const bool ta = transa != CUBLAS_OP_N, tb = transb != CUBLAS_OP_N;
    gemm g;
    g.a = {"A", A, Atype, ta ? k : m, ta ? m : k, lda, strideA};
    g.b = {"B", B, Btype, tb ? n : k, tb ? k : n, ldb, strideB};
    g.c = {"C", C, Ctype, m, n, ldc, strideC};
    g.shape = {m,
               n,
               k,
               {A, Atype == CUDA_R_16BF, ta, lda},
               {B, Btype == CUDA_R_16BF, tb, ldb},
               *(const float *)alpha,
               *(const float *)beta,
               C,
               Ctype == CUDA_R_16BF,
               ldc};
    g.batch = batch;
    return start_gemm(handle, batch == 1 ? "cublasGemmEx" : "cublasGemmStridedBatchedEx", g);
}

// --- triangular solves ---------------------------------------------------------------------------------------------

cublasStatus_t cublasStrsm(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t uplo, cublasOperation_t trans,
                           cublasDiagType_t diag, int m, int n, const float *alpha, const float *A, int lda, float *B,
                           int ldb)
{
    call guard;
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (should_fail(kind::blas)) return CUBLAS_STATUS_EXECUTION_FAILED;
    const bool left = side == CUBLAS_SIDE_LEFT;
    const int order = left ? m : n;
    const stored a = {"A", A, CUDA_R_32F, order, order, lda, 0}, b = {"B", B, CUDA_R_32F, m, n, ldb, 0};
    if (!alpha || !is_valid("cublasStrsm", a, 1) || !is_valid("cublasStrsm", b, 1)) return CUBLAS_STATUS_INVALID_VALUE;
    const triangular_solve s = {
        left, uplo == CUBLAS_FILL_MODE_UPPER, trans != CUBLAS_OP_N, diag == CUBLAS_DIAG_UNIT, m, n, *alpha, A, lda, B,
        ldb};
    return queue(handle, "cublasStrsm", [s, a, b] {
        for_columns(a, s.upper, check_written);
        for_columns(b, -1, check_written);
        solve(s);
    });
}
