/* The CPU backend: its table, its memory, and its workers (OpenMP threads). */
#include <dnnl.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/node.h"
#include "tensor/beside.h"
#include "tensor/cpu_isa.h"
#include "tensor/cpu_private.h"
#include "tensor/solve_ops.h"
#include "tensor/traits.h"

/* OpenBLAS ships no header of these under Debian's generic BLAS */
void openblas_set_num_threads(int n_threads);
char *openblas_get_config(void);
char *openblas_get_corename(void);

static enum sq_status cpu_alloc(struct sq_backend *backend, const char *what, size_t bytes, void **memory_p)
{
    (void)backend;
    return sq_alloc(what, (int64_t)bytes, 1, memory_p);
}

static void cpu_free(struct sq_backend *backend, void *memory)
{
    (void)backend;
    sq_free(memory);
}

static enum sq_status cpu_upload(struct sq_backend *backend, const void *host, size_t bytes, void *memory)
{
    (void)backend;
    if (memory != host) memcpy(memory, host, bytes);
    return SQ_OK;
}

static enum sq_status cpu_download(struct sq_backend *backend, const void *memory, size_t bytes, void *host)
{
    (void)backend;
    if (memory != host) memcpy(host, memory, bytes);
    return SQ_OK;
}

/* Copies are done at once. */
static enum sq_status cpu_send(struct sq_backend *backend, int lane, const void *host, size_t bytes, void *memory)
{
    (void)lane;
    return cpu_upload(backend, host, bytes, memory);
}

static enum sq_status cpu_sent(struct sq_backend *backend, int lane)
{
    (void)backend, (void)lane;
    return SQ_OK;
}

static enum sq_status cpu_settle(struct sq_backend *backend)
{
    (void)backend;
    return SQ_OK;
}

static enum sq_status cpu_copy(struct sq_backend *backend, const void *source, size_t bytes, void *target)
{
    (void)backend;
    memcpy(target, source, bytes);
    return SQ_OK;
}

static enum sq_status cpu_clear(struct sq_backend *backend, void *memory, size_t bytes)
{
    (void)backend;
    memset(memory, 0, bytes);
    return SQ_OK;
}

static enum sq_status cpu_parallel(struct sq_backend *backend, int64_t count, sq_item_fn *fn, void *context)
{
    int worst = SQ_OK;
    atomic_llong n_left = count;
#pragma omp parallel num_threads(backend->n_workers) reduction(max : worst)
    {
        if (omp_get_thread_num() == 0 && omp_get_num_threads() > 1) sq_beside_run(&backend->beside, &n_left);
#pragma omp for schedule(dynamic, 1) nowait
        for (int64_t i = 0; i < count; i++) {
            int status = (int)fn(context, i, omp_get_thread_num());
            if (status > worst) worst = status;
            atomic_fetch_sub_explicit(&n_left, 1, memory_order_relaxed);
        }
    }
    return (enum sq_status)worst;
}

float *sq_cpu_room(struct sq_backend *backend)
{
    return ((struct sq_cpu *)backend)->rooms + (int64_t)omp_get_thread_num() * SQ_CPU_ROOM;
}

static void cpu_destroy(struct sq_backend *backend)
{
    struct sq_cpu *cpu = (struct sq_cpu *)backend;
    sq_cpu_gemm_destroy(cpu->gemm);
    sq_free(cpu->rooms);
    sq_free(cpu);
}

static const struct sq_backend_ops cpu_ops = {
    .name = "cpu",
    .destroy = cpu_destroy,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .upload = cpu_upload,
    .download = cpu_download,
    .alloc_host = cpu_alloc,
    .free_host = cpu_free,
    .copy = cpu_copy,
    .clear = cpu_clear,
    .fetch = cpu_download,
    .settle = cpu_settle,
    .send = cpu_send,
    .sent = cpu_sent,
    .receive = cpu_settle,
    .parallel = cpu_parallel,
    .linear = sq_cpu_linear,
    .matmul = sq_cpu_matmul,
    .matmul_split = sq_cpu_matmul,
    .column_squares = sq_cpu_column_squares,
    .gram_pack = sq_cpu_gram_pack,
    .gram_add = sq_cpu_gram_add,
    .fixed_get = sq_cpu_fixed_get,
    .mirror = sq_cpu_mirror,
    .potrf = sq_cpu_potrf,
    .trsm = sq_cpu_trsm,
    .update = sq_cpu_update,
    .take_rows = sq_cpu_take_rows,
    .norm = sq_cpu_norm,
    .rope = sq_cpu_rope,
    .attention = sq_cpu_attention,
    .attention_scratch = sq_cpu_attention_scratch,
    .activate = sq_cpu_activate,
    .add = sq_cpu_add,
    .rescale = sq_cpu_rescale,
    .convert = sq_cpu_convert,
    .copy_parts = sq_cpu_copy_parts,
    .all_finite = sq_cpu_all_finite,
    .softmax_fold = sq_cpu_softmax_fold,
    .pick = sq_cpu_pick,
    .route = sq_cpu_route,
    .gather_rows = sq_cpu_gather_rows,
    .add_rows = sq_cpu_add_rows,
    .gate_rows = sq_cpu_gate_rows,
    .solve = &sq_cpu_solve_ops,
};

/* What stays in the caches of one core while a worker has it in hand. */
const struct sq_backend_traits sq_cpu_traits = {.name = "cpu",
                                                .sizes = {.solve_rows = SQ_SOLVE_ROWS,
                                                          .solve_columns = 1,
                                                          .factor_tile = 128,
                                                          .factor_rows = 128,
                                                          .hessian_panel = SQ_GRAM_ROOM_ROWS,
                                                          .hessian_tokens = SQ_GRAM_ROWS,
                                                          .hessian_packed = (int64_t)2 << 20,
                                                          .hessian_slice = (int64_t)10 << 20,
                                                          .expert_rows = 128},
                                                .is_host = true,
                                                .spread_inputs = 1024,
                                                .worker_bytes = SQ_CPU_ROOM * sizeof(float),
                                                .attention_scratch = sq_cpu_attention_scratch_bytes};

/* The kernel variants, best first; the last one runs everywhere. */
struct variant {
    enum sq_isa id;
    const char *isa;
    dnnl_cpu_isa_t onednn; /* the best that oneDNN may then use */
    const struct sq_forward_kernels *forward;
    const struct sq_solve_kernels *solve;
    const struct sq_hessian_kernels *hessian;
    const struct sq_gram_kernels *gram;
    const struct sq_attention_kernels *attention;
};

#define KERNELS(isa)                                                                                                   \
    &sq_forward_kernels_##isa, &sq_solve_kernels_##isa, &sq_hessian_kernels_##isa, &sq_gram_kernels_##isa,             \
        &sq_attention_kernels_##isa

static const struct variant variants[] = {
#ifdef SQ_X86_KERNELS
    {SQ_ISA_AMX, "amx", dnnl_cpu_isa_avx512_core_amx, KERNELS(amx)},
    {SQ_ISA_AVX512BF16, "avx512bf16", dnnl_cpu_isa_avx512_core_bf16, KERNELS(avx512bf16)},
    {SQ_ISA_AVX512, "avx512", dnnl_cpu_isa_avx512_core, KERNELS(avx512)},
    {SQ_ISA_AVX2, "avx2", dnnl_cpu_isa_avx2, KERNELS(avx2)},
#endif
    {SQ_ISA_GENERIC, "generic", dnnl_cpu_isa_sse41, KERNELS(generic)},
};

static const char *const names[] = {[SQ_ISA_AMX] = "amx",
                                    [SQ_ISA_AVX512BF16] = "avx512bf16",
                                    [SQ_ISA_AVX512] = "avx512",
                                    [SQ_ISA_AVX2] = "avx2",
                                    [SQ_ISA_GENERIC] = "generic"};

/* Where one was asked for, oneDNN is held to it, too; it takes that only before its first use in a process. */
static enum sq_status choose_variant(enum sq_isa isa, const struct variant **variant_p)
{
    const struct variant *v = variants;
    while (isa == SQ_ISA_BEST ? !sq_cpu_has(v->id) : v->id != isa && v->id != SQ_ISA_GENERIC)
        v++;
    *variant_p = v;
    if (isa == SQ_ISA_BEST) return SQ_OK;
    if (v->id != isa || !sq_cpu_has(v->id)) {
        sq_error("--isa %s: this processor, or this program, does not have the instruction set", names[isa]);
        return SQ_ERR_USAGE;
    }
    if (dnnl_set_max_cpu_isa(v->onednn) == dnnl_success || dnnl_get_effective_cpu_isa() == v->onednn) return SQ_OK;
    sq_error("--isa %s: oneDNN cannot be held to it", v->isa);
    return SQ_ERR_LIBRARY;
}

static void name_libraries(char *text, size_t size)
{
    const dnnl_version_t *dnnl = dnnl_version();
    char blas[16] = "";
    sscanf(openblas_get_config(), "OpenBLAS %15s", blas);
    snprintf(text, size, "oneDNN %d.%d.%d (instructions 0x%x), OpenBLAS %s %s", dnnl->major, dnnl->minor, dnnl->patch,
             (unsigned)dnnl_get_effective_cpu_isa(), blas, openblas_get_corename());
}

enum sq_status sq_backend_create_cpu(int n_threads, enum sq_isa isa, struct sq_backend **backend_p)
{
    const struct variant *variant;
    SQ_TRY(choose_variant(isa, &variant));
    void *memory = NULL, *rooms = NULL;
    SQ_TRY(sq_alloc("the CPU backend", 1, sizeof(struct sq_cpu), &memory));
    struct sq_cpu *cpu = memory;
    cpu->base =
        (struct sq_backend){.ops = &cpu_ops,
                            .traits = &sq_cpu_traits,
                            .sizes = sq_cpu_traits.sizes,
                            .n_workers = n_threads > 0 ? n_threads : sq_node_processors(),
                            .is_host = true,
                            .has_bf16 = sq_cpu_has_bf16(),
                            .bf16_is_faster = sq_cpu_bf16_is_faster(variant->id),
                            .isa = variant->isa,
                            .held = dnnl_get_effective_cpu_isa() == variant->onednn ? variant->id : SQ_ISA_BEST};
    cpu->forward = variant->forward;
    cpu->solve = variant->solve;
    cpu->hessian = variant->hessian;
    cpu->gram = variant->gram;
    cpu->attention = variant->attention;
    name_libraries(cpu->base.libraries, sizeof cpu->base.libraries);
    enum sq_status status = sq_alloc("workers' rooms", cpu->base.n_workers, sq_cpu_traits.worker_bytes, &rooms);
    cpu->rooms = rooms;
    if (status == SQ_OK) status = sq_cpu_gemm_create(cpu->base.n_workers, &cpu->gemm);
    if (status != SQ_OK) {
        sq_free(cpu->rooms);
        sq_free(cpu);
        return status;
    }
    omp_set_max_active_levels(1); /* libraries called by a worker stay on that worker's thread */
    openblas_set_num_threads(1);
    *backend_p = &cpu->base;
    return SQ_OK;
}
