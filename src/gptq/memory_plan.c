#include "gptq/memory_plan.h"

#include <stdio.h>

#include "base/log.h"
#include "base/text.h"
#include "gptq/factor.h"
#include "gptq/group.h"
#include "gptq/hessian.h"
#include "gptq/spread.h"
#include "model/experts.h"

int64_t sq_memory_widest_input(const struct sq_model *model, const struct sq_layers *layers)
{
    int64_t widest = 0;
    for (int i = 0; i < sq_model_n_linears(model); i++)
        if (layers->of_linear[i] >= 0 && sq_model_linear(model, i)->in_features > widest)
            widest = sq_model_linear(model, i)->in_features;
    return widest;
}

/* 0 for a group of which nothing is quantized. */
static size_t group_record_bytes(const struct sq_memory_request *request, int block, int group)
{
    struct sq_spread_member members[SQ_STEP_MAX];
    int n = sq_spread_list(request->model, request->layers, block, group, members);
    return n ? sq_spread_bytes(members, n, request->traits->sizes.solve_rows) : 0;
}

size_t sq_memory_record_bytes(const struct sq_memory_request *request)
{
    size_t largest = 0;
    const struct sq_model *model = request->model;
    int n_blocks = (int)sq_model_n_blocks(model);
    for (int block = 0; block <= n_blocks; block++) {
        for (int group = 0; group < sq_model_n_groups(model, block); group++) {
            size_t bytes = group_record_bytes(request, block, group);
            if (bytes > largest) largest = bytes;
        }
    }
    return largest;
}

/* What the solver takes on the host beside its scratch, for one worker. */
static size_t solver_host_bytes(const struct sq_memory_request *request)
{
    size_t largest = 0;
    for (int i = 0; i < request->layers->n_layers; i++) {
        const struct sq_store_layer *layer = &request->layers->layers[i];
        struct sq_solve_options options = sq_group_solve_options(request->config, &layer->grid);
        size_t bytes = sq_solve_host_bytes(&request->traits->sizes, &options, layer->in_features);
        if (bytes > largest) largest = bytes;
    }
    return largest;
}

size_t sq_memory_scratch_bytes(const struct sq_memory_request *request)
{
    size_t largest = 0;
    for (int i = 0; i < request->layers->n_layers; i++) {
        const struct sq_store_layer *layer = &request->layers->layers[i];
        struct sq_solve_options options = sq_group_solve_options(request->config, &layer->grid);
        size_t bytes = sq_solve_scratch_bytes(&request->traits->sizes, &options, layer->in_features) +
                       (size_t)(request->traits->sizes.solve_rows * layer->in_features) * sizeof(float);
        if (bytes > largest) largest = bytes;
    }
    return (largest + 63) / 64 * 64;
}

int64_t sq_memory_block_hessians(const struct sq_model *model)
{
    int64_t most = 0;
    for (int block = 0; block < (int)sq_model_n_blocks(model); block++) {
        int64_t bytes = 0;
        for (int group = 0; group < sq_model_n_groups(model, block); group++) {
            int first = 0;
            if (sq_model_is_expert_group(model, block, group)) continue;
            sq_model_group_linears(model, block, group, &first);
            int64_t n = sq_model_linear(model, first)->in_features;
            bytes += n * n * (int64_t)sizeof(float);
        }
        if (bytes > most) most = bytes;
    }
    return most;
}

static struct sq_experts_bytes expert_bytes(const struct sq_memory_request *request)
{
    const struct sq_experts_request experts = {.compute = request->compute,
                                               .n_own = request->n_samples * request->length,
                                               .n_all = request->n_job_samples * request->length,
                                               .n_ranks = request->n_ranks,
                                               .n_workers = request->n_workers,
                                               .expert_rows = request->traits->sizes.expert_rows,
                                               .is_host = request->traits->is_host,
                                               .policy = {request->config->experts, request->config->expert_tokens}};
    return sq_experts_predict_bytes(request->model, &experts);
}

/* Weights of the tiles of one rank, of the group where they take most. Experts are not read ahead, and neither is
 * anything where no forward pass goes before a solve. */
static int64_t ahead_bytes(const struct sq_memory_request *request)
{
    const struct sq_model *model = request->model;
    int64_t most = 0, tile_rows = request->traits->sizes.solve_rows,
            n_ranks = request->n_ranks > 0 ? request->n_ranks : 1;
    if (request->traits->is_host || request->config->propagation == SQ_PROPAGATION_ORIGINAL) return 0;
    for (int block = 0; block <= (int)sq_model_n_blocks(model); block++)
        for (int group = 0; group < sq_model_n_groups(model, block); group++) {
            int first, count = sq_model_group_linears(model, block, group, &first);
            int64_t n_tiles = 0, n = sq_model_linear(model, first)->in_features;
            if (sq_model_is_expert_group(model, block, group)) continue;
            for (int i = first; i < first + count; i++)
                if (request->layers->of_linear[i] >= 0)
                    n_tiles += (sq_model_linear(model, i)->out_features + tile_rows - 1) / tile_rows;
            int64_t bytes = (n_tiles + n_ranks - 1) / n_ranks * tile_rows * n * (int64_t)sizeof(float);
            if (bytes > most) most = bytes;
        }
    return most;
}

int64_t sq_memory_staging_elements(const struct sq_memory_request *request)
{
    if (request->traits->is_host) return 0;
    return SQ_MEMORY_STAGING_ROWS * sq_memory_widest_input(request->model, request->layers);
}

/* --- by kind ------------------------------------------------------------------------------------------------------ */

const char *sq_memory_kind_name(enum sq_memory_kind kind)
{
    static const char *const names[SQ_N_MEMORY] = {
        [SQ_MEMORY_WEIGHTS] = "weights", [SQ_MEMORY_ACTIVATIONS] = "activations", [SQ_MEMORY_EXPERTS] = "experts",
        [SQ_MEMORY_HESSIAN] = "hessian", [SQ_MEMORY_FACTOR] = "factor",           [SQ_MEMORY_WORKSPACE] = "workspace",
        [SQ_MEMORY_TOKENS] = "tokens"};
    return names[kind];
}

static void count_forward(const struct sq_memory_request *request, struct sq_memory_plan *plan)
{
    bool on_host = plan->place == SQ_ACTIVATIONS_ON_HOST;
    const struct sq_forward_options options = {
        .compute = request->compute, .n_samples = request->n_samples, .length = request->length, .place = plan->place};
    struct sq_forward_bytes forward =
        sq_forward_predict_bytes(request->traits, request->n_workers, request->model, &options);
    (on_host ? plan->host : plan->backend)[SQ_MEMORY_ACTIVATIONS] = forward.activations;
    if (on_host)
        plan->room = (int64_t)sq_hessian_room_bytes(&request->traits->sizes, request->n_job_samples,
                                                    request->config->shards, request->length, forward.input_row);
    plan->backend[SQ_MEMORY_WEIGHTS] = forward.weights;
    plan->host[SQ_MEMORY_WEIGHTS] = forward.host_weights;
    plan->backend[SQ_MEMORY_WORKSPACE] = forward.workspace;
    plan->host[SQ_MEMORY_WORKSPACE] = forward.host_workspace;
    plan->start = request->traits->is_host ? forward.embedding + forward.host_embedding : forward.embedding;
}

static void count_solver(const struct sq_memory_request *request, struct sq_memory_plan *plan)
{
    int64_t n = sq_memory_widest_input(request->model, request->layers), n_workers = request->n_workers;
    plan->backend[SQ_MEMORY_HESSIAN] =
        (int64_t)sq_hessian_bytes(&request->traits->sizes, n) + n * n * (int64_t)sizeof(float) + plan->room;
    int64_t spread_from = sq_factor_spread_from(request->config, request->traits, request->n_ranks);
    plan->host[SQ_MEMORY_HESSIAN] = (int64_t)sq_hessian_host_bytes(n, request->n_workers);
    if (request->config->propagation == SQ_PROPAGATION_ORIGINAL)
        plan->backend[SQ_MEMORY_HESSIAN] += sq_memory_block_hessians(request->model);
    plan->backend[SQ_MEMORY_FACTOR] = (int64_t)sq_factor_bytes(&request->traits->sizes, n, spread_from);
    plan->host[SQ_MEMORY_FACTOR] = (int64_t)sq_factor_host_bytes(n);
    plan->backend[SQ_MEMORY_WORKSPACE] += (int64_t)sq_memory_scratch_bytes(request) * n_workers;
    plan->host[SQ_MEMORY_WORKSPACE] += (int64_t)sq_memory_record_bytes(request) +
                                       n_workers * ((int64_t)solver_host_bytes(request) +
                                                    sq_memory_staging_elements(request) * (int64_t)sizeof(float));
    struct sq_experts_bytes experts = expert_bytes(request);
    plan->backend[SQ_MEMORY_EXPERTS] = experts.backend;
    plan->host[SQ_MEMORY_EXPERTS] = experts.host;
    plan->host[SQ_MEMORY_TOKENS] = request->n_job_samples * request->length * (int64_t)sizeof(int32_t);
}

/* Where the backend's memory is the host's, all of it counts against the limit. */
static void join_host(struct sq_memory_plan *plan)
{
    for (int kind = 0; kind < SQ_N_MEMORY; kind++) {
        plan->backend[kind] += plan->host[kind];
        plan->host[kind] = 0;
    }
}

static int64_t sum(const int64_t bytes[SQ_N_MEMORY])
{
    int64_t all = 0;
    for (int kind = 0; kind < SQ_N_MEMORY; kind++)
        all += bytes[kind];
    return all;
}

/* What embedding takes beside the plan's memory. The host's pages count when they are used, and then most are not yet.
 */
static int64_t embedding_bytes(const struct sq_memory_request *request, const struct sq_memory_plan *plan)
{
    return request->traits->is_host ? 0 : plan->start;
}

/* What the limit leaves may go to weights that are read ahead. */
static void count_ahead(const struct sq_memory_request *request, struct sq_memory_plan *plan)
{
    int64_t needed = sum(plan->backend) + embedding_bytes(request, plan), wanted = ahead_bytes(request);
    int64_t left = request->limit > 0 ? request->limit - needed : wanted;
    plan->ahead = left < 0 ? 0 : wanted < left ? wanted : left / 64 * 64;
    plan->backend[SQ_MEMORY_WEIGHTS] += plan->ahead;
    if (plan->ahead > 0)
        plan->host[SQ_MEMORY_WORKSPACE] += SQ_LANES * sq_memory_staging_elements(request) * (int64_t)sizeof(float);
}

/* "weights 1.0 GiB, activations 2.0 GiB, ..."; returns its length. */
static size_t list_kinds(const int64_t bytes[SQ_N_MEMORY], const char *where, char *list, size_t size)
{
    char text[16];
    size_t used = 0;
    for (int kind = 0; kind < SQ_N_MEMORY; kind++)
        used += (size_t)snprintf(list + used, size - used, "%s%s %s%s", kind ? ", " : "",
                                 sq_memory_kind_name((enum sq_memory_kind)kind),
                                 sq_size_format((double)bytes[kind], text), kind == SQ_MEMORY_ACTIVATIONS ? where : "");
    return used;
}

static void describe_host(const struct sq_memory_request *request, const struct sq_memory_plan *plan)
{
    char list[256], text[2][16];
    list_kinds(plan->host, "", list, sizeof list);
    sq_error(
        "beside its device a rank needs %s of the host but may take %s: %s; ranks on more nodes or fewer samples would "
        "fit",
        sq_size_format((double)plan->resident_host, text[0]), sq_size_format((double)request->host_limit, text[1]),
        list);
}

static void describe(const struct sq_memory_request *request, const struct sq_memory_plan *plan)
{
    char list[256] = "", where[32] = "", text[2][16];
    int64_t embedding = embedding_bytes(request, plan);
    if (plan->place != SQ_ACTIVATIONS_NEAR)
        snprintf(where, sizeof where, " (already %s)", sq_activations_where(plan->place));
    size_t used = list_kinds(plan->backend, where, list, sizeof list);
    if (embedding > 0)
        snprintf(list + used, sizeof list - used, ", embedding %s", sq_size_format((double)embedding, text[0]));
    sq_error("a rank needs %s but may take %s: %s; more ranks, fewer samples or a larger --memory would fit",
             sq_size_format((double)(plan->resident + embedding), text[0]),
             sq_size_format((double)request->limit, text[1]), list);
}

/* With so many workers, and the activations of a device's rank in this place; those of another go to a file when that
 * is what makes all fit. */
static struct sq_memory_plan count_workers(const struct sq_memory_request *request, int n_workers,
                                           enum sq_activations_place place)
{
    struct sq_memory_plan plan = {.n_workers = n_workers, .place = place};
    struct sq_memory_request fewer = *request;
    fewer.n_workers = n_workers;
    bool is_host = request->traits->is_host;
    count_forward(&fewer, &plan);
    count_solver(&fewer, &plan);
    if (is_host) join_host(&plan);
    count_ahead(&fewer, &plan);
    plan.resident = sum(plan.backend);
    plan.resident_host = sum(plan.host);
    if (is_host && request->limit > 0 && plan.resident > request->limit) {
        plan.place = SQ_ACTIVATIONS_IN_FILE;
        plan.resident -= plan.backend[SQ_MEMORY_ACTIVATIONS];
    }
    return plan;
}

static bool fits_backend(const struct sq_memory_request *request, const struct sq_memory_plan *plan)
{
    return request->limit == 0 || plan->resident + embedding_bytes(request, plan) <= request->limit;
}

static bool fits_host(const struct sq_memory_request *request, const struct sq_memory_plan *plan)
{
    return request->host_limit == 0 || plan->resident_host <= request->host_limit;
}

/* A device's workers: fewer of them cost less time than activations that come from the host and go back. What fits the
 * device alone is the plan that is shown when nothing fits the host as well. */
static bool count_device(const struct sq_memory_request *request, struct sq_memory_plan *plan_p)
{
    bool fits_one = false;
    const enum sq_activations_place places[] = {SQ_ACTIVATIONS_NEAR, SQ_ACTIVATIONS_ON_HOST};
    for (int i = 0; i < 2; i++)
        for (int n_workers = request->n_workers; n_workers > 0; n_workers--) {
            struct sq_memory_plan plan = count_workers(request, n_workers, places[i]);
            bool fits = fits_backend(request, &plan);
            if (!fits_one || (fits && fits_host(request, &plan))) *plan_p = plan;
            if (fits && fits_host(request, &plan)) return true;
            fits_one = fits_one || fits;
        }
    return false;
}

/* On the host workers are the processors, and what each of them takes is small. */
bool sq_memory_plan_count(const struct sq_memory_request *request, struct sq_memory_plan *plan_p)
{
    if (!request->traits->is_host) return count_device(request, plan_p);
    *plan_p = count_workers(request, request->n_workers, SQ_ACTIVATIONS_NEAR);
    return fits_backend(request, plan_p);
}

enum sq_status sq_memory_plan_make(const struct sq_memory_request *request, struct sq_memory_plan *plan_p)
{
    struct sq_memory_plan plan;
    if (!sq_memory_plan_count(request, &plan)) {
        (fits_backend(request, &plan) ? describe_host : describe)(request, &plan);
        return SQ_ERR_USAGE;
    }
    *plan_p = plan;
    return SQ_OK;
}
