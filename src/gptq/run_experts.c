/* The experts of a block, as many at a time as there are teams of ranks:
 *
 *      the tokens of each come to its team      those of --experts, where a layer is still to be quantized
 *      every team at once, for gate and up, then for down:   Hessian, factor, solve; or the store's records
 *      all ranks mark the layers
 *      what the experts make of the router's tokens goes back to them
 *
 * An expert without any token has H = I, which makes GPTQ plain rounding; its report says so. */
#include "base/clock.h"
#include "base/memory.h"
#include "gptq/run_private.h"
#include "model/experts.h"
#include "mpi/stop.h"

struct expert_run {
    struct sq_run_state *run;
    int block, first_group, n_experts;
    bool is_last;
    struct sq_expert_result *results; /* [teams] */
    /* the wave at hand */
    int first, count;
    struct sq_expert expert; /* this rank's */
    const char *too_large;   /* a layer of it whose Hessian was not finite; NULL: none */
};

static struct sq_group group_of(const struct expert_run *e, int expert, int part)
{
    struct sq_group group = sq_group_at(e->run->job, e->block, e->first_group + 2 * expert + part);
    group.team = sq_experts_team(e->run->job->forward);
    group.n_tokens = e->expert.n_tokens;
    group.n_routed = e->expert.n_routed;
    return group;
}

/* --- one expert, on its team -------------------------------------------------------------------------------------- */

/* H = I [n, n]. */
static enum sq_status make_identity(struct sq_job *job, int64_t n)
{
    struct sq_backend *backend = job->backend;
    void *ones = NULL;
    SQ_TRY(sq_alloc("marks of inputs", n, 1, &ones));
    for (int64_t i = 0; i < n; i++)
        ((uint8_t *)ones)[i] = 1;
    enum sq_status status = backend->ops->upload(backend, ones, (size_t)n, job->factor.backend_dead);
    if (status == SQ_OK) status = backend->ops->solve->set_dead(backend, job->factor.backend_dead, job->factor.hessian);
    sq_free(ones);
    return status;
}

/* The padding adds nothing to the sum; that it counts as tokens scales H, which changes no code and no relative error.
 */
static enum sq_status make_hessian(struct expert_run *e, const struct sq_group *group)
{
    struct sq_job *job = e->run->job;
    const struct sq_linear *linear = sq_model_linear(job->model, group->first);
    int64_t n = linear->in_features;
    job->factor.hessian = sq_matrix_view(job->factor.hessian.data, SQ_F32, n, n);
    if (e->expert.n_tokens == 0) return sq_comm_agree(group->team, make_identity(job, n));
    struct sq_shards shards =
        sq_shards_make(e->expert.n_pieces, SQ_EXPERT_SHARDS, group->team->rank, group->team->size);
    struct sq_hessian_inputs inputs = {&shards, job->backend->sizes.expert_rows, sq_experts_input(job->forward), false};
    enum sq_status status =
        sq_hessian_make(job->backend, group->team, -1, NULL, &inputs, &job->hessian, job->factor.hessian);
    if (status == SQ_ERR_NUMERIC) e->too_large = linear->name;
    return status;
}

static enum sq_status solve(struct expert_run *e, const struct sq_group *group, struct sq_spread *spread_p)
{
    struct sq_job *job = e->run->job;
    struct sq_expert_result *result = &e->results[sq_experts_team_index(job->forward)];
    double since = sq_seconds();
    SQ_TRY(make_hessian(e, group));
    sq_job_clock(job, SQ_STAGE_HESSIAN, &since);
    SQ_TRY(sq_group_solve(job, group, spread_p, result->reports + result->count));
    for (int i = 0; i < group->n_layers; i++)
        result->layers[result->count++] = group->layers[i];
    return SQ_OK;
}

/* Quantizes or restores gate and up, or down, and sets the weights that the forward pass takes. */
static enum sq_status do_part(struct expert_run *e, int part)
{
    struct sq_job *job = e->run->job;
    struct sq_group group = group_of(e, e->expert.index, part);
    bool is_original = job->config->propagation == SQ_PROPAGATION_ORIGINAL, is_done = sq_group_is_done(job, &group);
    struct sq_spread spread = {0};
    sq_experts_select(job->forward, part);
    if (group.n_layers == 0 || (is_done && is_original)) return sq_group_set_weights(job, &group, NULL);
    SQ_TRY(is_done ? sq_group_restore(job, &group, &spread) : solve(e, &group, &spread));
    enum sq_status status = sq_group_set_weights(job, &group, is_original ? NULL : &spread);
    sq_spread_release(&spread);
    return status;
}

static bool is_expert_done(const struct expert_run *e, int expert)
{
    struct sq_group input = group_of(e, expert, 0), output = group_of(e, expert, 1);
    return sq_group_is_done(e->run->job, &input) && sq_group_is_done(e->run->job, &output);
}

static enum sq_status do_expert(struct expert_run *e)
{
    struct sq_job *job = e->run->job;
    if (e->expert.index < 0 || (e->expert.n_tokens == 0 && is_expert_done(e, e->expert.index))) return SQ_OK;
    SQ_TRY(do_part(e, 0));
    double since = sq_seconds();
    enum sq_status status = sq_experts_activate(job->forward);
    sq_job_clock(job, SQ_STAGE_FORWARD, &since);
    SQ_TRY(sq_comm_agree(sq_experts_team(job->forward), status));
    return do_part(e, 1);
}

/* --- all experts of a wave ---------------------------------------------------------------------------------------- */

static bool is_wave_done(const struct expert_run *e)
{
    for (int i = 0; i < e->count; i++)
        if (!is_expert_done(e, e->first + i)) return false;
    return true;
}

/* Every team's reports on every rank, then one marking for the whole wave. */
static enum sq_status finish_wave(struct expert_run *e, double seconds)
{
    struct sq_job *job = e->run->job;
    void *layers = NULL, *reports = NULL;
    int count = 0, n_teams = sq_experts_n_teams(job->forward);
    for (int i = 0; i < e->count; i++) {
        int leader = sq_team_begin(i, n_teams, job->world->size);
        SQ_TRY(sq_comm_broadcast(job->world, leader, &e->results[i], sizeof *e->results));
        count += e->results[i].count;
    }
    enum sq_status status = sq_alloc("layers of experts", count, sizeof(int), &layers);
    if (status == SQ_OK) status = sq_alloc("reports of experts", count, sizeof(struct sq_layer_report), &reports);
    for (int i = 0, at = 0; status == SQ_OK && i < e->count; i++)
        for (int k = 0; k < e->results[i].count; k++, at++) {
            ((int *)layers)[at] = e->results[i].layers[k];
            ((struct sq_layer_report *)reports)[at] = e->results[i].reports[k];
        }
    status = sq_comm_agree(job->world, status);
    if (status == SQ_OK && count > 0) status = sq_run_finish_layers(e->run, SQ_OK, layers, count, reports, seconds);
    if (status == SQ_OK && count > 0) status = sq_run_mark_layers(e->run); /* a block of experts takes long */
    sq_free(layers);
    sq_free(reports);
    return status;
}

static enum sq_status take(struct expert_run *e, const struct sq_expert_policy *policy)
{
    double since = sq_seconds();
    enum sq_status status = sq_experts_take(e->run->job->forward, e->first, policy, &e->expert);
    sq_job_clock(e->run->job, SQ_STAGE_FORWARD, &since);
    return status;
}

/* What the experts make of the router's tokens, on its way back. */
static enum sq_status give(struct expert_run *e)
{
    struct sq_job *job = e->run->job;
    enum sq_status status = SQ_OK;
    if (!e->expert.is_routed) {
        SQ_TRY(take(e, NULL));
        sq_experts_select(job->forward, 0);
        status = sq_experts_activate(job->forward);
        sq_experts_select(job->forward, 1);
    }
    double since = sq_seconds();
    if (status == SQ_OK) status = sq_experts_finish(job->forward);
    SQ_TRY(sq_comm_agree(job->world, status));
    status = sq_experts_give(job->forward);
    sq_job_clock(job, SQ_STAGE_FORWARD, &since);
    return status;
}

static enum sq_status do_wave(struct expert_run *e)
{
    struct sq_job *job = e->run->job;
    const struct sq_expert_policy policy = {job->config->experts, job->config->expert_tokens};
    double started = sq_seconds();
    bool is_done = is_wave_done(e);
    if (is_done && e->is_last) return SQ_OK;
    SQ_TRY(take(e, is_done ? NULL : &policy));
    e->results[sq_experts_team_index(job->forward)].count = 0;
    e->too_large = NULL;
    enum sq_status status = sq_comm_agree(job->world, do_expert(e));
    SQ_TRY(sq_hessian_say(job->world, e->too_large, status));
    if (!is_done) SQ_TRY(finish_wave(e, sq_seconds() - started));
    SQ_TRY(sq_stop_check(job->world));
    return e->is_last ? SQ_OK : give(e);
}

enum sq_status sq_run_experts(struct sq_run_state *run, int block, int first_group, bool is_last)
{
    struct sq_job *job = run->job;
    struct expert_run e = {.run = run,
                           .block = block,
                           .first_group = first_group,
                           .n_experts = sq_model_n_experts(job->model, block),
                           .is_last = is_last};
    void *results = NULL;
    SQ_TRY(sq_experts_begin(job->forward, job->world));
    int n_teams = sq_experts_n_teams(job->forward);
    enum sq_status status =
        sq_comm_agree(job->world, sq_alloc("results of experts", n_teams, sizeof(struct sq_expert_result), &results));
    e.results = results;
    for (e.first = 0; status == SQ_OK && e.first < e.n_experts; e.first += n_teams) {
        e.count = e.n_experts - e.first < n_teams ? e.n_experts - e.first : n_teams;
        status = do_wave(&e);
    }
    sq_free(results);
    if (status == SQ_OK) sq_experts_end(job->forward);
    return status;
}
