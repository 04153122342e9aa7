/* The CUDA backend: its table, its device, and its workers. */
#include "cuda/cuda_backend.h"

#include <omp.h>
#include <stdio.h>

#include "base/log.h"
#include "base/memory.h"
#include "cuda/cuda_private.h"
#include "tensor/beside.h"

struct sq_cuda_worker *sq_cuda_worker(struct sq_backend *backend)
{
    return &((struct sq_cuda *)backend)->workers[omp_get_thread_num()];
}

/* --- execution ---------------------------------------------------------------------------------------------------- */

static int worse(int a, int b)
{
    return a > b ? a : b;
}

/* One for each item as far as there are workers; two at least where something goes on beside them. */
static int count_threads(const struct sq_backend *backend, int64_t count)
{
    int64_t wanted = backend->beside.step && count < 2 ? 2 : count;
    return wanted < backend->n_workers ? (int)wanted : backend->n_workers;
}

/* By this thread's worker. */
static enum sq_status run_item(struct sq_backend *backend, sq_item_fn *fn, void *context, int64_t index)
{
    struct sq_cuda_worker *worker = sq_cuda_worker(backend);
    SQ_TRY(sq_cuda_timer_begin(&worker->timer, worker->stream));
    SQ_TRY(fn(context, index, omp_get_thread_num()));
    return sq_cuda_timer_end(&worker->timer, worker->stream, 0);
}

static enum sq_status cuda_parallel(struct sq_backend *backend, int64_t count, sq_item_fn *fn, void *context)
{
    struct sq_cuda *cuda = (struct sq_cuda *)backend;
    int worst = SQ_OK;
    atomic_llong n_left = count;
    SQ_TRY(sq_cuda_wait(sq_cuda_worker(backend), "waiting for what came before"));
    if (count == 0) return SQ_OK;
    SQ_TRY(sq_cuda_timeline_start(cuda));
    cuda->is_parallel = true;
#pragma omp parallel num_threads(count_threads(backend, count)) reduction(max : worst)
    {
        int device = (int)sq_cuda_checked(cudaSetDevice(cuda->device), "choosing the device");
        if (omp_get_thread_num() == 0 && omp_get_num_threads() > 1) sq_beside_run(&backend->beside, &n_left);
#pragma omp for schedule(dynamic, 1) nowait
        for (int64_t i = 0; i < count; i++) {
            worst = worse(worst, device == SQ_OK ? (int)run_item(backend, fn, context, i) : device);
            atomic_fetch_sub_explicit(&n_left, 1, memory_order_relaxed);
        }
        worst = worse(worst, (int)sq_cuda_wait_all(sq_cuda_worker(backend), "running kernels"));
    }
    cuda->is_parallel = false;
    return (enum sq_status)worse(worst, (int)sq_cuda_timeline_show(cuda));
}

/* --- creation ----------------------------------------------------------------------------------------------------- */

static void cuda_destroy(struct sq_backend *backend)
{
    struct sq_cuda *cuda = (struct sq_cuda *)backend;
    sq_cuda_beside_destroy(cuda);
    for (int w = 0; w < cuda->n_made; w++)
        sq_cuda_worker_destroy(&cuda->workers[w]);
    sq_free(cuda->workers);
    sq_free(cuda);
}

static const struct sq_backend_ops cuda_ops = {
    .name = "cuda",
    .destroy = cuda_destroy,
    .alloc = sq_cuda_alloc,
    .free = sq_cuda_free,
    .upload = sq_cuda_upload,
    .download = sq_cuda_download,
    .alloc_host = sq_cuda_alloc_host,
    .free_host = sq_cuda_free_host,
    .copy = sq_cuda_copy,
    .clear = sq_cuda_clear,
    .fetch = sq_cuda_fetch_out,
    .settle = sq_cuda_settle,
    .send = sq_cuda_send,
    .sent = sq_cuda_sent,
    .receive = sq_cuda_receive,
    .parallel = cuda_parallel,
    .linear = sq_cuda_linear,
    .matmul = sq_cuda_matmul,
    .matmul_split = sq_cuda_matmul_split,
    .column_squares = sq_cuda_column_squares,
    .gram_pack = sq_cuda_gram_pack,
    .gram_add = sq_cuda_gram_add,
    .fixed_get = sq_cuda_fixed_get,
    .mirror = sq_cuda_mirror,
    .potrf = sq_cuda_potrf,
    .trsm = sq_cuda_trsm,
    .update = sq_cuda_update,
    .take_rows = sq_cuda_take_rows,
    .norm = sq_cuda_norm,
    .rope = sq_cuda_rope,
    .attention = sq_cuda_attention,
    .attention_scratch = sq_cuda_attention_scratch,
    .activate = sq_cuda_activate,
    .add = sq_cuda_add,
    .rescale = sq_cuda_rescale,
    .convert = sq_cuda_convert,
    .copy_parts = sq_cuda_copy_parts,
    .all_finite = sq_cuda_all_finite,
    .softmax_fold = sq_cuda_softmax_fold,
    .pick = sq_cuda_pick,
    .route = sq_cuda_route,
    .gather_rows = sq_cuda_gather_rows,
    .add_rows = sq_cuda_add_rows,
    .gate_rows = sq_cuda_gate_rows,
    .solve = &sq_cuda_solve_ops,
};

/* cuBLAS gives the same bits where the compute capability and the number of multiprocessors are the same. */
static enum sq_status describe(struct sq_cuda *cuda)
{
    int n_multiprocessors = 0, runtime = 0, blas = 0;
    SQ_TRY(sq_cuda_checked(cudaDeviceGetAttribute(&n_multiprocessors, cudaDevAttrMultiProcessorCount, cuda->device),
                           "asking for the multiprocessors"));
    SQ_TRY(sq_cuda_checked(cudaRuntimeGetVersion(&runtime), "asking for the version"));
    SQ_TRY(sq_cublas_checked(cublasGetVersion(cuda->workers[0].blas, &blas), "asking for the version"));
    int capability = sq_cuda_capability(cuda->device);
    cuda->is_split = sq_cuda_is_split(capability);
    snprintf(cuda->isa, sizeof cuda->isa, "sm_%dx%d", capability, n_multiprocessors);
    snprintf(cuda->base.libraries, sizeof cuda->base.libraries, "CUDA %d.%d, cuBLAS %d", runtime / 1000,
             runtime % 1000 / 10, blas);
    cuda->base.isa = cuda->isa;
    return SQ_OK;
}

static enum sq_status start(struct sq_cuda *cuda)
{
    void *memory = NULL;
    SQ_TRY(sq_cuda_checked(cudaSetDevice(cuda->device), "choosing the device"));
    SQ_TRY(sq_alloc("workers", cuda->base.n_workers, sizeof *cuda->workers, &memory));
    cuda->workers = memory;
    cuda->n_made = cuda->base.n_workers;
    for (int w = 0; w < cuda->n_made; w++)
        SQ_TRY(sq_cuda_worker_create(&cuda->workers[w]));
    SQ_TRY(sq_cuda_beside_create(cuda));
    return describe(cuda);
}

enum sq_status sq_backend_create_cuda(int device, int n_workers, struct sq_backend **backend_p)
{
    void *memory = NULL;
    SQ_TRY(sq_alloc("the CUDA backend", 1, sizeof(struct sq_cuda), &memory));
    struct sq_cuda *cuda = memory;
    cuda->base = (struct sq_backend){.ops = &cuda_ops,
                                     .traits = &sq_cuda_traits,
                                     .sizes = sq_cuda_traits.sizes,
                                     .has_bf16 = true, /* kernels/built.cu */
                                     .bf16_is_faster = true,
                                     .n_workers = n_workers > 0 ? n_workers : sq_cuda_traits.n_workers};
    cuda->device = device;
    enum sq_status status = start(cuda);
    if (status != SQ_OK) {
        cuda_destroy(&cuda->base);
        return status;
    }
    *backend_p = &cuda->base;
    return SQ_OK;
}
