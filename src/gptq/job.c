#include "gptq/job.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/trace.h"
#include "gptq/compute.h"
#include "gptq/plan.h"
#include "io/alike.h"
#include "io/fingerprint.h"
#include "io/tokenizer.h"
#include "mpi/comm_memory.h"

const char *sq_stage_name(enum sq_stage stage)
{
    static const char *const names[SQ_N_STAGES] = {
        [SQ_STAGE_READ] = "read",     [SQ_STAGE_FORWARD] = "forward",  [SQ_STAGE_HESSIAN] = "hessian",
        [SQ_STAGE_FACTOR] = "factor", [SQ_STAGE_SOLVE] = "solve",      [SQ_STAGE_GATHER] = "gather",
        [SQ_STAGE_STORE] = "store",   [SQ_STAGE_ASSEMBLE] = "assemble"};
    return names[stage];
}

void sq_job_clock(struct sq_job *job, enum sq_stage stage, double *since)
{
    sq_trace_add(SQ_TRACE_STAGE, sq_stage_name(stage), *since, 0);
    double now = sq_seconds(); /* after the span's end: the next one must not begin before it */
    job->seconds[stage] += now - *since;
    *since = now;
}

static enum sq_status open_model(void *context)
{
    struct sq_job *job = context;
    SQ_TRY(sq_checkpoint_open(job->config->model, &job->checkpoint));
    SQ_TRY(sq_model_open(job->checkpoint, &job->model));
    if (job->config->propagation == SQ_PROPAGATION_QUANTIZED) sq_model_keep_linears(job->model);
    return sq_layers_resolve(job->model, job->config, &job->layers);
}

static enum sq_status open_inputs(struct sq_job *job)
{
    const struct sq_config *config = job->config;
    SQ_TRY(sq_comm_first_rank_first(job->world, open_model, job));
    job->model_hash = sq_checkpoint_fingerprint(job->checkpoint);
    SQ_TRY(sq_alike_model(job->world, job->checkpoint, job->model_hash));
    SQ_TRY(sq_tokens_read(job->world, config->tokens, sq_model_vocab_size(job->model), sq_model_max_length(job->model),
                          &job->tokens));
    SQ_TRY(sq_tokenizer_compare(job->world, &job->tokens, config->tokens, config->model));
    job->shards = sq_shards_make(job->tokens.n_samples, config->shards, job->world->rank, job->world->size);
    return SQ_OK;
}

/* Propagation "original": as many teams as there are ranks and blocks; team t has a contiguous share of the ranks. */
static enum sq_status make_team(struct sq_job *job)
{
    job->n_teams = 1;
    if (job->config->propagation == SQ_PROPAGATION_ORIGINAL) {
        int64_t n_blocks = sq_model_n_blocks(job->model);
        job->n_teams = job->world->size < n_blocks ? job->world->size : (int)n_blocks;
    }
    job->team_index = sq_team_of(job->world->rank, job->n_teams, job->world->size);
    SQ_TRY(sq_comm_split(job->world, job->team_index, &job->team));
    return sq_comm_agree(job->world, sq_comm_memory_join(job->world, &job->team));
}

/* The job's settings with what `auto` came to: they make the same bytes elsewhere, or are refused there. */
static struct sq_config resolved(const struct sq_job *job)
{
    struct sq_config config = *job->config;
    config.group_size = job->layers.group_size;
    config.compute = job->compute == SQ_BF16 ? SQ_COMPUTE_BF16 : SQ_COMPUTE_FP32;
    config.backend = sq_place_choice(&job->place);
    if (config.backend == SQ_BACKEND_CPU) config.isa = job->backend->held;
    return config;
}

/* The configuration as it is kept in the store: it is read from other folders, too. */
static enum sq_status make_config(struct sq_job *job)
{
    struct sq_config kept = resolved(job);
    char *model = NULL, *tokens = NULL;
    enum sq_status status = sq_path_absolute(kept.model, &model);
    if (status == SQ_OK) status = sq_path_absolute(kept.tokens, &tokens);
    kept.model = model;
    kept.tokens = tokens;
    if (status == SQ_OK) status = sq_config_to_yaml(&kept, &job->config_yaml);
    sq_free(model);
    sq_free(tokens);
    return status;
}

/* Everything that changes bytes: settings, inputs, arithmetic. */
static enum sq_status make_fingerprint(struct sq_job *job)
{
    char *settings = NULL;
    struct sq_config config = resolved(job);
    SQ_TRY(sq_config_fingerprint(&config, &settings));
    struct sq_fingerprint_inputs inputs = {.model_hash = job->model_hash,
                                           .tokens_hash = job->tokens.hash,
                                           .compute = sq_dtype_name(job->compute),
                                           .backend = job->backend->ops->name,
                                           .isa = job->backend->isa,
                                           .libraries = job->backend->libraries};
    enum sq_status status = sq_fingerprint_make(settings, &inputs, &job->fingerprint);
    sq_free(settings);
    return status;
}

static enum sq_status check_record(void *context)
{
    const struct sq_job *job = context;
    return sq_fingerprint_check_record(&job->config->record, job->fingerprint);
}

/* On rank 0, as the description of the machine need not be on every node. */
static enum sq_status choose_spread(const struct sq_job *job, struct sq_memory_request *request)
{
    const char *path = job->config->machine;
    struct sq_machine machine;
    if (job->world->rank != 0) return SQ_OK;
    if (path) SQ_TRY(sq_machine_read_for(sq_place_choice(&job->place), path, &machine));
    return sq_plan_spread_from(request, path ? &machine : NULL, job->world->size, &request->spread_from);
}

static enum sq_status plan_memory(struct sq_job *job, struct sq_memory_request *request)
{
    *request = (struct sq_memory_request){.model = job->model,
                                          .layers = &job->layers,
                                          .config = job->config,
                                          .compute = job->compute,
                                          .n_samples = job->shards.samples.count,
                                          .length = job->tokens.length,
                                          .n_job_samples = job->tokens.n_samples,
                                          .n_workers = job->backend->n_workers,
                                          .traits = job->backend->traits};
    SQ_TRY(sq_comm_agree(job->world, choose_spread(job, request)));
    SQ_TRY(sq_comm_broadcast(job->world, 0, &request->spread_from, sizeof request->spread_from));
    return sq_memory_fit_ranks(&job->place, job->config->memory_bytes, sq_memory_count_quantize, request, &job->memory);
}

static enum sq_status take_memory(struct sq_job *job, const struct sq_memory_request *request)
{
    struct sq_forward_options options = {.compute = job->compute,
                                         .first_sample = job->shards.samples.first,
                                         .n_samples = job->shards.samples.count,
                                         .length = job->tokens.length,
                                         .place = job->memory.place,
                                         .groups_ahead = job->memory.groups_ahead,
                                         .leaves_last = !job->config->lm_head,
                                         .folder = "."};
    char *folder = NULL;
    if (options.place == SQ_ACTIVATIONS_IN_FILE) {
        SQ_TRY(sq_string_copy(job->store_path, &folder));
        char *slash = strrchr(folder, '/');
        if (slash) *slash = 0;
        if (slash) options.folder = folder;
    }
    enum sq_status status = sq_forward_create(job->backend, job->model, &options, &job->forward);
    sq_free(folder);
    int64_t widest = sq_memory_widest_input(job->model, &job->layers);
    if (status == SQ_OK) status = sq_hessian_create(job->backend, widest, &job->memory.rooms, &job->hessian);
    if (status == SQ_OK) status = sq_factor_create(job->backend, widest, request->spread_from, &job->factor);
    if (status == SQ_OK)
        status = job->backend->ops->alloc_host(job->backend, "rows of a group of linears",
                                               sq_memory_record_bytes(request), &job->records);
    job->scratch_stride = sq_memory_scratch_bytes(request);
    if (status == SQ_OK)
        status =
            job->backend->ops->alloc(job->backend, "the solver's scratch",
                                     job->scratch_stride * (size_t)job->backend->n_workers, (void **)&job->scratch);
    job->staging_elements = sq_memory_staging_elements(request);
    if (status == SQ_OK && job->staging_elements > 0)
        status = job->backend->ops->alloc_host(
            job->backend, "rows read from a file",
            (size_t)(job->staging_elements * job->backend->n_workers) * sizeof(float), (void **)&job->staging);
    return status == SQ_OK ? sq_beside_create(job) : status;
}

static enum sq_status open_store(struct sq_job *job)
{
    const struct sq_layers *layers = &job->layers;
    int64_t exists = job->world->rank == 0 && access(job->store_path, F_OK) == 0;
    SQ_TRY(sq_comm_max_i64(job->world, &exists, 1));
    job->is_new = !exists;
    if (exists && job->config->resume)
        return sq_store_open(job->world, job->store_path, true, layers->layers, layers->n_layers, job->fingerprint,
                             &job->store);
    return sq_store_create(job->world, job->store_path, layers->layers, layers->n_layers, job->config_yaml,
                           job->fingerprint, &job->store);
}

static enum sq_status open_state(struct sq_job *job)
{
    char *path = NULL;
    SQ_TRY(sq_string_format(&path, "%s.state", job->store_path));
    int64_t sample_bytes = job->tokens.length * sq_model_hidden_size(job->model) * (int64_t)sizeof(float);
    enum sq_status status = sq_state_open(job->world, path, job->fingerprint, job->tokens.n_samples, sample_bytes,
                                          &job->state, &job->state_block);
    sq_free(path);
    return status;
}

static enum sq_status open_all(struct sq_job *job)
{
    struct sq_memory_request request;
    const struct sq_config *config = job->config;
    SQ_TRY(sq_place_open(config, job->world, &job->place));
    job->backend = job->place.backend;
    job->world = &job->place.comm;
    SQ_TRY(sq_compute_choose(job->world, job->backend, config->compute, &job->compute));
    SQ_TRY(open_inputs(job));
    SQ_TRY(make_team(job));
    SQ_TRY(sq_comm_agree(job->world, make_fingerprint(job)));
    SQ_TRY(sq_comm_first_rank_first(job->world, check_record, job));
    enum sq_status status = make_config(job);
    if (status == SQ_OK)
        status = config->store ? sq_string_copy(config->store, &job->store_path)
                               : sq_string_format(&job->store_path, "%s.store.h5", config->out);
    SQ_TRY(sq_comm_agree(job->world, status));
    SQ_TRY(plan_memory(job, &request));
    SQ_TRY(sq_comm_agree(job->world, take_memory(job, &request)));
    SQ_TRY(open_store(job));
    return open_state(job);
}

enum sq_status sq_job_open(const struct sq_config *config, const struct sq_comm *world, struct sq_job **job_p)
{
    void *memory = NULL;
    SQ_TRY(sq_comm_agree(world, sq_alloc("the job", 1, sizeof(struct sq_job), &memory)));
    struct sq_job *job = memory;
    job->config = config;
    job->world = world;
    job->state_block = -1;
    double since = sq_seconds();
    enum sq_status status = open_all(job);
    sq_job_clock(job, SQ_STAGE_READ, &since);
    if (status != SQ_OK) {
        sq_job_close(job, status);
        return status;
    }
    *job_p = job;
    return SQ_OK;
}

int sq_job_n_done(const struct sq_job *job)
{
    int done = 0;
    for (int i = 0; i < job->layers.n_layers; i++)
        done += sq_store_is_done(job->store, i);
    return done;
}

bool sq_job_is_complete(const struct sq_job *job)
{
    return sq_job_n_done(job) == job->layers.n_layers;
}

void sq_job_release_buffers(struct sq_job *job)
{
    if (job->backend) {
        sq_beside_destroy(job);
        job->backend->ops->free(job->backend, job->scratch);
        job->backend->ops->free_host(job->backend, job->staging);
        job->backend->ops->free_host(job->backend, job->records);
        sq_factor_destroy(job->backend, &job->factor);
        sq_hessian_destroy(job->backend, &job->hessian);
    }
    sq_forward_destroy(job->forward);
    job->scratch = NULL;
    job->staging = NULL;
    job->forward = NULL;
    job->records = NULL;
}

/* Whether a file of which all ranks would have to agree in closing it cannot be closed. Collective. */
static bool has_broken_file(const struct sq_job *job)
{
    return (job->store && sq_store_is_broken(job->store)) || (job->state && sq_state_is_broken(job->state));
}

void sq_job_close(struct sq_job *job, enum sq_status status)
{
    if (!job) return;
    bool is_done = status == SQ_OK || status == SQ_ERR_STRICT;
    /* a job that failed before its first layer leaves nothing that would stand in the way of the next attempt */
    bool is_void = !is_done && status != SQ_STOPPED && job->is_new && job->store && sq_job_n_done(job) == 0;
    if (is_void && job->world->rank == 0) unlink(job->store_path); /* while its lock is held */
    if (has_broken_file(job)) sq_comm_abort(sq_status_exit_code(status));
    sq_state_close(job->state, is_done || is_void);
    sq_store_close(job->store);
    sq_job_release_buffers(job);
    sq_layers_release(&job->layers);
    sq_tokens_release(&job->tokens);
    sq_model_close(job->model);
    sq_checkpoint_close(job->checkpoint);
    sq_free(job->fingerprint);
    sq_free(job->config_yaml);
    sq_free(job->store_path);
    sq_comm_memory_leave(&job->team);
    if (job->team.size) sq_comm_free(&job->team);
    sq_place_close(&job->place);
    sq_free(job);
}
