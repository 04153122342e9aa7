#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "tensor/dry.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "tensor/dry_private.h"
#include "tensor/solve_ops.h"

const char *sq_work_name(enum sq_work work)
{
    static const char *const names[SQ_N_WORK] = {
        [SQ_WORK_BF16] = "bf16_product",   [SQ_WORK_F32] = "f32_product",   [SQ_WORK_ATTENTION] = "attention",
        [SQ_WORK_GRAM_BF16] = "bf16_gram", [SQ_WORK_GRAM_F32] = "f32_gram", [SQ_WORK_FACTOR] = "factor",
        [SQ_WORK_TILE] = "tile_product",   [SQ_WORK_DESCENT] = "descent",   [SQ_WORK_SEARCH] = "search",
        [SQ_WORK_QUANTIZE] = "quantize",   [SQ_WORK_CELLS] = "cells",       [SQ_WORK_MATH] = "math",
        [SQ_WORK_TURN] = "turn",           [SQ_WORK_STREAM] = "stream",     [SQ_WORK_COPY] = "copy",
        [SQ_WORK_READ] = "read_weights",   [SQ_WORK_PACK] = "pack_weights"};
    return names[work];
}

/* --- the clock ---------------------------------------------------------------------------------------------------- */

static struct sq_dry *dry_of(struct sq_backend *backend)
{
    return (struct sq_dry *)backend;
}

enum sq_status sq_dry_do(struct sq_backend *backend, enum sq_work work, double amount, int64_t size)
{
    struct sq_dry *dry = dry_of(backend);
    const struct sq_rate *rate = &dry->rates->of[work];
    double slowing = size > 0 ? 1 + rate->half / (double)size : 1;
    dry->work[work] += amount;
    dry->clock.starting += dry->rates->operation_seconds;
    if (amount > 0) dry->clock.working += amount * slowing / rate->per_second;
    return SQ_OK;
}

/* What ran outside of items goes by on the one clock. */
static void settle(struct sq_dry *dry)
{
    dry->seconds += dry->clock.starting + dry->clock.working;
    dry->clock = (struct sq_dry_clock){0, 0};
}

double sq_dry_seconds(const struct sq_backend *backend)
{
    const struct sq_dry *dry = (const struct sq_dry *)backend;
    return dry->seconds + dry->clock.starting + dry->clock.working;
}

const double *sq_dry_work(const struct sq_backend *backend)
{
    return ((const struct sq_dry *)backend)->work;
}

enum sq_status sq_dry_measure(struct sq_backend *backend, enum sq_status (*fn)(void *context), void *context,
                              struct sq_dry_span *span_p)
{
    struct sq_dry *dry = dry_of(backend);
    struct sq_dry_span span;
    settle(dry);
    memcpy(span.work, dry->work, sizeof span.work);
    SQ_TRY(fn(context));
    for (int i = 0; i < SQ_N_WORK; i++) {
        double work = dry->work[i] - span.work[i];
        dry->work[i] = span.work[i];
        span.work[i] = work;
    }
    span.starting = dry->clock.starting;
    span.working = dry->clock.working;
    dry->clock = (struct sq_dry_clock){0, 0};
    *span_p = span;
    return SQ_OK;
}

void sq_dry_spend(struct sq_backend *backend, const struct sq_dry_span *span)
{
    struct sq_dry *dry = dry_of(backend);
    dry->clock.starting += span->starting;
    dry->clock.working += span->working;
    for (int i = 0; i < SQ_N_WORK; i++)
        dry->work[i] += span->work[i];
}

enum sq_status sq_dry_elsewhere(struct sq_backend *backend, enum sq_status (*fn)(void *context), void *context,
                                double *seconds_p)
{
    struct sq_dry *dry = dry_of(backend);
    double work[SQ_N_WORK];
    settle(dry);
    double since = dry->seconds;
    memcpy(work, dry->work, sizeof work);
    SQ_TRY(fn(context));
    settle(dry);
    *seconds_p = dry->seconds - since;
    dry->seconds = since;
    memcpy(dry->work, work, sizeof work);
    return SQ_OK;
}

void sq_dry_wait(struct sq_backend *backend, double seconds)
{
    struct sq_dry *dry = dry_of(backend);
    settle(dry);
    dry->seconds += seconds;
}

/* Gives an item to the worker that is free first; returns when that one has done it. */
static double deal_out(struct sq_dry *dry, double seconds)
{
    int first = 0;
    for (int w = 1; w < dry->base.n_workers; w++)
        if (dry->free_at[w] < dry->free_at[first]) first = w;
    return dry->free_at[first] += seconds;
}

enum sq_status sq_dry_parallel(struct sq_backend *backend, int64_t count, sq_item_fn *fn, void *context)
{
    struct sq_dry *dry = dry_of(backend);
    double end = 0, working = 0;
    settle(dry);
    memset(dry->free_at, 0, (size_t)backend->n_workers * sizeof *dry->free_at);
    for (int64_t i = 0; i < count; i++) {
        SQ_TRY(fn(context, i, 0));
        double done = deal_out(dry, dry->clock.starting + dry->clock.working);
        if (done > end) end = done;
        working += dry->clock.working;
        dry->clock = (struct sq_dry_clock){0, 0};
    }
    /* workers of a device have its speed together */
    dry->seconds += (!backend->is_host && working > end ? working : end) + dry->rates->parallel_seconds;
    return SQ_OK;
}

/* --- uploads beside the work ------------------------------------------------------------------------------------- */

enum sq_status sq_dry_send(struct sq_backend *backend, int lane, const void *host, size_t bytes, void *memory)
{
    (void)host, (void)memory;
    struct sq_dry *dry = dry_of(backend);
    double start = sq_dry_seconds(backend);
    for (int other = 0; other < SQ_LANES; other++)
        if (dry->sent_at[other] > start) start = dry->sent_at[other];
    dry->work[SQ_WORK_COPY] += (double)bytes;
    dry->sent_at[lane] = start + (double)bytes / dry->rates->of[SQ_WORK_COPY].per_second;
    return SQ_OK;
}

enum sq_status sq_dry_sent(struct sq_backend *backend, int lane)
{
    struct sq_dry *dry = dry_of(backend);
    settle(dry);
    if (dry->sent_at[lane] > dry->seconds) dry->seconds = dry->sent_at[lane];
    return SQ_OK;
}

/* --- memory ------------------------------------------------------------------------------------------------------- */

/* A page with the size stands before the memory itself. */
struct region {
    size_t bytes;
};
#define REGION_HEAD ((size_t)65536) /* whole pages, whatever their size */

static enum sq_status map(const char *what, size_t bytes, int protection, void **memory_p)
{
    char text[16];
    void *memory = mmap(NULL, REGION_HEAD + bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    bool is_there = memory != MAP_FAILED;
    if (!is_there || mprotect(memory, REGION_HEAD, PROT_READ | PROT_WRITE) != 0) {
        sq_error("cannot reserve addresses of %s for %s: %s", sq_size_format((double)bytes, text), what,
                 strerror(errno));
        if (is_there) munmap(memory, REGION_HEAD + bytes);
        return SQ_ERR_MEMORY;
    }
    *(struct region *)memory = (struct region){REGION_HEAD + bytes};
    *memory_p = (char *)memory + REGION_HEAD;
    return SQ_OK;
}

/* Addresses alone, with zeros should anyone look. As nobody can write there they count as no memory, not even where the
 * system promises no more than it has (vm.overcommit_memory = 2). */
enum sq_status sq_dry_alloc(struct sq_backend *backend, const char *what, size_t bytes, void **memory_p)
{
    (void)backend;
    return map(what, bytes, PROT_READ, memory_p);
}

/* Host memory is the host's: what is read from files is really written there. */
enum sq_status sq_dry_alloc_host(struct sq_backend *backend, const char *what, size_t bytes, void **memory_p)
{
    (void)backend;
    return map(what, bytes, PROT_READ | PROT_WRITE, memory_p);
}

void sq_dry_free(struct sq_backend *backend, void *memory)
{
    (void)backend;
    if (!memory) return;
    struct region *region = (struct region *)(void *)((char *)memory - REGION_HEAD);
    munmap(region, region->bytes);
}

/* --- creation ----------------------------------------------------------------------------------------------------- */

void sq_dry_destroy(struct sq_backend *backend)
{
    sq_free(dry_of(backend)->free_at);
    sq_free(backend);
}

enum sq_status sq_backend_create_dry(const struct sq_backend_traits *traits, int n_workers,
                                     const struct sq_rates *rates, struct sq_backend **backend_p)
{
    void *memory = NULL, *free_at = NULL;
    int workers = n_workers > 0 ? n_workers : traits->n_workers > 0 ? traits->n_workers : 1;
    SQ_TRY(sq_alloc("a dry backend", 1, sizeof(struct sq_dry), &memory));
    struct sq_dry *dry = memory;
    enum sq_status status = sq_alloc("workers of a dry backend", workers, sizeof *dry->free_at, &free_at);
    if (status != SQ_OK) {
        sq_free(dry);
        return status;
    }
    dry->base = (struct sq_backend){.ops = &sq_dry_ops,
                                    .traits = traits,
                                    .sizes = traits->sizes,
                                    .n_workers = workers,
                                    .is_host = traits->is_host,
                                    .has_bf16 = rates->of[SQ_WORK_BF16].per_second > 0,
                                    .bf16_is_faster = sq_rates_bf16_is_faster(rates),
                                    .isa = "dry"};
    dry->rates = rates;
    dry->free_at = free_at;
    *backend_p = &dry->base;
    return SQ_OK;
}
