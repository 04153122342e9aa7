/* A group of linears in a simulated run: the stages that run.c and group.c take, on shapes alone. */
#include "gptq/simulate_private.h"
#include "gptq/solve_tile.h"

#include <string.h>

/* --- by width ----------------------------------------------------------------------------------------------------- */

static struct sq_width_cost *find_width(struct sq_width_cost *costs, int count, int64_t n, int n_ranks)
{
    for (int i = 0; i < count; i++)
        if (costs[i].n == n && costs[i].n_ranks == n_ranks) return &costs[i];
    return NULL;
}

static void remember(struct sq_dry_run *run, int64_t n, int n_ranks, double since, const struct sq_traffic *before,
                     struct sq_width_cost *costs, int *count)
{
    if (*count == SQ_SIMULATE_SHAPES) return;
    struct sq_width_cost cost = {.n = n, .n_ranks = n_ranks, .seconds = sq_dry_seconds(run->backend) - since};
    cost.traffic.seconds_beside = run->result.traffic.seconds_beside - before->seconds_beside;
    for (int k = 0; k < SQ_N_TRAFFIC; k++) {
        cost.traffic.calls[k] = run->result.traffic.calls[k] - before->calls[k];
        cost.traffic.bytes[k] = run->result.traffic.bytes[k] - before->bytes[k];
    }
    costs[(*count)++] = cost;
}

static void repeat(struct sq_dry_run *run, const struct sq_width_cost *cost)
{
    struct sq_dry_span span = {.working = cost->seconds};
    sq_dry_spend(run->backend, &span);
    run->result.traffic.seconds_beside += cost->traffic.seconds_beside;
    for (int k = 0; k < SQ_N_TRAFFIC; k++) {
        run->result.traffic.calls[k] += cost->traffic.calls[k];
        run->result.traffic.bytes[k] += cost->traffic.bytes[k];
    }
}

enum sq_status sq_dry_run_hessian(struct sq_dry_run *run, int64_t n, int root)
{
    const struct sq_memory_request *request = run->request;
    const struct sq_width_cost *known = find_width(run->hessians, run->n_hessians, n, run->world.size);
    if (known) {
        repeat(run, known);
    } else {
        struct sq_traffic before = run->result.traffic;
        double since = sq_dry_seconds(run->backend);
        struct sq_hessian_inputs inputs = {&run->shards, request->length, sq_forward_group_input(run->forward),
                                           sq_forward_is_on_host(run->forward)};
        struct sq_matrix h = sq_matrix_view(run->factor.hessian.data, SQ_F32, n, n);
        SQ_TRY(sq_hessian_make(run->backend, &run->world, root, "a layer", &inputs, &run->hessian, h));
        remember(run, n, run->world.size, since, &before, run->hessians, &run->n_hessians);
    }
    sq_dry_run_clock(run, SQ_STAGE_HESSIAN);
    return SQ_OK;
}

enum sq_status sq_dry_run_expert_hessian(struct sq_dry_run *run, int64_t n, const struct sq_shards *shards)
{
    const struct sq_width_cost *known = find_width(run->expert_hessians, run->n_expert_hessians, n, run->team.size);
    if (known) {
        repeat(run, known);
    } else {
        struct sq_traffic before = run->result.traffic;
        double since = sq_dry_seconds(run->backend);
        int64_t unit = run->backend->sizes.expert_rows, rows = shards->samples.count * unit;
        struct sq_matrix x = sq_matrix_view(run->records, run->request->compute, rows, n);
        struct sq_matrix h = sq_matrix_view(run->factor.hessian.data, SQ_F32, n, n);
        struct sq_hessian_inputs inputs = {shards, unit, x, false};
        SQ_TRY(sq_hessian_make(run->backend, &run->team, -1, "an expert", &inputs, &run->hessian, h));
        remember(run, n, run->team.size, since, &before, run->expert_hessians, &run->n_expert_hessians);
    }
    sq_dry_run_clock(run, SQ_STAGE_HESSIAN);
    return SQ_OK;
}

static enum sq_status make_factor(struct sq_dry_run *run, int64_t n)
{
    const struct sq_config *config = run->request->config;
    const struct sq_width_cost *known = find_width(run->factors, run->n_factors, n, run->team.size);
    if (known) {
        repeat(run, known);
    } else {
        struct sq_traffic before = run->result.traffic;
        double since = sq_dry_seconds(run->backend);
        run->factor.hessian = sq_matrix_view(run->factor.hessian.data, SQ_F32, n, n);
        SQ_TRY(sq_factor_make(run->backend, &run->team, n, config->order, config->damping, &run->factor));
        remember(run, n, run->team.size, since, &before, run->factors, &run->n_factors);
    }
    run->factor.n = n;
    run->factor.hessian = sq_matrix_view(run->factor.hessian.data, SQ_F32, n, n);
    run->factor.unit = sq_matrix_view(run->factor.unit.data, SQ_F32, n, n);
    sq_dry_run_clock(run, SQ_STAGE_FACTOR);
    return SQ_OK;
}

/* --- tiles -------------------------------------------------------------------------------------------------------- */

struct tile {
    struct sq_dry_run *run;
    const struct sq_spread_member *member;
};

/* Round by round: on a dry backend a round gains nothing, and the first would be the last. */
static enum sq_status refine_more(struct sq_dry_run *run, const struct sq_solve_options *options)
{
    struct sq_tile tile;
    sq_tile_layout(&run->backend->sizes, options, run->factor.n, run->scratch, &tile);
    tile.backend = run->backend;
    tile.factor = &run->factor;
    tile.rows = run->backend->sizes.solve_rows;
    int rounds = options->refine < SQ_SIMULATE_ROUNDS ? options->refine : SQ_SIMULATE_ROUNDS;
    for (int round = 1; round < rounds && options->solver != SQ_SOLVER_RTN; round++)
        SQ_TRY(sq_tile_refine(&tile));
    return SQ_OK;
}

/* As group.c has it, on one tile: its rows from the file, the solver. */
static enum sq_status solve_one(void *context)
{
    const struct tile *tile = context;
    struct sq_dry_run *run = tile->run;
    int64_t rows = run->backend->sizes.solve_rows, n = tile->member->linear->in_features;
    struct sq_solve_options options = sq_group_solve_options(run->request->config, &tile->member->grid);
    struct sq_solve_result nowhere = {0};
    SQ_TRY(sq_dry_do(run->backend, SQ_WORK_READ, (double)(rows * n), 0));
    if (!run->backend->is_host) SQ_TRY(sq_dry_do(run->backend, SQ_WORK_COPY, 4 * (double)(rows * n), 0));
    if (options.solver == SQ_SOLVER_OBQ) /* which looks at its numbers: an n x n matrix for each row is swept n times */
        return sq_dry_do(run->backend, SQ_WORK_CELLS, (double)(rows * n) * (double)(n * n), 0);
    SQ_TRY(sq_solve_tile(run->backend, &run->factor, &options, sq_matrix_view(run->records, SQ_F32, rows, n),
                         run->scratch, &nowhere));
    return refine_more(run, &options);
}

static bool is_same_grid(const struct sq_grid *a, const struct sq_grid *b)
{
    return a->bits == b->bits && a->symmetric == b->symmetric && a->group_size == b->group_size &&
           a->scale_dtype == b->scale_dtype;
}

static enum sq_status cost_tile(struct sq_dry_run *run, const struct sq_spread_member *member,
                                struct sq_dry_span *span_p)
{
    int64_t n = member->linear->in_features;
    for (int i = 0; i < run->n_tiles; i++) {
        if (run->tiles[i].n != n || !is_same_grid(&run->tiles[i].grid, &member->grid)) continue;
        *span_p = run->tiles[i].span;
        return SQ_OK;
    }
    struct tile tile = {run, member};
    SQ_TRY(sq_dry_measure(run->backend, solve_one, &tile, span_p));
    if (run->n_tiles < SQ_SIMULATE_SHAPES) run->tiles[run->n_tiles++] = (struct sq_tile_cost){n, member->grid, *span_p};
    return SQ_OK;
}

struct solving {
    struct sq_dry_run *run;
    const struct sq_spread *spread;
    struct sq_range share; /* tiles of the slowest rank */
    struct sq_dry_span spans[SQ_STEP_MAX];
};

static const struct sq_dry_span *span_of(const struct solving *solving, int64_t tile)
{
    return &solving->spans[sq_spread_member_at(solving->spread, tile) - solving->spread->members];
}

static enum sq_status spend_tile(void *context, int64_t index, int worker)
{
    const struct solving *solving = context;
    (void)worker;
    sq_dry_spend(solving->run->backend, span_of(solving, solving->share.first + index));
    return SQ_OK;
}

/* The rank whose tiles take longest together. */
static struct sq_range slowest_share(const struct solving *solving, int n_ranks)
{
    struct sq_range slowest = {0, 0};
    double most = -1;
    for (int rank = 0; rank < n_ranks; rank++) {
        struct sq_range share = sq_split(solving->spread->n_tiles, rank, n_ranks);
        double seconds = 0;
        for (int64_t t = share.first; t < share.first + share.count; t++) {
            const struct sq_dry_span *span = span_of(solving, t);
            seconds += span->starting + span->working;
        }
        if (seconds <= most) continue;
        most = seconds;
        slowest = share;
    }
    return slowest;
}

/* --- the group ---------------------------------------------------------------------------------------------------- */

static int list_members(const struct sq_dry_run *run, int block, int group, struct sq_spread_member *members)
{
    return sq_spread_list(run->request->model, run->request->layers, block, group, members);
}

/* Bytes of the tiles in the store, and their weights. */
static double stored_bytes(const struct sq_spread *spread, struct sq_range share, double *weights_p)
{
    double bytes = 0;
    *weights_p = 0;
    for (int64_t t = share.first; t < share.first + share.count; t++) {
        const struct sq_spread_member *member = sq_spread_member_at(spread, t);
        double weights = (double)spread->tile_rows * (double)member->linear->in_features;
        *weights_p += weights;
        bytes += weights * member->grid.bits / 8 + 3 * (double)(spread->tile_rows * member->n_groups);
    }
    return bytes;
}

static enum sq_status write_tiles(struct sq_dry_run *run, const struct solving *solving)
{
    double weights, bytes = stored_bytes(solving->spread, (struct sq_range){0, solving->spread->n_tiles}, &weights);
    stored_bytes(solving->spread, solving->share, &weights);
    SQ_TRY(sq_dry_do(run->backend, SQ_WORK_PACK, weights, 0));
    sq_dry_run_clock(run, SQ_STAGE_STORE);
    sq_dry_run_files(run, SQ_STAGE_STORE, 0, bytes);
    return SQ_OK;
}

static enum sq_status solve_spread(struct sq_dry_run *run, const struct sq_spread *spread)
{
    struct solving solving = {.run = run, .spread = spread};
    double bytes = 0;
    for (int m = 0; m < spread->n_members; m++) {
        const struct sq_linear *linear = spread->members[m].linear;
        SQ_TRY(cost_tile(run, &spread->members[m], &solving.spans[m]));
        bytes += (double)linear->out_features * (double)linear->in_features;
    }
    solving.share = slowest_share(&solving, run->team.size);
    SQ_TRY(run->backend->ops->parallel(run->backend, solving.share.count, spend_tile, &solving));
    sq_dry_run_clock(run, SQ_STAGE_SOLVE);
    sq_dry_run_files(run, SQ_STAGE_SOLVE, bytes * sq_simulate_weight_bytes(run->request->model), 0);
    SQ_TRY(write_tiles(run, &solving));
    SQ_TRY(sq_comm_agree(&run->team, SQ_OK));
    SQ_TRY(sq_spread_gather_figures(spread, &run->team));
    sq_dry_run_clock(run, SQ_STAGE_GATHER);
    return SQ_OK;
}

enum sq_status sq_dry_run_solve(struct sq_dry_run *run, int block, int group)
{
    struct sq_spread_member members[SQ_STEP_MAX];
    struct sq_spread spread;
    int n = list_members(run, block, group, members);
    SQ_TRY(sq_spread_make(&run->team, members, n, run->backend->sizes.solve_rows, run->records, &spread));
    SQ_TRY(sq_comm_agree(&run->team, SQ_OK));
    enum sq_status status = make_factor(run, members[0].linear->in_features);
    if (status == SQ_OK) status = solve_spread(run, &spread);
    sq_spread_release(&spread);
    return status;
}

/* --- weights for the forward pass --------------------------------------------------------------------------------- */

struct dequantizing {
    struct sq_dry_run *run;
    const struct sq_spread *spread;
    int64_t first; /* tile of the first item */
};

static enum sq_status dequantize_tile(void *context, int64_t index, int worker)
{
    const struct dequantizing *d = context;
    struct sq_dry_run *run = d->run;
    const struct sq_spread_member *member = sq_spread_member_at(d->spread, d->first + index);
    int64_t rows = d->spread->tile_rows, n = member->linear->in_features;
    struct sq_matrix exact = sq_matrix_view(run->scratch, SQ_F32, rows, n);
    struct sq_matrix weight = sq_matrix_view(run->records, run->request->compute, rows, n);
    (void)worker;
    if (!run->backend->is_host) SQ_TRY(sq_dry_do(run->backend, SQ_WORK_COPY, (double)(rows * n), 0));
    SQ_TRY(run->backend->ops->solve->dequantize(run->backend, &member->grid, NULL, NULL, NULL, exact));
    return run->backend->ops->convert(run->backend, exact, weight);
}

static enum sq_status dequantize_tiles(struct sq_dry_run *run, const struct sq_spread *spread, struct sq_range tiles)
{
    struct dequantizing dequantizing = {run, spread, tiles.first};
    SQ_TRY(run->backend->ops->parallel(run->backend, tiles.count, dequantize_tile, &dequantizing));
    return sq_comm_agree(&run->team, SQ_OK);
}

/* As group.c has it: records of hosts travel, weights of devices do. */
static enum sq_status set_solved(struct sq_dry_run *run, const struct sq_spread *spread)
{
    if (run->backend->is_host) {
        SQ_TRY(sq_spread_gather_records(spread, &run->team));
        sq_dry_run_clock(run, SQ_STAGE_GATHER);
        return dequantize_tiles(run, spread, (struct sq_range){0, spread->n_tiles});
    }
    int64_t most = (spread->n_tiles + run->team.size - 1) / run->team.size; /* of a rank */
    SQ_TRY(dequantize_tiles(run, spread, (struct sq_range){0, most}));
    sq_dry_run_clock(run, SQ_STAGE_FORWARD);
    for (int m = 0; m < spread->n_members; m++) {
        const struct sq_linear *linear = spread->members[m].linear;
        struct sq_matrix weight =
            sq_matrix_view(run->records, run->request->compute, linear->out_features, linear->in_features);
        SQ_TRY(sq_spread_gather_weight(spread, &run->team, run->backend, m, weight));
    }
    sq_dry_run_clock(run, SQ_STAGE_GATHER);
    return SQ_OK;
}

static enum sq_status dequantize(struct sq_dry_run *run, struct sq_spread_member *members, int n)
{
    struct sq_spread spread;
    SQ_TRY(sq_spread_make(&run->team, members, n, run->backend->sizes.solve_rows, run->records, &spread));
    enum sq_status status = set_solved(run, &spread);
    sq_spread_release(&spread);
    return status;
}

enum sq_status sq_dry_run_set_weights(struct sq_dry_run *run, int block, int group, bool is_solved)
{
    struct sq_spread_member members[SQ_STEP_MAX];
    const struct sq_layers *layers = run->request->layers;
    const struct sq_comm *comm = sq_model_is_expert_group(run->request->model, block, group) ? &run->team : &run->world;
    int first, count = sq_model_group_linears(run->request->model, block, group, &first);
    int n = is_solved ? list_members(run, block, group, members) : 0;
    bool is_whole = !is_solved && !sq_model_is_expert_group(run->request->model, block, group);
    if (n > 0) SQ_TRY(dequantize(run, members, n));
    if (is_whole) SQ_TRY(sq_forward_load_group(run->forward, comm));
    for (int i = 0; i < count; i++) {
        const struct sq_linear *linear = sq_model_linear(run->request->model, first + i);
        double weights = (double)linear->out_features * (double)linear->in_features;
        if (is_solved && layers->of_linear[first + i] >= 0) continue;
        if (linear->block == sq_model_n_blocks(run->request->model)) continue;
        if (!is_whole) SQ_TRY(sq_forward_load_linear(run->forward, comm, linear->member));
        double share = weights / comm->size / run->backend->n_workers;
        SQ_TRY(sq_dry_do(run->backend, SQ_WORK_READ, share, 0));
        sq_dry_run_files(run, SQ_STAGE_FORWARD, weights * sq_simulate_weight_bytes(run->request->model), 0);
    }
    sq_dry_run_clock(run, SQ_STAGE_FORWARD);
    return SQ_OK;
}
