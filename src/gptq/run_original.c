/* Propagation "original": inputs come from the unquantized model, so blocks do not depend on each other. The ranks form
 * teams, at most one per block. Blocks go in waves of as many as there are teams:
 *
 *      for each block of the wave:   all ranks push their samples through it, with its original weights;
 *                                    the Hessians of its groups are summed on the leader of the team that owns it
 *      every team at once:           factors and solves its block
 *
 * The Hessians of one block per team are kept meanwhile. Experts are too many for that: they are solved by their own
 * teams while the samples go through their block. */
#include "base/clock.h"
#include "base/memory.h"
#include "base/trace.h"
#include "gptq/run_private.h"
#include "mpi/comm_memory.h"
#include "mpi/stop.h"

struct wave {
    struct sq_run_state *run;
    int64_t first, count;            /* blocks */
    float *hessians;                 /* of this team's block, group after group; backend memory */
    struct sq_block_result *results; /* [count] */
};

static struct sq_matrix group_hessian(const struct wave *wave, int block, int index)
{
    const struct sq_job *job = wave->run->job;
    float *values = wave->hessians;
    int64_t n = 0;
    for (int g = 0; g <= index; g++) {
        int first = 0;
        if (sq_model_is_expert_group(job->model, block, g)) continue;
        if (values) values += n * n;
        sq_model_group_linears(job->model, block, g, &first);
        n = sq_model_linear(job->model, first)->in_features;
    }
    return sq_matrix_view(values, SQ_F32, n, n);
}

/* First rank of the team that owns block `first + index`. */
static int leader_of(const struct sq_job *job, int64_t index)
{
    return sq_team_begin(index, job->n_teams, job->world->size);
}

static enum sq_status push_group(struct wave *wave, int64_t index, int g, bool is_last)
{
    struct sq_job *job = wave->run->job;
    int block = (int)(wave->first + index);
    struct sq_group group = sq_group_at(job, block, g);
    if (group.n_layers > 0 && !sq_group_is_done(job, &group)) {
        /* the buffer belongs to this rank's own block: only the leader of this one writes there */
        SQ_TRY(sq_run_hessian(wave->run, sq_model_linear(job->model, group.first)->name, leader_of(job, index),
                              group_hessian(wave, block, g)));
    }
    return is_last ? SQ_OK : sq_group_set_weights(job, &group, NULL);
}

static enum sq_status push_block(struct wave *wave, int64_t index, bool is_last)
{
    struct sq_run_state *run = wave->run;
    struct sq_job *job = run->job;
    int block = (int)(wave->first + index), first = 0;
    int n_groups = sq_model_n_groups(job->model, block);
    sq_trace_set_block(block);
    SQ_TRY(sq_run_load_block(run, block));
    for (int g = 0, n; g < n_groups; g += n) { /* step by step */
        n = sq_model_step_groups(job->model, block, g, &first);
        bool is_end = is_last && g + n == n_groups;
        SQ_TRY(sq_run_to_group(run, g));
        SQ_TRY(sq_model_is_expert_group(job->model, block, g) ? sq_run_experts(run, block, g, is_end)
                                                              : push_group(wave, index, g, is_end));
        if (is_end) return SQ_OK;
    }
    double since = sq_seconds();
    enum sq_status status = sq_forward_finish_block(job->forward);
    sq_job_clock(job, SQ_STAGE_FORWARD, &since);
    return sq_forward_agree(job->forward, job->world, status);
}

/* The team's leader gives the group's Hessian to its team; all of the team solve. */
static enum sq_status solve_group(struct wave *wave, const struct sq_group *group, struct sq_block_result *result)
{
    struct sq_job *job = wave->run->job;
    struct sq_spread spread;
    struct sq_matrix h = group_hessian(wave, group->block, group->index);
    size_t bytes = (size_t)(h.rows * h.cols) * sizeof(float);
    enum sq_status status = sq_comm_memory_broadcast(&job->team, job->backend, 0, h.data, bytes);
    SQ_TRY(sq_comm_agree(&job->team, status)); /* before the team's next step: the world agrees only after the wave */
    float *kept = job->factor.hessian.data;
    job->factor.hessian = h;
    status = sq_group_solve(job, group, &spread, result->reports + result->count);
    job->factor.hessian.data = kept;
    SQ_TRY(status);
    sq_spread_release(&spread);
    for (int i = 0; i < group->n_layers; i++)
        result->layers[result->count++] = group->layers[i];
    return SQ_OK;
}

static enum sq_status solve_own_block(struct wave *wave)
{
    struct sq_job *job = wave->run->job;
    if (job->team_index >= wave->count) return SQ_OK;
    int block = (int)(wave->first + job->team_index);
    sq_trace_set_block(block);
    for (int g = 0; g < sq_model_n_groups(job->model, block); g++) {
        struct sq_group group = sq_group_at(job, block, g);
        if (group.is_expert || group.n_layers == 0 || sq_group_is_done(job, &group)) continue;
        SQ_TRY(solve_group(wave, &group, &wave->results[job->team_index]));
    }
    return SQ_OK;
}

/* Every team's reports on every rank, then one marking for the whole wave. */
static enum sq_status finish_wave(struct wave *wave, enum sq_status status, double seconds)
{
    struct sq_job *job = wave->run->job;
    SQ_TRY(sq_comm_agree(job->world, status));
    for (int64_t i = 0; i < wave->count; i++) {
        struct sq_block_result *result = &wave->results[i];
        SQ_TRY(sq_comm_broadcast(job->world, leader_of(job, i), result, sizeof *result));
        SQ_TRY(sq_run_finish_layers(wave->run, SQ_OK, result->layers, result->count, result->reports, seconds));
    }
    return sq_run_mark_layers(wave->run);
}

static enum sq_status run_wave(struct wave *wave, bool is_last)
{
    double started = sq_seconds();
    for (int64_t i = 0; i < wave->count; i++)
        SQ_TRY(push_block(wave, i, is_last && i == wave->count - 1));
    SQ_TRY(sq_forward_ahead_settle(wave->run->job->forward, wave->run->job->world)); /* teams have collectives */
    SQ_TRY(finish_wave(wave, solve_own_block(wave), sq_seconds() - started));
    return sq_stop_check(wave->run->job->world);
}

enum sq_status sq_run_original(struct sq_run_state *run, int64_t first)
{
    struct sq_job *job = run->job;
    struct wave wave = {.run = run};
    int64_t end = sq_run_end(job->model, job->config);
    void *results = NULL, *hessians = NULL;
    enum sq_status status = sq_alloc("results of a wave", job->n_teams, sizeof *wave.results, &results);
    if (status == SQ_OK)
        status = job->backend->ops->alloc(job->backend, "Hessians of a block",
                                          (size_t)sq_memory_block_hessians(job->model), &hessians);
    status = sq_comm_agree(job->world, status);
    wave.results = results;
    wave.hessians = hessians;
    for (wave.first = first; status == SQ_OK && wave.first < end; wave.first += wave.count) {
        wave.count = end - wave.first < job->n_teams ? end - wave.first : job->n_teams;
        for (int64_t i = 0; i < wave.count; i++)
            wave.results[i].count = 0;
        bool is_last = wave.first + wave.count == end;
        status = run_wave(&wave, is_last);
        if (status == SQ_OK && !is_last) status = sq_run_save_state(run, wave.first + wave.count);
    }
    job->backend->ops->free(job->backend, hessians);
    sq_free(results);
    return status;
}
