/* Whole stages on all workers, where what a kernel does alone says too little: there matrices come from memory, and
 * workers wait for each other. The main kind of work of a stage gets the time that the other kinds do not explain. */
#include "base/clock.h"
#include "gptq/bench_private.h"
#include "gptq/factor.h"
#include "gptq/hessian.h"
#include "gptq/solve.h"

#define N SQ_BENCH_WIDE
#define SAMPLES 8
#define LENGTH (N / 2)
#define GROUP 64
#define REPEAT 8

/* What the stages share, on a real or a dry backend. */
struct stages {
    struct sq_backend *backend;
    struct sq_shards shards;
    struct sq_matrix x; /* [SAMPLES * LENGTH, N] */
    struct sq_hessian_workspace hessian;
    struct sq_factor factor;
    struct sq_solve_options options;
    size_t tile_bytes; /* of a worker: weights, then the solver's scratch */
    char *tiles;       /* [workers, tile_bytes] */
    char *results;     /* host [workers] of a tile's codes, zeros, scales and figures */
};

/* --- the stages --------------------------------------------------------------------------------------------------- */

typedef enum sq_status stage_fn(struct stages *stages);

static enum sq_status make_hessian(struct stages *s)
{
    const struct sq_comm alone = {.size = 1};
    const struct sq_hessian_inputs inputs = {&s->shards, LENGTH, s->x, false};
    return sq_hessian_make(s->backend, &alone, -1, "a layer", &inputs, &s->hessian,
                           sq_matrix_view(s->factor.hessian.data, SQ_F32, N, N));
}

static enum sq_status make_factor(struct stages *s)
{
    const struct sq_comm alone = {.size = 1};
    s->factor.hessian = sq_matrix_view(s->factor.hessian.data, SQ_F32, N, N);
    return sq_factor_make(s->backend, &alone, N, SQ_ORDER_ACTIVATION, 0.01, &s->factor);
}

/* Figures, scales, then codes and zeros. */
static size_t result_bytes(const struct sq_backend *backend)
{
    return (size_t)backend->sizes.solve_rows * (3 * sizeof(double) + N / GROUP * (sizeof(float) + 1) + N);
}

static enum sq_status solve_tile(void *context, int64_t index, int worker)
{
    const struct stages *s = context;
    int64_t rows = s->backend->sizes.solve_rows;
    char *tile = s->tiles + (size_t)worker * s->tile_bytes;
    double *figures = (double *)(void *)(s->results + (size_t)worker * result_bytes(s->backend));
    float *scales = (float *)(void *)(figures + 3 * rows);
    uint8_t *codes = (uint8_t *)(scales + rows * N / GROUP);
    struct sq_solve_result out = {.codes = codes,
                                  .zeros = codes + rows * N,
                                  .scales = scales,
                                  .error = figures,
                                  .error_rtn = figures + rows,
                                  .norm = figures + 2 * rows};
    size_t bytes = (size_t)(rows * N) * sizeof(float);
    (void)index;
    SQ_TRY(s->backend->ops->copy(s->backend, s->x.data, bytes, tile));
    return sq_solve_tile(s->backend, &s->factor, &s->options, sq_matrix_view(tile, SQ_F32, rows, N), tile + bytes,
                         &out);
}

static enum sq_status solve_tiles(struct stages *s)
{
    return s->backend->ops->parallel(s->backend, 4 * s->backend->n_workers, solve_tile, s);
}

/* In this order: each needs what those before it have made. The tiles' weights are x, as f32. */
static const struct {
    stage_fn *run;
    enum sq_work work;
    enum sq_dtype x;
} stages_list[] = {
    {make_hessian, SQ_WORK_GRAM_BF16, SQ_BF16},
    {make_hessian, SQ_WORK_GRAM_F32, SQ_F32},
    {make_factor, SQ_WORK_FACTOR, SQ_F32},
    {solve_tiles, SQ_WORK_TILE, SQ_F32},
};
#define N_STAGES ((int)(sizeof stages_list / sizeof *stages_list))

/* --- memory ------------------------------------------------------------------------------------------------------- */

static enum sq_status take_memory(struct stages *s)
{
    struct sq_backend *backend = s->backend;
    void *memory = NULL;
    int64_t rows = backend->sizes.solve_rows, n_workers = backend->n_workers;
    s->shards = sq_shards_make(SAMPLES, SAMPLES, 0, 1);
    s->options =
        (struct sq_solve_options){.static_groups = true,
                                  .refine = 1,
                                  .grid = {.bits = 4, .symmetric = true, .group_size = GROUP, .scale_dtype = SQ_F16}};
    s->tile_bytes = (size_t)(rows * N) * sizeof(float) + sq_solve_scratch_bytes(&backend->sizes, &s->options, N);
    SQ_TRY(backend->ops->alloc(backend, "inputs to measure with", SAMPLES * LENGTH * N * sizeof(float), &memory));
    s->x = sq_matrix_view(memory, SQ_F32, SAMPLES * LENGTH, N);
    SQ_TRY(sq_hessian_create(backend, N, &(struct sq_hessian_rooms){0}, &s->hessian));
    SQ_TRY(sq_factor_create(backend, N, SQ_FACTOR_ALONE, &s->factor));
    SQ_TRY(backend->ops->alloc(backend, "tiles to measure with", (size_t)n_workers * s->tile_bytes, &memory));
    s->tiles = memory;
    SQ_TRY(backend->ops->alloc_host(backend, "results to measure with", (size_t)n_workers * result_bytes(backend),
                                    &memory));
    s->results = memory;
    return SQ_OK;
}

static void give_back(struct stages *s)
{
    s->backend->ops->free_host(s->backend, s->results);
    s->backend->ops->free(s->backend, s->tiles);
    sq_factor_destroy(s->backend, &s->factor);
    sq_hessian_destroy(s->backend, &s->hessian);
    s->backend->ops->free(s->backend, s->x.data);
}

/* x in this type: values [SQ_BENCH_AREA] over and over. */
static enum sq_status fill(struct stages *s, const float *values, enum sq_dtype dtype)
{
    struct sq_matrix area = sq_matrix_view(s->factor.hessian.data, SQ_F32, N, N);
    s->x = sq_matrix_view(s->x.data, dtype, SAMPLES * LENGTH, N);
    SQ_TRY(s->backend->ops->upload(s->backend, values, SQ_BENCH_AREA * sizeof(float), area.data));
    for (int64_t row = 0; row < s->x.rows; row += N) {
        struct sq_matrix part = sq_matrix_part(s->x, row, N, 0, N);
        if (dtype == SQ_BF16)
            SQ_TRY(s->backend->ops->convert(s->backend, area, part));
        else
            SQ_TRY(s->backend->ops->copy(s->backend, area.data, SQ_BENCH_AREA * sizeof(float), part.data));
    }
    return SQ_OK;
}

/* --- measuring ---------------------------------------------------------------------------------------------------- */

/* The mean of a few times; the first makes kernels and is not looked at. */
static enum sq_status time_stage(struct stages *s, stage_fn *run, double *seconds_p)
{
    SQ_TRY(run(s));
    double started = sq_seconds();
    for (int i = 0; i < REPEAT; i++)
        SQ_TRY(run(s));
    *seconds_p = (sq_seconds() - started) / REPEAT;
    return SQ_OK;
}

/* Seconds of the stage by these rates. */
static enum sq_status reckon_stage(const struct sq_backend *backend, int stage, const struct sq_rates *rates,
                                   double *seconds_p)
{
    struct stages dry = {.options = {.refine = 0}};
    SQ_TRY(sq_backend_create_dry(backend->traits, backend->n_workers, rates, &dry.backend));
    enum sq_status status = take_memory(&dry);
    dry.x.dtype = stages_list[stage].x;
    double before = sq_dry_seconds(dry.backend);
    if (status == SQ_OK) status = make_factor(&dry); /* its shape is the factor's */
    if (status == SQ_OK) before = sq_dry_seconds(dry.backend);
    if (status == SQ_OK) status = stages_list[stage].run(&dry);
    *seconds_p = sq_dry_seconds(dry.backend) - before;
    give_back(&dry);
    dry.backend->ops->destroy(dry.backend);
    return status;
}

#define NO_TIME 1e30 /* per second */

/* The rate of the stage's main work with which the stage takes `seconds`, and never more than a kernel alone reaches.
 */
static enum sq_status explain(const struct sq_backend *backend, int stage, double seconds, struct sq_rates *rates)
{
    struct sq_rates others = *rates, alone;
    struct sq_rate *rate = &rates->of[stages_list[stage].work];
    double rest = 0, main_alone = 0;
    others.of[stages_list[stage].work].per_second = NO_TIME;
    for (int i = 0; i < SQ_N_WORK; i++)
        alone.of[i] = (struct sq_rate){NO_TIME, 0};
    alone.of[stages_list[stage].work] = *rate;
    alone.operation_seconds = alone.parallel_seconds = 0;
    SQ_TRY(reckon_stage(backend, stage, &others, &rest));
    SQ_TRY(reckon_stage(backend, stage, &alone, &main_alone));
    if (seconds - rest > main_alone) rate->per_second *= main_alone / (seconds - rest);
    return SQ_OK;
}

static enum sq_status measure_stages(struct stages *s, const float *values, struct sq_rates *rates)
{
    for (int i = 0; i < N_STAGES; i++) {
        double seconds;
        if (rates->of[stages_list[i].work].per_second <= 0) continue;
        if (stages_list[i].run == make_hessian) SQ_TRY(fill(s, values, stages_list[i].x));
        SQ_TRY(time_stage(s, stages_list[i].run, &seconds));
        SQ_TRY(explain(s->backend, i, seconds, rates));
    }
    return SQ_OK;
}

enum sq_status sq_bench_stages(struct sq_backend *backend, const float *values, struct sq_rates *rates)
{
    struct stages stages = {.backend = backend};
    enum sq_status status = take_memory(&stages);
    if (status == SQ_OK) status = measure_stages(&stages, values, rates);
    give_back(&stages);
    return status;
}
