#include "gptq/simulate.h"

#include <math.h>
#include <string.h>

#include "gptq/run_private.h"
#include "gptq/simulate_private.h"
#include "gptq/spread.h"
#include "mpi/comm_memory.h"
#include "mpi/stop.h"

/* --- propagation "quantized": as run.c has it --------------------------------------------------------------------- */

bool sq_dry_run_is_quantized(const struct sq_dry_run *run, int block, int group)
{
    int first, count = sq_model_group_linears(run->request->model, block, group, &first);
    for (int i = 0; i < count; i++)
        if (run->request->layers->of_linear[first + i] >= 0) return true;
    return false;
}

static int64_t width_of(const struct sq_dry_run *run, int block, int group)
{
    int first;
    sq_model_group_linears(run->request->model, block, group, &first);
    return sq_model_linear(run->request->model, first)->in_features;
}

/* Reports, a flush and marks (io/store.c), each with an agreement. */
enum sq_status sq_dry_run_mark_layers(struct sq_dry_run *run)
{
    for (int i = 0; i < 3; i++)
        SQ_TRY(sq_comm_agree(&run->world, SQ_OK));
    sq_dry_run_clock(run, SQ_STAGE_STORE);
    return SQ_OK;
}

enum sq_status sq_dry_run_finish_layers(struct sq_dry_run *run)
{
    SQ_TRY(sq_comm_agree(&run->world, SQ_OK));
    sq_dry_run_clock(run, SQ_STAGE_STORE);
    return SQ_OK;
}

/* Rank 0's clock decides, and all go by it. */
static enum sq_status agree_on_saving(struct sq_dry_run *run)
{
    int64_t due = 0;
    return sq_comm_max_i64(&run->world, &due, 1);
}

static enum sq_status to_group(struct sq_dry_run *run, int group)
{
    SQ_TRY(sq_forward_to_group(run->forward, group));
    SQ_TRY(sq_comm_agree(&run->world, SQ_OK));
    sq_dry_run_clock(run, SQ_STAGE_FORWARD);
    return SQ_OK;
}

static enum sq_status do_group(struct sq_dry_run *run, int block, int group, bool is_last)
{
    if (!sq_dry_run_is_quantized(run, block, group))
        return is_last ? SQ_OK : sq_dry_run_set_weights(run, block, group, false);
    SQ_TRY(sq_dry_run_hessian(run, width_of(run, block, group), -1));
    SQ_TRY(sq_dry_run_solve(run, block, group));
    SQ_TRY(sq_dry_run_finish_layers(run));
    if (!is_last) SQ_TRY(sq_dry_run_set_weights(run, block, group, true));
    return sq_comm_agree(&run->world, SQ_OK);
}

static enum sq_status load_block(struct sq_dry_run *run, int64_t block)
{
    SQ_TRY(sq_forward_load_block(run->forward, &run->world, block));
    sq_dry_run_clock(run, SQ_STAGE_READ);
    return SQ_OK;
}

static enum sq_status finish_block(struct sq_dry_run *run)
{
    SQ_TRY(sq_forward_finish_block(run->forward));
    SQ_TRY(sq_comm_agree(&run->world, SQ_OK));
    sq_dry_run_clock(run, SQ_STAGE_FORWARD);
    return SQ_OK;
}

static enum sq_status do_block(struct sq_dry_run *run, int64_t block, bool is_last)
{
    const struct sq_model *model = run->request->model;
    int n_groups = sq_model_n_groups(model, block), first;
    bool has_layers = false;
    SQ_TRY(load_block(run, block));
    for (int group = 0, count; group < n_groups; group += count) {
        count = sq_model_step_groups(model, block, group, &first);
        bool is_end = is_last && group + count == n_groups, is_expert = sq_model_is_expert_group(model, block, group);
        /* those of experts are marked by waves */
        has_layers = !is_expert && (has_layers || sq_dry_run_is_quantized(run, (int)block, group));
        SQ_TRY(to_group(run, group));
        SQ_TRY(is_expert ? sq_dry_run_experts(run, (int)block, group, is_end)
                         : do_group(run, (int)block, group, is_end));
        SQ_TRY(sq_stop_check(&run->world));
    }
    if (has_layers) SQ_TRY(sq_dry_run_mark_layers(run));
    return is_last ? SQ_OK : finish_block(run);
}

/* --- propagation "original": as run_original.c has it ------------------------------------------------------------- */

static enum sq_status push_block(struct sq_dry_run *run, int64_t block, bool is_last)
{
    const struct sq_model *model = run->request->model;
    int n_groups = sq_model_n_groups(model, block), first;
    SQ_TRY(load_block(run, block));
    for (int group = 0, count; group < n_groups; group += count) {
        count = sq_model_step_groups(model, block, group, &first);
        SQ_TRY(to_group(run, group));
        if (sq_model_is_expert_group(model, block, group)) {
            bool is_end = is_last && group + count == n_groups;
            SQ_TRY(sq_dry_run_experts(run, (int)block, group, is_end));
            if (is_end) return SQ_OK;
            continue;
        }
        if (sq_dry_run_is_quantized(run, (int)block, group))
            SQ_TRY(sq_dry_run_hessian(run, width_of(run, (int)block, group), 0));
        if (is_last && group == n_groups - 1) return SQ_OK;
        SQ_TRY(sq_dry_run_set_weights(run, (int)block, group, false));
    }
    return finish_block(run);
}

static enum sq_status solve_block(struct sq_dry_run *run, int64_t block)
{
    for (int group = 0; group < sq_model_n_groups(run->request->model, block); group++) {
        if (sq_model_is_expert_group(run->request->model, block, group)) continue;
        if (!sq_dry_run_is_quantized(run, (int)block, group)) continue;
        int64_t n = width_of(run, (int)block, group);
        enum sq_status status = sq_comm_memory_broadcast(&run->team, run->backend, 0, run->factor.hessian.data,
                                                         (size_t)(n * n) * sizeof(float));
        SQ_TRY(sq_comm_agree(&run->team, status));
        SQ_TRY(sq_dry_run_solve(run, (int)block, group));
    }
    return SQ_OK;
}

/* Beside files. */
static double busy_seconds(const struct sq_simulation *result)
{
    double seconds = 0;
    for (int stage = 0; stage < SQ_N_STAGES; stage++)
        seconds += result->seconds[stage][SQ_LIMIT_COMPUTE] + result->seconds[stage][SQ_LIMIT_LINK];
    return seconds;
}

/* All teams at once, each its block of the wave: the time is that of the slowest, and so is the traffic. They share the
 * files, whose times add up. */
static enum sq_status solve_wave(struct sq_dry_run *run, int64_t first, int64_t count)
{
    struct sq_simulation before = run->result, slowest = before;
    double files[SQ_N_STAGES] = {0};
    sq_dry_run_begin_teams(run, 1);
    for (int64_t block = first; block < first + count; block++) {
        run->result = before;
        run->traffic = before.traffic;
        SQ_TRY(solve_block(run, block));
        for (int stage = 0; stage < SQ_N_STAGES; stage++)
            files[stage] += run->result.seconds[stage][SQ_LIMIT_FILE] - before.seconds[stage][SQ_LIMIT_FILE];
        if (busy_seconds(&run->result) > busy_seconds(&slowest)) slowest = run->result;
    }
    sq_dry_run_end_teams(run);
    for (int stage = 0; stage < SQ_N_STAGES; stage++)
        slowest.seconds[stage][SQ_LIMIT_FILE] = before.seconds[stage][SQ_LIMIT_FILE] + files[stage];
    run->result = slowest;
    run->traffic = slowest.traffic;
    return SQ_OK;
}

/* Whether anything of the block is that its team solves. */
static bool has_layers(const struct sq_dry_run *run, int64_t block)
{
    const struct sq_model *model = run->request->model;
    for (int group = 0; group < sq_model_n_groups(model, block); group++)
        if (!sq_model_is_expert_group(model, block, group) && sq_dry_run_is_quantized(run, (int)block, group))
            return true;
    return false;
}

static enum sq_status run_wave(struct sq_dry_run *run, int64_t first, int64_t count, bool is_last)
{
    bool is_marked = false;
    for (int64_t i = 0; i < count; i++)
        SQ_TRY(push_block(run, first + i, is_last && i == count - 1));
    SQ_TRY(sq_forward_ahead_settle(run->forward, &run->world));
    SQ_TRY(solve_wave(run, first, count));
    SQ_TRY(sq_comm_agree(&run->world, SQ_OK));
    for (int64_t i = 0; i < count; i++) {
        SQ_TRY(sq_comm_broadcast(&run->world, 0, NULL, sizeof(struct sq_block_result)));
        SQ_TRY(sq_dry_run_finish_layers(run));
        is_marked = is_marked || has_layers(run, first + i);
    }
    if (is_marked) SQ_TRY(sq_dry_run_mark_layers(run));
    return sq_stop_check(&run->world);
}

static enum sq_status run_waves(struct sq_dry_run *run, int64_t end)
{
    SQ_TRY(sq_comm_agree(&run->world, SQ_OK)); /* on memory */
    for (int64_t first = 0; first < end; first += run->n_teams) {
        int64_t count = end - first < run->n_teams ? end - first : run->n_teams;
        bool is_last = first + count == end;
        SQ_TRY(run_wave(run, first, count, is_last));
        if (!is_last) SQ_TRY(agree_on_saving(run));
    }
    return SQ_OK;
}

/* --- the whole run ------------------------------------------------------------------------------------------------ */

static enum sq_status embed(struct sq_dry_run *run)
{
    const struct sq_memory_request *request = run->request;
    void *ids;
    size_t bytes = (size_t)(request->n_samples * request->length) * sizeof(int32_t);
    SQ_TRY(run->backend->ops->alloc(run->backend, "tokens", bytes, &ids));
    enum sq_status status = sq_forward_embed(run->forward, &run->world, ids);
    run->backend->ops->free(run->backend, ids);
    SQ_TRY(sq_comm_agree(&run->world, status));
    sq_dry_run_clock(run, SQ_STAGE_READ);
    double table = (double)sq_model_vocab_size(request->model) * (double)sq_model_hidden_size(request->model);
    sq_dry_run_files(run, SQ_STAGE_READ, table * sq_simulate_weight_bytes(request->model), 0);
    return status;
}

/* Every rank packs its share of the layers once more and reads back what it wrote; the rest of the model is copied. */
static enum sq_status assemble(struct sq_dry_run *run)
{
    const struct sq_memory_request *request = run->request;
    double quantized = 0, packed = 0, weight = sq_simulate_weight_bytes(request->model);
    for (int i = 0; i < request->layers->n_layers; i++) {
        const struct sq_store_layer *layer = &request->layers->layers[i];
        double weights = (double)layer->out_features * (double)layer->in_features;
        double groups = (double)layer->out_features * (double)sq_grid_n_groups(&layer->grid, layer->in_features);
        quantized += weights;
        packed += weights * layer->grid.bits / 8 + 3 * groups;
    }
    double rest = ((double)sq_model_n_parameters(request->model) - quantized) * weight;
    SQ_TRY(sq_dry_do(run->backend, SQ_WORK_PACK, 2 * quantized / run->world.size / run->backend->n_workers, 0));
    sq_dry_run_clock(run, SQ_STAGE_ASSEMBLE);
    sq_dry_run_files(run, SQ_STAGE_ASSEMBLE, 2 * packed + 2 * rest, packed + rest);
    return SQ_OK;
}

/* The activations are saved every so often; they do not wait for anything else. */
static void save_states(struct sq_dry_run *run)
{
    const struct sq_memory_request *request = run->request;
    double seconds = 0, bytes = (double)(request->n_job_samples * request->length) *
                                (double)sq_model_hidden_size(request->model) * sizeof(float);
    for (int stage = 0; stage < SQ_N_STAGES; stage++)
        for (int limit = 0; limit < SQ_N_LIMITS; limit++)
            seconds += run->result.seconds[stage][limit];
    int64_t end = sq_run_end(request->model, request->config);
    double most = (double)((end + run->n_teams - 1) / run->n_teams) - 1, every = request->config->state_seconds;
    double count = every > 0 ? floor(seconds / every) : most;
    sq_dry_run_files(run, SQ_STAGE_STORE, 0, (count < most ? count : most) * bytes);
}

static enum sq_status go_through(struct sq_dry_run *run)
{
    const struct sq_memory_request *request = run->request;
    int64_t end = sq_run_end(request->model, request->config);
    SQ_TRY(sq_stop_check(&run->world));
    SQ_TRY(embed(run));
    if (request->config->propagation == SQ_PROPAGATION_ORIGINAL) {
        SQ_TRY(run_waves(run, end));
    } else {
        for (int64_t block = 0; block < end; block++) {
            SQ_TRY(do_block(run, block, block == end - 1));
            if (block < end - 1) SQ_TRY(agree_on_saving(run));
        }
    }
    save_states(run);
    if (request->config->assemble) SQ_TRY(assemble(run));
    return SQ_OK;
}

static int count_teams(const struct sq_memory_request *request, int n_ranks)
{
    int64_t n_blocks = sq_model_n_blocks(request->model);
    if (request->config->propagation != SQ_PROPAGATION_ORIGINAL) return 1;
    return n_ranks < n_blocks ? n_ranks : (int)n_blocks;
}

int sq_simulate_team_ranks(const struct sq_memory_request *request, int n_ranks)
{
    return n_ranks / count_teams(request, n_ranks);
}

static void make_comms(struct sq_dry_run *run, int n_ranks)
{
    run->links = sq_machine_links(run->machine, n_ranks);
    run->result.traffic = (struct sq_traffic){.is_dry = true, .links = &run->links.base};
    run->world = (struct sq_comm){.size = n_ranks, .traffic = &run->result.traffic};
    run->n_teams = count_teams(run->request, n_ranks);
    run->team = run->world;
    run->team.size = sq_simulate_team_ranks(run->request, n_ranks);
    sq_dry_run_end_teams(run);
}

static enum sq_status take_memory(struct sq_dry_run *run, const struct sq_memory_plan *memory)
{
    const struct sq_memory_request *request = run->request;
    const struct sq_backend_ops *ops = run->backend->ops;
    bool on_host = memory->place == SQ_ACTIVATIONS_ON_HOST; /* what a file would take is left out */
    struct sq_forward_options options = {.compute = request->compute,
                                         .n_samples = request->n_samples,
                                         .length = request->length,
                                         .place = on_host ? memory->place : SQ_ACTIVATIONS_NEAR,
                                         .groups_ahead = memory->groups_ahead,
                                         .leaves_last = !request->config->lm_head};
    int64_t widest = sq_memory_widest_input(request->model, request->layers);
    SQ_TRY(sq_forward_create(run->backend, request->model, &options, &run->forward));
    SQ_TRY(sq_hessian_create(run->backend, widest, &memory->rooms, &run->hessian));
    SQ_TRY(sq_factor_create(run->backend, widest, request->spread_from, &run->factor));
    SQ_TRY(ops->alloc(run->backend, "the solver's scratch", sq_memory_scratch_bytes(request), &run->scratch));
    return ops->alloc(run->backend, "rows of a group of linears", sq_memory_record_bytes(request), &run->records);
}

static void give_back(struct sq_dry_run *run)
{
    struct sq_backend *backend = run->backend;
    sq_forward_destroy(run->forward);
    sq_hessian_destroy(backend, &run->hessian);
    sq_factor_destroy(backend, &run->factor);
    backend->ops->free(backend, run->scratch);
    backend->ops->free(backend, run->records);
    backend->ops->destroy(backend);
}

double sq_simulate_weight_bytes(const struct sq_model *model)
{
    const json_t *config = sq_checkpoint_config(sq_model_checkpoint(model));
    const json_t *method = json_object_get(json_object_get(config, "quantization_config"), "quant_method");
    const char *type = json_string_value(json_object_get(config, "torch_dtype"));
    if (!type) type = json_string_value(json_object_get(config, "dtype"));
    if (json_is_string(method) && !strcmp(json_string_value(method), "fp8")) return 1;
    return type && !strcmp(type, "float32") ? 4 : 2;
}

enum sq_status sq_simulate(const struct sq_memory_request *request, const struct sq_memory_plan *memory,
                           const struct sq_machine *machine, int n_ranks, struct sq_simulation *simulation_p)
{
    struct sq_dry_run run = {.request = request, .machine = machine};
    make_comms(&run, n_ranks);
    run.shards = sq_shards_largest(request->n_job_samples, request->config->shards, n_ranks);
    SQ_TRY(sq_backend_create_dry(request->traits, request->n_workers, &machine->rates, &run.backend));
    enum sq_status status = take_memory(&run, memory);
    if (status == SQ_OK) status = go_through(&run);
    give_back(&run);
    if (status != SQ_OK) return status;
    run.result.traffic.is_dry = false;
    run.result.traffic.links = NULL;
    *simulation_p = run.result;
    return SQ_OK;
}
