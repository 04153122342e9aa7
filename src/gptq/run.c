#include "gptq/run.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/trace.h"
#include "gptq/flags.h"
#include "gptq/progress.h"
#include "gptq/run_private.h"
#include "mpi/stop.h"

int64_t sq_run_end(const struct sq_model *model, const struct sq_config *config)
{
    return sq_model_n_blocks(model) + (config->lm_head ? 1 : 0);
}

/* --- steps that both ways of propagation take --------------------------------------------------------------------- */

enum sq_status sq_run_load_block(struct sq_run_state *run, int64_t block)
{
    double since = sq_seconds();
    SQ_TRY(sq_forward_load_block(run->job->forward, run->job->world, block));
    sq_job_clock(run->job, SQ_STAGE_READ, &since);
    return SQ_OK;
}

enum sq_status sq_run_to_group(struct sq_run_state *run, int index)
{
    double since = sq_seconds();
    enum sq_status status = sq_forward_to_group(run->job->forward, index);
    sq_job_clock(run->job, SQ_STAGE_FORWARD, &since);
    return sq_forward_agree(run->job->forward, run->job->world, status);
}

enum sq_status sq_run_hessian(struct sq_run_state *run, const char *layer, int root, struct sq_matrix hessian)
{
    struct sq_job *job = run->job;
    struct sq_hessian_inputs inputs = {&job->shards, job->tokens.length, sq_forward_group_input(job->forward),
                                       sq_forward_is_on_host(job->forward)};
    double since = sq_seconds();
    enum sq_status status = sq_hessian_make(job->backend, job->world, root, layer, &inputs, &job->hessian, hessian);
    sq_forward_forget(job->forward, 0, inputs.x.rows);
    sq_job_clock(job, SQ_STAGE_HESSIAN, &since);
    return status;
}

enum sq_status sq_run_mark_layers(struct sq_run_state *run)
{
    double since = sq_seconds();
    if (run->n_unmarked == 0) return SQ_OK;
    SQ_TRY(sq_store_finish_layers(run->job->store, sq_behind_finish(run->job), run->unmarked, run->n_unmarked,
                                  run->reports));
    run->n_unmarked = 0;
    sq_job_clock(run->job, SQ_STAGE_STORE, &since);
    return SQ_OK;
}

enum sq_status sq_run_finish_layers(struct sq_run_state *run, enum sq_status status, const int *layers, int count,
                                    const struct sq_layer_report *reports, double seconds)
{
    SQ_TRY(sq_comm_agree(run->job->world, status));
    for (int i = 0; i < count; i++) {
        if (run->n_unmarked == SQ_RUN_UNMARKED) SQ_TRY(sq_run_mark_layers(run));
        run->unmarked[run->n_unmarked] = layers[i];
        run->reports[run->n_unmarked++] = reports[i];
        sq_progress_layer(run->job, layers[i], &reports[i], seconds);
    }
    struct sq_progress_point point = {.n_done = sq_job_n_done(run->job) + run->n_unmarked,
                                      .seconds = sq_seconds() - run->started};
    point.n_done_in_run = point.n_done - run->n_done_before;
    if (count > 0) sq_progress_left(run->job, layers[count - 1], &point);
    return SQ_OK;
}

enum sq_status sq_run_save_state(struct sq_run_state *run, int64_t block)
{
    struct sq_job *job = run->job;
    int64_t due = job->world->rank == 0 && sq_seconds() - run->saved >= job->config->state_seconds;
    SQ_TRY(sq_comm_max_i64(job->world, &due, 1));
    if (!due) return SQ_OK;
    double since = sq_seconds();
    SQ_TRY(sq_state_save(job->state, block, job->shards.samples.first, job->shards.samples.count, sq_forward_get_hidden,
                         job->forward));
    sq_job_clock(job, SQ_STAGE_STORE, &since);
    run->saved = sq_seconds();
    return SQ_OK;
}

/* --- propagation "quantized": each group's input is computed with everything before it already quantized ---------- */

static enum sq_status solve_group(struct sq_run_state *run, const struct sq_group *group, struct sq_spread *spread_p)
{
    struct sq_job *job = run->job;
    struct sq_layer_report reports[SQ_STEP_MAX];
    double since = sq_seconds();
    int64_t n = sq_model_linear(job->model, group->first)->in_features;
    job->factor.hessian = sq_matrix_view(job->factor.hessian.data, SQ_F32, n, n);
    SQ_TRY(sq_run_hessian(run, sq_model_linear(job->model, group->first)->name, -1, job->factor.hessian));
    SQ_TRY(sq_group_solve(job, group, spread_p, reports));
    enum sq_status status =
        sq_run_finish_layers(run, SQ_OK, group->layers, group->n_layers, reports, sq_seconds() - since);
    if (status != SQ_OK) sq_spread_release(spread_p);
    return status;
}

/* Quantizes or restores a group, and sets its weights where something still needs them. */
static enum sq_status do_group(struct sq_run_state *run, int block, int index, bool is_last)
{
    struct sq_job *job = run->job;
    struct sq_group group = sq_group_at(job, block, index);
    if (group.n_layers == 0) return is_last ? SQ_OK : sq_group_set_weights(job, &group, NULL);
    struct sq_spread spread;
    if (sq_group_is_done(job, &group))
        SQ_TRY(sq_group_restore(job, &group, &spread));
    else
        SQ_TRY(solve_group(run, &group, &spread));
    enum sq_status status = is_last ? SQ_OK : sq_group_set_weights(job, &group, &spread);
    sq_spread_release(&spread);
    return sq_comm_agree(job->world, status);
}

/* is_last: nothing after this block's last group needs its output. */
static enum sq_status do_block(struct sq_run_state *run, int64_t block, bool is_last)
{
    struct sq_job *job = run->job;
    int n_groups = sq_model_n_groups(job->model, block), first = 0;
    sq_trace_set_block(block);
    SQ_TRY(sq_run_load_block(run, block));
    for (int g = 0, n; g < n_groups; g += n) { /* step by step */
        n = sq_model_step_groups(job->model, block, g, &first);
        bool is_end = is_last && g + n == n_groups;
        struct sq_group group = sq_group_at(job, (int)block, g);
        sq_ahead_begin(job, &group);
        SQ_TRY(sq_run_to_group(run, g));
        SQ_TRY(sq_model_is_expert_group(job->model, block, g) ? sq_run_experts(run, (int)block, g, is_end)
                                                              : do_group(run, (int)block, g, is_end));
        enum sq_status stop = sq_stop_check(job->world);
        if (stop != SQ_OK || g + n == n_groups) SQ_TRY(sq_run_mark_layers(run));
        SQ_TRY(stop);
    }
    if (is_last) return SQ_OK;
    double since = sq_seconds();
    enum sq_status status = sq_forward_finish_block(job->forward);
    sq_job_clock(job, SQ_STAGE_FORWARD, &since);
    return sq_forward_agree(job->forward, job->world, status);
}

static enum sq_status run_quantized(struct sq_run_state *run, int64_t first)
{
    int64_t end = sq_run_end(run->job->model, run->job->config);
    for (int64_t block = first; block < end; block++) {
        SQ_TRY(do_block(run, block, block == end - 1));
        if (block < end - 1) SQ_TRY(sq_run_save_state(run, block + 1));
    }
    return SQ_OK;
}

/* --- start and end ------------------------------------------------------------------------------------------------ */

/* Whether the store has every layer that the saved activations have gone through. */
static bool is_state_usable(const struct sq_job *job)
{
    if (job->state_block < 0) return false;
    for (int i = 0; i < sq_model_n_linears(job->model); i++) {
        int layer = job->layers.of_linear[i];
        bool is_before = sq_model_linear(job->model, i)->block < job->state_block;
        if (is_before && layer >= 0 && !sq_store_is_done(job->store, layer)) return false;
    }
    return true;
}

/* SQ_ERR_INPUT: there are none, or they are damaged. */
static enum sq_status load_saved(struct sq_job *job)
{
    struct sq_range mine = job->shards.samples;
    if (!is_state_usable(job)) return SQ_ERR_INPUT;
    sq_info("going on from the activations saved before block %lld", (long long)job->state_block + 1);
    return sq_state_load(job->state, mine.first, mine.count, sq_forward_set_hidden, job->forward);
}

/* Activations before block *first_p: from the state file, or from the embedding. */
static enum sq_status load_activations(struct sq_job *job, int64_t *first_p)
{
    double since = sq_seconds();
    enum sq_status status = load_saved(job); /* the same on every rank */
    *first_p = status == SQ_OK ? job->state_block : 0;
    if (status == SQ_ERR_INPUT)
        status = sq_forward_embed(job->forward, job->world,
                                  job->tokens.ids + job->shards.samples.first * job->tokens.length);
    sq_job_clock(job, SQ_STAGE_READ, &since);
    return sq_comm_agree(job->world, status);
}

enum sq_status sq_run(struct sq_job *job)
{
    struct sq_run_state run = {.job = job, .started = sq_seconds(), .saved = sq_seconds()};
    int64_t first = 0;
    if (!job->is_new) SQ_TRY(sq_store_recheck(job->store));
    run.n_done_before = sq_job_n_done(job);
    job->n_flagged_before = sq_progress_n_flagged(job, SQ_FLAG_ANY);
    sq_progress_start(job, run.n_done_before);
    if (sq_job_is_complete(job)) return SQ_OK;
    SQ_TRY(sq_stop_check(job->world));
    SQ_TRY(load_activations(job, &first));
    if (job->config->propagation == SQ_PROPAGATION_ORIGINAL) return sq_run_original(&run, first);
    return run_quantized(&run, first);
}
