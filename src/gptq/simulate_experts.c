/* The experts of a block in a simulated run. Which tokens go to which expert is known to a run alone, so the code of
 * run_experts.c cannot go through this on a dry backend: here are its steps in its order, for routers that send the
 * same number of tokens to every expert. */
#include "gptq/run_private.h"
#include "gptq/simulate_private.h"
#include "model/experts.h"
#include "mpi/stop.h"

/* A wave: one expert for each team. All teams work at once, so the time is that of one of them, the smallest. */
struct wave {
    struct sq_dry_run *run;
    int block, group;                                /* the first of its first expert */
    int n_teams, count;                              /* experts of this wave: at most one for each team */
    int64_t n_own, n_pieces;                         /* tokens of this rank that go to one expert; pieces of its own */
    const struct sq_linear *gate, *down;             /* of its first expert */
    struct sq_matrix piece, gated, active, own_rows; /* addresses alone */
    struct sq_shards shards;                         /* of the expert's pieces, on the rank with most of them */
};

static int64_t tokens_of_expert(const struct sq_memory_request *request, int block, bool is_routed)
{
    const struct sq_config *config = request->config;
    int64_t all = request->n_job_samples * request->length;
    int64_t n_experts = sq_model_n_experts(request->model, block);
    int64_t routed = (all * sq_model_n_chosen(request->model) + n_experts - 1) / n_experts;
    if (is_routed || config->experts == SQ_EXPERTS_ROUTE) return routed;
    int64_t wanted = config->experts == SQ_EXPERTS_ALL || config->expert_tokens > all ? all : config->expert_tokens;
    return routed > wanted ? routed : wanted;
}

/* That an expert is calibrated with beside those that the router sends. */
static int64_t more_tokens(const struct wave *wave)
{
    const struct sq_memory_request *request = wave->run->request;
    return tokens_of_expert(request, wave->block, false) - tokens_of_expert(request, wave->block, true);
}

static void share_tokens(struct wave *wave, bool is_routed)
{
    const struct sq_dry_run *run = wave->run;
    const struct sq_memory_request *request = run->request;
    int64_t unit = request->traits->sizes.expert_rows, n = tokens_of_expert(request, wave->block, is_routed);
    wave->shards = sq_shards_largest((n + unit - 1) / unit, SQ_EXPERT_SHARDS, run->team.size);
    wave->n_pieces = wave->shards.samples.count;
    wave->n_own = (n * request->n_samples + request->n_job_samples - 1) / request->n_job_samples;
    wave->piece = sq_matrix_view(run->records, request->compute, unit, wave->gate->in_features);
    wave->gated = sq_matrix_view(run->records, request->compute, unit, wave->gate->out_features);
    wave->active = wave->gated;
    wave->own_rows = sq_matrix_view(run->records, request->compute, wave->n_own * wave->count, wave->gate->in_features);
}

/* --- tokens on their way ------------------------------------------------------------------------------------------ */

static enum sq_status gather_batch(void *context, int64_t index, int worker)
{
    const struct wave *wave = context;
    struct sq_matrix x = wave->own_rows, to = x;
    (void)worker;
    int64_t left = x.rows - index * SQ_EXPERT_BATCH;
    to.rows = left < SQ_EXPERT_BATCH ? left : SQ_EXPERT_BATCH;
    return wave->run->backend->ops->gather_rows(wave->run->backend, x, NULL, to);
}

/* An even share of this rank's tokens to each rank, there or back, as sq_comm_memory_exchange() sends them. */
static enum sq_status exchange(struct wave *wave)
{
    const struct sq_comm *world = &wave->run->world;
    struct sq_backend *backend = wave->run->backend;
    size_t bytes = (size_t)(wave->own_rows.rows * wave->own_rows.cols) * sq_dtype_size(wave->own_rows.dtype);
    size_t share = bytes / (size_t)world->size;
    if (world->size == 1) return SQ_OK;
    SQ_TRY(backend->ops->copy(backend, NULL, share, NULL)); /* its own */
    SQ_TRY(sq_comm_agree(world, SQ_OK));
    if (!backend->is_host && !wave->run->request->config->share_device) {
        (void)sq_comm_count(world, SQ_TRAFFIC_EXCHANGE, bytes - share);
        return SQ_OK;
    }
    if (!backend->is_host)
        SQ_TRY(sq_dry_do(backend, SQ_WORK_COPY, 2 * (double)(bytes - share), 0)); /* to hosts, back */
    for (int distance = 1; distance < world->size; distance++)
        SQ_TRY(sq_comm_shift(world, distance, NULL, share, NULL, share));
    return sq_comm_agree(world, SQ_OK);
}

/* So many numbers of every rank to all: on memory for shares, on that of the gather, and it. */
static enum sq_status gather_counts(const struct sq_comm *world, int64_t count)
{
    SQ_TRY(sq_comm_agree(world, SQ_OK));
    SQ_TRY(sq_comm_agree(world, SQ_OK));
    if (world->size > 1)
        (void)sq_comm_count(world, SQ_TRAFFIC_GATHER, (size_t)world->size * (size_t)count * sizeof(int64_t));
    return SQ_OK;
}

/* To a wave's experts go `more` tokens each than the router sends: all of them, or those with the best scores. */
static enum sq_status add_tokens(const struct wave *wave, int64_t more)
{
    const struct sq_comm *world = &wave->run->world;
    bool is_by_score = wave->run->request->config->experts == SQ_EXPERTS_TOP_UP;
    SQ_TRY(sq_comm_agree(world, SQ_OK)); /* on memory for lists */
    for (int expert = 0; expert < wave->count && is_by_score; expert++) {
        SQ_TRY(sq_comm_agree(world, SQ_OK));
        SQ_TRY(gather_counts(world, 2 * more)); /* token and score */
    }
    return gather_counts(world, wave->n_teams);
}

static enum sq_status take(struct wave *wave, bool is_routed)
{
    struct sq_backend *backend = wave->run->backend;
    int64_t more = more_tokens(wave);
    share_tokens(wave, is_routed);
    SQ_TRY(gather_counts(&wave->run->world, wave->n_teams));
    if (!is_routed && more > 0) SQ_TRY(add_tokens(wave, more));
    SQ_TRY(backend->ops->parallel(backend, (wave->own_rows.rows + SQ_EXPERT_BATCH - 1) / SQ_EXPERT_BATCH, gather_batch,
                                  wave));
    SQ_TRY(sq_comm_agree(&wave->run->world, SQ_OK));
    SQ_TRY(exchange(wave));
    sq_dry_run_clock(wave->run, SQ_STAGE_FORWARD);
    return SQ_OK;
}

static enum sq_status add_sample(void *context, int64_t index, int worker)
{
    const struct wave *wave = context;
    struct sq_matrix rows = wave->own_rows;
    (void)index;
    (void)worker;
    rows.rows = wave->n_own / wave->run->request->n_samples;
    for (int expert = 0; expert < wave->count; expert++)
        SQ_TRY(wave->run->backend->ops->add_rows(wave->run->backend, rows, NULL, NULL, rows));
    return SQ_OK;
}

/* --- the expert --------------------------------------------------------------------------------------------------- */

static enum sq_status activate_piece(void *context, int64_t index, int worker)
{
    const struct wave *wave = context;
    struct sq_backend *backend = wave->run->backend;
    struct sq_matrix w = sq_matrix_view(wave->run->records, wave->piece.dtype, wave->gated.cols, wave->piece.cols);
    (void)index;
    (void)worker;
    SQ_TRY(backend->ops->linear(backend, wave->piece, w, NULL, wave->gated));
    SQ_TRY(backend->ops->linear(backend, wave->piece, w, NULL, wave->gated));
    return backend->ops->activate(backend, SQ_ACT_SILU, wave->gated, wave->gated, wave->active);
}

static enum sq_status finish_piece(void *context, int64_t index, int worker)
{
    const struct wave *wave = context;
    struct sq_backend *backend = wave->run->backend;
    struct sq_matrix w = sq_matrix_view(wave->run->records, wave->piece.dtype, wave->piece.cols, wave->active.cols);
    (void)index;
    (void)worker;
    return backend->ops->linear(backend, wave->active, w, NULL, wave->piece);
}

static enum sq_status do_part(struct wave *wave, int part, int64_t n)
{
    struct sq_dry_run *run = wave->run;
    bool is_original = run->request->config->propagation == SQ_PROPAGATION_ORIGINAL;
    if (!sq_dry_run_is_quantized(run, wave->block, wave->group + part))
        return sq_dry_run_set_weights(run, wave->block, wave->group + part, false);
    SQ_TRY(sq_dry_run_expert_hessian(run, n, &wave->shards));
    SQ_TRY(sq_dry_run_solve(run, wave->block, wave->group + part));
    return sq_dry_run_set_weights(run, wave->block, wave->group + part, !is_original);
}

static enum sq_status activate(struct wave *wave)
{
    struct sq_backend *backend = wave->run->backend;
    SQ_TRY(backend->ops->parallel(backend, wave->n_pieces, activate_piece, wave));
    sq_dry_run_clock(wave->run, SQ_STAGE_FORWARD);
    return SQ_OK;
}

static enum sq_status do_expert(struct wave *wave)
{
    SQ_TRY(do_part(wave, 0, wave->gate->in_features));
    SQ_TRY(activate(wave));
    SQ_TRY(sq_comm_agree(&wave->run->team, SQ_OK));
    return do_part(wave, 1, wave->down->in_features);
}

/* --- the wave ----------------------------------------------------------------------------------------------------- */

/* Reports of each team, one marking. */
static enum sq_status finish_wave(struct wave *wave)
{
    const struct sq_comm *world = &wave->run->world;
    for (int team = 0; team < wave->count; team++)
        SQ_TRY(sq_comm_broadcast(world, 0, NULL, sizeof(struct sq_expert_result)));
    SQ_TRY(sq_comm_agree(world, SQ_OK));
    SQ_TRY(sq_dry_run_finish_layers(wave->run));
    return sq_dry_run_mark_layers(wave->run);
}

/* is_routed: what the experts were calibrated with is what the router sends. */
static enum sq_status give(struct wave *wave, bool is_routed)
{
    struct sq_dry_run *run = wave->run;
    struct sq_backend *backend = run->backend;
    if (!is_routed) {
        SQ_TRY(take(wave, true));
        SQ_TRY(activate(wave));
    }
    SQ_TRY(backend->ops->parallel(backend, wave->n_pieces, finish_piece, wave));
    SQ_TRY(sq_comm_agree(&run->world, SQ_OK));
    SQ_TRY(exchange(wave));
    SQ_TRY(backend->ops->parallel(backend, run->request->n_samples, add_sample, wave));
    SQ_TRY(sq_comm_agree(&run->world, SQ_OK));
    sq_dry_run_clock(run, SQ_STAGE_FORWARD);
    return SQ_OK;
}

static enum sq_status do_wave(struct wave *wave, bool is_last)
{
    struct sq_dry_run *run = wave->run;
    const struct sq_model *model = run->request->model;
    int first;
    sq_model_group_linears(model, wave->block, wave->group, &first);
    wave->gate = sq_model_linear(model, first);
    wave->down = sq_model_linear(model, first + 2);
    bool is_done = !sq_dry_run_is_quantized(run, wave->block, wave->group) &&
                   !sq_dry_run_is_quantized(run, wave->block, wave->group + 1);
    if (is_done && is_last) return SQ_OK;
    SQ_TRY(take(wave, is_done));
    sq_dry_run_begin_teams(run, wave->count);
    enum sq_status status = do_expert(wave);
    sq_dry_run_end_teams(run);
    SQ_TRY(sq_comm_agree(&run->world, status));
    if (!is_done) SQ_TRY(finish_wave(wave));
    SQ_TRY(sq_stop_check(&run->world));
    return is_last ? SQ_OK : give(wave, is_done || more_tokens(wave) == 0);
}

/* --- all waves ---------------------------------------------------------------------------------------------------- */

static enum sq_status clear_sample(void *context, int64_t index, int worker)
{
    const struct sq_dry_run *run = context;
    size_t bytes = (size_t)(run->request->length * sq_model_hidden_size(run->request->model)) * sizeof(float);
    (void)index;
    (void)worker;
    return run->backend->ops->clear(run->backend, run->records, bytes);
}

/* Every rank sorts its tokens by expert. */
static enum sq_status begin(struct sq_dry_run *run)
{
    int n_agreed = run->has_experts ? 2 : 4; /* the first time on the memory of lists, too */
    run->has_experts = true;
    SQ_TRY(run->backend->ops->parallel(run->backend, run->request->n_samples, clear_sample, run));
    for (int i = 0; i < n_agreed; i++)
        SQ_TRY(sq_comm_agree(&run->world, SQ_OK));
    SQ_TRY(gather_counts(&run->world, 1));
    return sq_comm_agree(&run->world, SQ_OK); /* on memory for reports */
}

enum sq_status sq_dry_run_experts(struct sq_dry_run *run, int block, int first_group, bool is_last)
{
    int n_experts = sq_model_n_experts(run->request->model, block);
    int n_teams = run->world.size < n_experts ? run->world.size : n_experts;
    const struct sq_comm team = run->team;
    enum sq_status status = begin(run);
    run->team = run->world;
    run->team.size = run->world.size / n_teams;
    for (int first = 0; status == SQ_OK && first < n_experts; first += n_teams) {
        struct wave wave = {.run = run, .block = block, .group = first_group + 2 * first, .n_teams = n_teams};
        wave.count = n_experts - first < n_teams ? n_experts - first : n_teams;
        status = do_wave(&wave, is_last);
    }
    run->team = team;
    return status;
}
