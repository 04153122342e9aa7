#include "gptq/memory_plan.h"

#include "gptq/factor.h"
#include "gptq/group.h"
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
    return (size_t)sq_aligned((int64_t)largest);
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

/* Weights of the tiles of one rank, of the group where they take most; experts are not read ahead. */
static int64_t tiles_bytes(const struct sq_memory_request *request)
{
    const struct sq_model *model = request->model;
    int64_t most = 0, tile_rows = request->traits->sizes.solve_rows,
            n_ranks = request->n_ranks > 0 ? request->n_ranks : 1;
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

static void count_solver(const struct sq_memory_request *request, struct sq_memory_plan *plan)
{
    int64_t n = sq_memory_widest_input(request->model, request->layers), n_workers = request->n_workers;
    plan->backend[SQ_MEMORY_HESSIAN] =
        (int64_t)sq_hessian_bytes(&request->traits->sizes, n, &plan->rooms) + n * n * (int64_t)sizeof(float);
    plan->host[SQ_MEMORY_HESSIAN] = (int64_t)sq_hessian_host_bytes(n, request->n_workers);
    if (request->config->propagation == SQ_PROPAGATION_ORIGINAL)
        plan->backend[SQ_MEMORY_HESSIAN] += sq_memory_block_hessians(request->model);
    plan->backend[SQ_MEMORY_FACTOR] = (int64_t)sq_factor_bytes(&request->traits->sizes, n, request->spread_from);
    plan->host[SQ_MEMORY_FACTOR] = (int64_t)sq_factor_host_bytes(n);
    plan->backend[SQ_MEMORY_WORKSPACE] += (int64_t)sq_memory_scratch_bytes(request) * n_workers;
    plan->host[SQ_MEMORY_WORKSPACE] += (int64_t)sq_memory_record_bytes(request) +
                                       n_workers * ((int64_t)solver_host_bytes(request) +
                                                    sq_memory_staging_elements(request) * (int64_t)sizeof(float));
    const struct sq_expert_policy policy = {request->config->experts, request->config->expert_tokens};
    sq_memory_count_inputs(request, request->model, &policy, plan);
}

/* What the limit leaves may go to weights of tiles that are read ahead. */
static void count_tiles_ahead(const struct sq_memory_request *request, struct sq_memory_plan *plan)
{
    int64_t wanted = tiles_bytes(request), left = sq_memory_left(request, plan);
    if (request->traits->is_host) return;
    plan->ahead = left < 0 ? 0 : wanted < left ? wanted : left / SQ_ALIGNMENT * SQ_ALIGNMENT;
    plan->backend[SQ_MEMORY_WEIGHTS] += plan->ahead;
    if (plan->ahead > 0)
        plan->host[SQ_MEMORY_WORKSPACE] += SQ_LANES * sq_memory_staging_elements(request) * (int64_t)sizeof(float);
}

static void count_needed(const struct sq_memory_request *request, struct sq_memory_plan *plan)
{
    sq_memory_count_forward(request, request->model, plan);
    count_solver(request, plan);
}

/* What is left over goes to the Hessian first, then to weights: of tiles or, where no forward pass goes before a solve,
 * of the forward pass itself. */
void sq_memory_count_quantize(const struct sq_memory_request *request, struct sq_memory_plan *plan)
{
    bool is_original = request->config->propagation == SQ_PROPAGATION_ORIGINAL;
    plan->rooms = sq_memory_rooms(request, plan->place);
    count_needed(request, plan);
    sq_memory_widen_hessian(request, sq_memory_widest_input(request->model, request->layers), plan);
    if (is_original)
        sq_memory_count_groups_ahead(request, count_needed, plan);
    else
        count_tiles_ahead(request, plan);
}

bool sq_memory_plan_count(const struct sq_memory_request *request, struct sq_memory_plan *plan_p)
{
    return sq_memory_fit(request, sq_memory_count_quantize, plan_p);
}

enum sq_status sq_memory_plan_make(const struct sq_memory_request *request, struct sq_memory_plan *plan_p)
{
    return sq_memory_fit_or_say(request, sq_memory_count_quantize, plan_p);
}
