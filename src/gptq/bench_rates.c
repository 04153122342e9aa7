/* Rates of each kind of work. The same operations on a dry backend say how much work they were. */
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "gptq/bench_private.h"

static bool can_run(const struct sq_backend *backend, const struct sq_bench_case *c)
{
    if (c->work == SQ_WORK_BF16 || c->work == SQ_WORK_GRAM_BF16) return backend->has_bf16;
    return c->work != SQ_WORK_COPY || !backend->is_host;
}

/* Work of one repetition, as a dry backend of the same kind counts it. */
static enum sq_status count_work(const struct sq_backend *backend, const struct sq_bench_case *c, int64_t size,
                                 double *amount_p)
{
    struct sq_rates rates = {.operation_seconds = 0};
    struct sq_backend *dry;
    struct sq_bench_room nowhere = {0};
    *amount_p = c->amount;
    if (c->amount > 0) return SQ_OK;
    for (int i = 0; i < SQ_N_WORK; i++)
        rates.of[i].per_second = 1;
    /* so that the dry backend says of bf16 what this one says */
    rates.of[SQ_WORK_BF16].per_second = backend->bf16_is_faster ? 2 : backend->has_bf16;
    SQ_TRY(sq_backend_create_dry(backend->traits, 1, &rates, &dry));
    enum sq_status status = c->run(dry, &nowhere, size);
    *amount_p = sq_dry_work(dry)[c->work];
    dry->ops->destroy(dry);
    return status;
}

/* --- measuring ---------------------------------------------------------------------------------------------------- */

#define ROUNDS 3
#define LOOK 0.01 /* seconds at least between two looks at the clock, once it is known how many repetitions that is */

struct measuring {
    struct sq_backend *backend;
    const struct sq_bench_case *c;
    int64_t size;
    const struct sq_bench_room *rooms;
    int64_t *counts; /* [workers] */
    double until;
};

/* A device's operations are queued: it has done them when a number comes back. */
static enum sq_status repeat(const struct measuring *m, const struct sq_bench_room *room, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        SQ_TRY(m->c->run(m->backend, room, m->size));
    if (m->backend->is_host) return SQ_OK;
    return m->backend->ops->download(m->backend, room->figures, sizeof(float), room->host);
}

/* An item lasts the whole round: each worker takes one. */
static enum sq_status run_for_a_while(void *context, int64_t index, int worker)
{
    const struct measuring *m = context;
    double now = sq_seconds(), before = now;
    (void)worker;
    for (int64_t batch = 1; m->counts[index] == 0 || now < m->until; batch *= now - before < LOOK ? 2 : 1) {
        before = now;
        SQ_TRY(repeat(m, &m->rooms[index], batch));
        m->counts[index] += batch;
        now = sq_seconds();
    }
    return SQ_OK;
}

/* Repetitions a second: of one worker where each computes for itself, of all together on a device. */
static enum sq_status run_round(struct measuring *m, double seconds, double *rate_p)
{
    int n = m->backend->n_workers;
    double started = sq_seconds(), count = 0;
    memset(m->counts, 0, (size_t)n * sizeof *m->counts);
    m->until = started + seconds;
    SQ_TRY(m->backend->ops->parallel(m->backend, n, run_for_a_while, m));
    for (int w = 0; w < n; w++)
        count += (double)m->counts[w];
    *rate_p = count / (m->backend->is_host ? n : 1) / (sq_seconds() - started);
    return SQ_OK;
}

/* Seconds per unit of work at one size: the middle of a few rounds. */
static enum sq_status measure_size(struct measuring *m, double seconds, double *unit_p)
{
    double amount, rates[ROUNDS], warm;
    SQ_TRY(count_work(m->backend, m->c, m->size, &amount));
    SQ_TRY(run_round(m, 0, &warm)); /* makes the library's kernels */
    for (int round = 0; round < ROUNDS; round++)
        SQ_TRY(run_round(m, seconds / ROUNDS, &rates[round]));
    double high = rates[0] > rates[1] ? rates[0] : rates[1], low = rates[0] + rates[1] - high;
    double middle = rates[2] > high ? high : rates[2] < low ? low : rates[2];
    *unit_p = 1 / (middle * amount);
    return SQ_OK;
}

/* unit(size) = (1 + half / size) / per_second through two sizes. */
static struct sq_rate fit(const int64_t sizes[2], const double units[2])
{
    double slope = (units[0] - units[1]) / (1 / (double)sizes[0] - 1 / (double)sizes[1]);
    double best = units[1] - slope / (double)sizes[1];
    if (slope <= 0 || best <= 0) return (struct sq_rate){1 / units[1], 0};
    return (struct sq_rate){1 / best, slope / best};
}

static enum sq_status measure_case(struct measuring *m, double seconds, struct sq_rate *rate_p)
{
    double units[2];
    m->size = m->c->sizes[0];
    SQ_TRY(measure_size(m, seconds, &units[0]));
    *rate_p = (struct sq_rate){1 / units[0], 0};
    if (m->c->sizes[1] == 0) return SQ_OK;
    m->size = m->c->sizes[1];
    SQ_TRY(measure_size(m, seconds, &units[1]));
    *rate_p = fit(m->c->sizes, units);
    return SQ_OK;
}

/* --- memory ------------------------------------------------------------------------------------------------------- */

#define ROOM_FLOATS (4 * SQ_BENCH_AREA + SQ_BENCH_FIGURES)
#define ROOM_BYTES ((size_t)ROOM_FLOATS * sizeof(float) + SQ_BENCH_WIDE * sizeof(int32_t))
#define HOST_BYTES ((size_t)SQ_BENCH_AREA * (sizeof(float) + 1))

/* Small numbers of either sign, the same every time. */
static void fill(float *values, int64_t count)
{
    uint32_t state = 1;
    for (int64_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        values[i] = 0.1f * ((float)(state >> 8) / (float)(1 << 24) - 0.5f);
    }
}

static enum sq_status fill_room(struct sq_backend *backend, char *memory, char *host, struct sq_bench_room *room)
{
    float *floats = (float *)(void *)memory;
    int32_t *order = (int32_t *)(void *)host;
    *room = (struct sq_bench_room){.a = floats,
                                   .b = floats + SQ_BENCH_AREA,
                                   .c = floats + 2 * SQ_BENCH_AREA,
                                   .figures = floats + 4 * SQ_BENCH_AREA,
                                   .order = (int32_t *)(void *)(floats + ROOM_FLOATS),
                                   .host = (float *)(void *)host,
                                   .bytes = (uint8_t *)host + (size_t)SQ_BENCH_AREA * sizeof(float)};
    for (int i = 0; i < SQ_BENCH_WIDE; i++)
        order[i] = (i * 5) % SQ_BENCH_WIDE;
    SQ_TRY(backend->ops->upload(backend, order, SQ_BENCH_WIDE * sizeof *order, room->order));
    fill(room->host, SQ_BENCH_AREA);
    memset(room->bytes, 7, (size_t)SQ_BENCH_AREA);
    SQ_TRY(backend->ops->upload(backend, room->host, (size_t)SQ_BENCH_AREA * sizeof(float), room->a));
    SQ_TRY(backend->ops->upload(backend, room->host, (size_t)SQ_BENCH_AREA * sizeof(float), room->b));
    return backend->ops->upload(backend, room->host, SQ_BENCH_FIGURES * sizeof(float), room->figures);
}

static enum sq_status do_nothing(void *context, int64_t index, int worker)
{
    (void)context;
    (void)index;
    (void)worker;
    return SQ_OK;
}

/* Starting the workers and waiting for the last of them. */
static enum sq_status measure_parallel(struct sq_backend *backend, double *seconds_p)
{
    enum { REPEAT = 200 };
    SQ_TRY(backend->ops->parallel(backend, backend->n_workers, do_nothing, NULL));
    double started = sq_seconds();
    for (int i = 0; i < REPEAT; i++)
        SQ_TRY(backend->ops->parallel(backend, backend->n_workers, do_nothing, NULL));
    *seconds_p = (sq_seconds() - started) / REPEAT;
    return SQ_OK;
}

static enum sq_status measure_all(struct sq_backend *backend, double seconds, const struct sq_bench_room *rooms,
                                  int64_t *counts, struct sq_rates *rates)
{
    for (int i = 0; i < sq_bench_n_cases; i++) {
        struct measuring m = {.backend = backend, .c = &sq_bench_cases[i], .rooms = rooms, .counts = counts};
        if (!can_run(backend, m.c)) continue;
        SQ_TRY(measure_case(&m, seconds, &rates->of[m.c->work]));
    }
    if (backend->is_host) rates->of[SQ_WORK_COPY] = rates->of[SQ_WORK_STREAM];
    return measure_parallel(backend, &rates->parallel_seconds);
}

enum sq_status sq_bench_rates(struct sq_backend *backend, double seconds, struct sq_rates *rates_p)
{
    int n = backend->n_workers;
    void *memory = NULL, *host = NULL, *rooms = NULL;
    struct sq_rates rates = {.operation_seconds = 0}; /* it is in the rates of small pieces */
    size_t counts_bytes = (size_t)n * sizeof(int64_t);
    enum sq_status status = backend->ops->alloc(backend, "matrices to measure rates with", n * ROOM_BYTES, &memory);
    if (status == SQ_OK) status = backend->ops->alloc_host(backend, "values to measure with", n * HOST_BYTES, &host);
    if (status == SQ_OK)
        status = sq_alloc("rooms of workers", n, sizeof(struct sq_bench_room) + sizeof(int64_t), &rooms);
    int64_t *counts = rooms;
    struct sq_bench_room *list = (struct sq_bench_room *)(void *)((char *)rooms + counts_bytes);
    for (int w = 0; w < n && status == SQ_OK; w++)
        status = fill_room(backend, (char *)memory + (size_t)w * ROOM_BYTES, (char *)host + (size_t)w * HOST_BYTES,
                           &list[w]);
    if (status == SQ_OK) status = measure_all(backend, seconds, list, counts, &rates);
    if (status == SQ_OK) {
        fill(list[0].host, SQ_BENCH_AREA); /* cases have written there */
        status = sq_bench_stages(backend, list[0].host, &rates);
    }
    sq_free(rooms);
    backend->ops->free_host(backend, host);
    backend->ops->free(backend, memory);
    if (status != SQ_OK) return status;
    *rates_p = rates;
    return SQ_OK;
}
