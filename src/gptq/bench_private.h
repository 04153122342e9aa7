/* What the files of the measurement of rates share. */
#ifndef SQ_GPTQ_BENCH_PRIVATE_H
#define SQ_GPTQ_BENCH_PRIVATE_H

#include "gptq/bench.h"

/* Edge of the matrices; the stand-in for tests builds with a small one. */
#ifndef SQ_BENCH_WIDE
#define SQ_BENCH_WIDE 1024
#endif
#define SQ_BENCH_AREA ((int64_t)SQ_BENCH_WIDE * SQ_BENCH_WIDE)
#define SQ_BENCH_FIGURES ((int64_t)(SQ_BENCH_WIDE / 16 * SQ_SOLVE_ROWS_MAX))

/* A worker's memory; all but the last two in the backend's. */
struct sq_bench_room {
    float *a, *b, *c; /* [SQ_BENCH_AREA], [SQ_BENCH_AREA], [2 SQ_BENCH_AREA] */
    float *figures;   /* [SQ_BENCH_FIGURES]: scales, errors by row, factors */
    int32_t *order;   /* [SQ_BENCH_WIDE] */
    float *host;      /* [SQ_BENCH_AREA] */
    uint8_t *bytes;   /* [SQ_BENCH_AREA] */
};

/* One repetition of a case with pieces of this size. */
typedef enum sq_status sq_bench_fn(struct sq_backend *backend, const struct sq_bench_room *room, int64_t size);

struct sq_bench_case {
    sq_bench_fn *run;
    enum sq_work work;
    int64_t sizes[2]; /* the second is 0 where size does not matter */
    double amount;    /* of work that is no operation of a backend; else 0 */
};

/* In an order in which each finds what the ones before it have left (bench_cases.c). */
extern const struct sq_bench_case sq_bench_cases[];
extern const int sq_bench_n_cases;

/* bench.c: every rank's rates become those of the slowest. Collective. */
enum sq_status sq_bench_take_slowest(const struct sq_comm *comm, struct sq_rates *rates) SQ_MUST_CHECK;

/* Corrects rates by whole stages (bench_stages.c). values: [SQ_BENCH_AREA] numbers of either sign, in host memory. */
enum sq_status sq_bench_stages(struct sq_backend *backend, const float *values, struct sq_rates *rates) SQ_MUST_CHECK;

#endif
