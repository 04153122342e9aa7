#include "gptq/group.h"

#include <math.h>

#include "base/clock.h"
#include "base/log.h"
#include "model/experts.h"

struct sq_group sq_group_at(const struct sq_job *job, int block, int index)
{
    struct sq_group group = {.block = block, .index = index, .team = &job->team};
    group.is_expert = sq_model_is_expert_group(job->model, block, index);
    group.n_tokens = group.n_routed = job->tokens.n_samples * job->tokens.length;
    group.n_linears = sq_model_group_linears(job->model, block, index, &group.first);
    for (int i = 0; i < group.n_linears; i++) {
        int layer = job->layers.of_linear[group.first + i];
        if (layer >= 0) group.layers[group.n_layers++] = layer;
    }
    return group;
}

bool sq_group_is_done(const struct sq_job *job, const struct sq_group *group)
{
    for (int i = 0; i < group->n_layers; i++)
        if (!sq_store_is_done(job->store, group->layers[i])) return false;
    return true;
}

struct sq_spread sq_group_describe(const struct sq_job *job, const struct sq_group *group)
{
    struct sq_spread_member members[SQ_STEP_MAX];
    int n = sq_spread_list(job->model, &job->layers, group->block, group->index, members);
    return sq_spread_describe(group->team, members, n, job->backend->sizes.solve_rows, job->records);
}

static enum sq_status make_spread(struct sq_job *job, const struct sq_group *group, struct sq_spread *spread_p)
{
    struct sq_spread_member members[SQ_STEP_MAX];
    int n = sq_spread_list(job->model, &job->layers, group->block, group->index, members);
    return sq_spread_make(group->team, members, n, job->backend->sizes.solve_rows, job->records, spread_p);
}

/* --- solving ---------------------------------------------------------------------------------------------------------
 */

struct solving {
    struct sq_job *job;
    const struct sq_group *group;
    const struct sq_spread *spread;
    bool is_mixed; /* the group's layers have groups of different sizes */
};

struct sq_solve_options sq_group_solve_options(const struct sq_config *config, const struct sq_grid *grid)
{
    return (struct sq_solve_options){.solver = config->solver,
                                     .grid_kind = config->grid,
                                     .order = config->order,
                                     .static_groups = config->static_groups || config->order == SQ_ORDER_ACTIVATION,
                                     .refine = config->refine,
                                     .grid = *grid};
}

/* Rows of a linear from the checkpoint into backend memory, by way of the worker's staging where that is not the
 * host's. */
static enum sq_status read_rows(const struct sq_job *job, const struct sq_linear *linear, int64_t row, int worker,
                                struct sq_matrix weights)
{
    float *room = job->staging ? job->staging + worker * job->staging_elements : NULL;
    int64_t most = job->backend->is_host ? weights.rows : SQ_MEMORY_STAGING_ROWS;
    struct sq_checkpoint_linear in_folder = sq_linear_in_folder(linear);
    for (int64_t r = 0; r < weights.rows; r += most) {
        int64_t rows = weights.rows - r < most ? weights.rows - r : most;
        float *target = (float *)weights.data + r * weights.stride;
        float *values = sq_backend_draft(job->backend, target, room);
        SQ_TRY(sq_checkpoint_read_linear(job->checkpoint, &in_folder, row + r, rows, values));
        SQ_TRY(job->backend->ops->upload(job->backend, values, (size_t)(rows * weights.cols) * sizeof *values, target));
    }
    return SQ_OK;
}

static enum sq_status solve_tile(void *context, int64_t index, int worker)
{
    const struct solving *solving = context;
    struct sq_job *job = solving->job;
    struct sq_spread_tile tile = sq_spread_tile(solving->spread, solving->spread->mine.first + index);
    const struct sq_linear *linear = tile.member->linear;
    struct sq_solve_options options = sq_group_solve_options(job->config, &tile.member->grid);
    char *scratch = job->scratch + (size_t)worker * job->scratch_stride;
    struct sq_matrix weights = sq_matrix_view(scratch, SQ_F32, tile.rows, linear->in_features);
    size_t weight_bytes = (size_t)(job->backend->sizes.solve_rows * linear->in_features) * sizeof(float);
    if (solving->is_mixed) SQ_TRY(job->backend->ops->settle(job->backend)); /* the scratch is laid out anew */
    SQ_TRY(sq_ahead_find(job, solving->group, index, &weights) ? job->backend->ops->receive(job->backend)
                                                               : read_rows(job, linear, tile.row, worker, weights));
    return sq_solve_tile(job->backend, &job->factor, &options, weights, scratch + weight_bytes, &tile.result);
}

static bool is_mixed(const struct sq_spread *spread)
{
    for (int m = 1; m < spread->n_members; m++)
        if (spread->members[m].grid.group_size != spread->members[0].grid.group_size) return true;
    return false;
}

/* Weights that are NaN or infinite stop every tile they are in; it is said once, of the first of them. */
static void report_not_finite(const struct sq_job *job, const struct sq_spread *spread)
{
    for (int m = 0; m < spread->n_members; m++)
        if (sq_checkpoint_report_linear(job->checkpoint, spread->members[m].linear->name)) return;
}

/* The same on every rank of the team. */
static enum sq_status fill_reports(const struct sq_job *job, const struct sq_group *group,
                                   const struct sq_spread *spread, struct sq_layer_report *reports)
{
    for (int m = 0; m < spread->n_members; m++) {
        reports[m] = (struct sq_layer_report){.damping = job->factor.damping,
                                              .n_rungs = job->factor.diagonal_only ? -1 : job->factor.n_rungs,
                                              .n_dead = job->factor.n_dead,
                                              .n_limited = sq_spread_n_limited(spread, m),
                                              .n_tokens = group->n_tokens,
                                              .n_routed = group->n_routed,
                                              .rounds = sq_spread_rounds(spread, m)};
        sq_spread_errors(spread, m, &reports[m].error, &reports[m].error_rtn);
        if (isfinite(reports[m].error) && isfinite(reports[m].error_rtn)) continue;
        if (group->team->rank == 0) sq_error("the error of %s is not finite", spread->members[m].linear->name);
        return SQ_ERR_NUMERIC;
    }
    return SQ_OK;
}

/* The records are free for this group when the rows of the last one are written. Collective on the group's team. */
static enum sq_status begin_group(struct sq_job *job, const struct sq_group *group, double *since,
                                  struct sq_spread *spread_p)
{
    struct sq_spread spread = {.offsets = NULL};
    enum sq_status status = sq_behind_finish(job);
    sq_job_clock(job, SQ_STAGE_STORE, since);
    if (status == SQ_OK) status = make_spread(job, group, &spread);
    status = sq_comm_agree(group->team, status);
    if (status != SQ_OK) {
        sq_spread_release(&spread);
        return status;
    }
    *spread_p = spread;
    return SQ_OK;
}

enum sq_status sq_group_solve(struct sq_job *job, const struct sq_group *group, struct sq_spread *spread_p,
                              struct sq_layer_report *reports)
{
    double since = sq_seconds();
    struct sq_spread spread;
    SQ_TRY(begin_group(job, group, &since, &spread));
    struct solving solving = {job, group, &spread, is_mixed(&spread)};
    int64_t n = spread.members[0].linear->in_features;
    enum sq_status status =
        sq_factor_make(job->backend, group->team, n, job->config->order, job->config->damping, &job->factor);
    sq_job_clock(job, SQ_STAGE_FACTOR, &since);
    if (status == SQ_OK) status = sq_ahead_end(job);
    if (status == SQ_OK) status = job->backend->ops->parallel(job->backend, spread.mine.count, solve_tile, &solving);
    if (status == SQ_OK) sq_spread_count_limited(&spread);
    sq_job_clock(job, SQ_STAGE_SOLVE, &since);
    status = sq_comm_agree(group->team, status);
    if (status == SQ_ERR_NUMERIC && group->team->rank == 0) report_not_finite(job, &spread);
    if (status == SQ_OK) status = sq_spread_gather_figures(&spread, group->team);
    sq_job_clock(job, SQ_STAGE_GATHER, &since);
    if (status == SQ_OK) status = fill_reports(job, group, &spread, reports);
    if (status != SQ_OK) {
        sq_spread_release(&spread);
        return status;
    }
    sq_behind_begin(job, &spread);
    *spread_p = spread;
    return SQ_OK;
}

/* --- restoring -------------------------------------------------------------------------------------------------------
 */

static enum sq_status read_tiles(struct sq_job *job, const struct sq_spread *spread)
{
    for (int64_t t = spread->mine.first; t < spread->mine.first + spread->mine.count; t++) {
        struct sq_spread_tile tile = sq_spread_tile(spread, t);
        for (int64_t row = 0; row < tile.rows; row += SQ_STORE_TILE_ROWS) {
            struct sq_store_rows rows = sq_tile_rows_from(&tile, row);
            SQ_TRY(sq_store_read_tile(job->store, tile.member->layer, (tile.row + row) / SQ_STORE_TILE_ROWS, &rows));
        }
    }
    return SQ_OK;
}

enum sq_status sq_group_restore(struct sq_job *job, const struct sq_group *group, struct sq_spread *spread_p)
{
    struct sq_spread spread;
    double since = sq_seconds();
    SQ_TRY(begin_group(job, group, &since, &spread));
    enum sq_status status = sq_comm_agree(group->team, read_tiles(job, &spread));
    if (status != SQ_OK) {
        sq_spread_release(&spread);
        return status;
    }
    *spread_p = spread;
    return SQ_OK;
}

/* --- weights for the forward pass ------------------------------------------------------------------------------------
 */

/* A tile's weights in f32 at the start of the worker's scratch; what they are made from comes after them. */
static enum sq_status dequantize_rows(const struct sq_job *job, const struct sq_spread_tile *tile,
                                      struct sq_matrix weights)
{
    struct sq_backend *backend = job->backend;
    size_t codes_bytes = (size_t)(weights.rows * weights.cols), cells = (size_t)(tile->rows * tile->member->n_groups);
    char *room = (char *)weights.data + codes_bytes * sizeof(float);
    const void *codes, *scales, *zeros;
    SQ_TRY(sq_backend_view(backend, tile->result.scales, cells * sizeof(float), room, &scales));
    room += cells * sizeof(float);
    SQ_TRY(sq_backend_view(backend, tile->result.zeros, cells, room, &zeros));
    SQ_TRY(sq_backend_view(backend, tile->result.codes, codes_bytes, room + cells, &codes));
    return backend->ops->solve->dequantize(backend, &tile->member->grid, codes, scales, zeros, weights);
}

struct dequantizing {
    struct sq_job *job;
    const struct sq_spread *spread;
    int64_t first; /* tile of the first item */
};

static enum sq_status dequantize_tile(void *context, int64_t index, int worker)
{
    const struct dequantizing *d = context;
    struct sq_job *job = d->job;
    struct sq_spread_tile tile = sq_spread_tile(d->spread, d->first + index);
    const struct sq_linear *linear = tile.member->linear;
    struct sq_matrix weight = sq_forward_linear_weight(job->forward, linear->member);
    struct sq_matrix exact =
        sq_matrix_view(job->scratch + (size_t)worker * job->scratch_stride, SQ_F32, tile.rows, linear->in_features);
    SQ_TRY(dequantize_rows(job, &tile, exact));
    return job->backend->ops->convert(job->backend, exact,
                                      sq_matrix_part(weight, tile.row, tile.rows, 0, linear->in_features));
}

static enum sq_status dequantize_tiles(struct sq_job *job, const struct sq_group *group, const struct sq_spread *spread,
                                       struct sq_range tiles)
{
    struct dequantizing dequantizing = {job, spread, tiles.first};
    enum sq_status status = job->backend->ops->parallel(job->backend, tiles.count, dequantize_tile, &dequantizing);
    return sq_comm_agree(group->team, status);
}

/* Between hosts the records travel, which are smaller than weights. */
static enum sq_status set_from_records(struct sq_job *job, const struct sq_group *group, const struct sq_spread *spread,
                                       double *since)
{
    SQ_TRY(sq_spread_gather_records(spread, group->team));
    sq_job_clock(job, SQ_STAGE_GATHER, since);
    return dequantize_tiles(job, group, spread, (struct sq_range){0, spread->n_tiles});
}

/* Between devices the weights do, from where they are made to where they are wanted, and by no host. */
static enum sq_status set_by_owners(struct sq_job *job, const struct sq_group *group, const struct sq_spread *spread,
                                    double *since)
{
    SQ_TRY(dequantize_tiles(job, group, spread, spread->mine));
    sq_job_clock(job, SQ_STAGE_FORWARD, since);
    for (int m = 0; m < spread->n_members; m++) {
        struct sq_matrix weight = sq_forward_linear_weight(job->forward, spread->members[m].linear->member);
        SQ_TRY(sq_spread_gather_weight(spread, group->team, job->backend, m, weight));
    }
    sq_job_clock(job, SQ_STAGE_GATHER, since);
    return SQ_OK;
}

/* Those that are not quantized, or not yet. */
static enum sq_status load_others(struct sq_job *job, const struct sq_group *group, bool is_solved)
{
    if (!is_solved && !group->is_expert) return sq_forward_load_group(job->forward, job->world);
    for (int i = 0; i < group->n_linears; i++) {
        const struct sq_linear *linear = sq_model_linear(job->model, group->first + i);
        if (is_solved && job->layers.of_linear[group->first + i] >= 0) continue;
        SQ_TRY(group->is_expert ? sq_experts_load(job->forward, linear->member)
                                : sq_forward_load_linear(job->forward, job->world, linear->member));
    }
    return SQ_OK;
}

enum sq_status sq_group_set_weights(struct sq_job *job, const struct sq_group *group, const struct sq_spread *spread)
{
    double since = sq_seconds();
    if (spread) SQ_TRY((job->backend->is_host ? set_from_records : set_by_owners)(job, group, spread, &since));
    enum sq_status status = load_others(job, group, spread != NULL);
    sq_job_clock(job, SQ_STAGE_FORWARD, &since);
    return status;
}
