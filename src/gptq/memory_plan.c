#include "gptq/memory_plan.h"

#include "base/log.h"
#include "base/text.h"
#include "gptq/factor.h"
#include "gptq/hessian.h"
#include "gptq/spread.h"
#include "model/experts.h"
#include "model/forward.h"

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
    const struct sq_model *model = request->model;
    const struct sq_layers *layers = request->layers;
    struct sq_spread_member members[SQ_STEP_MAX];
    int first = 0, n = 0;
    int count = sq_model_group_linears(model, block, group, &first);
    for (int i = 0; i < count; i++) {
        int layer = layers->of_linear[first + i];
        if (layer >= 0)
            members[n++] = (struct sq_spread_member){.linear = sq_model_linear(model, first + i),
                                                     .grid = layers->layers[layer].grid};
    }
    return n ? sq_spread_bytes(members, n, request->sizes.solve_rows) : 0;
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

static struct sq_solve_options solve_options(const struct sq_config *config, const struct sq_store_layer *layer)
{
    return (struct sq_solve_options){.solver = config->solver,
                                     .grid_kind = config->grid,
                                     .order = config->order,
                                     .refine = config->refine,
                                     .grid = layer->grid};
}

/* What the solver takes on the host beside its scratch, for one worker. */
static size_t solver_host_bytes(const struct sq_memory_request *request)
{
    size_t largest = 0;
    for (int i = 0; i < request->layers->n_layers; i++) {
        const struct sq_store_layer *layer = &request->layers->layers[i];
        struct sq_solve_options options = solve_options(request->config, layer);
        size_t bytes = sq_solve_host_bytes(&request->sizes, &options, layer->in_features);
        if (bytes > largest) largest = bytes;
    }
    return largest;
}

size_t sq_memory_scratch_bytes(const struct sq_memory_request *request)
{
    size_t largest = 0;
    for (int i = 0; i < request->layers->n_layers; i++) {
        const struct sq_store_layer *layer = &request->layers->layers[i];
        struct sq_solve_options options = solve_options(request->config, layer);
        size_t bytes = sq_solve_scratch_bytes(&request->sizes, &options, layer->in_features) +
                       (size_t)(request->sizes.solve_rows * layer->in_features) * sizeof(float);
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

static int64_t expert_bytes(const struct sq_memory_request *request)
{
    const struct sq_experts_request experts = {.compute = request->compute,
                                               .n_own = request->n_samples * request->length,
                                               .n_all = request->n_job_samples * request->length,
                                               .n_ranks = request->n_ranks,
                                               .n_workers = request->n_workers,
                                               .expert_rows = request->sizes.expert_rows,
                                               .policy = request->config->experts};
    return sq_experts_predict_bytes(request->model, &experts);
}

static void describe(const struct sq_memory_plan *plan, int64_t limit)
{
    char text[9][16];
    sq_error("a rank needs %s but may take %s: activations %s%s, block weights %s, workers %s, Hessian and factor %s, "
             "rows %s, tokens %s%s%s; more ranks, fewer samples or a larger --memory would fit",
             sq_size_format((double)plan->resident, text[0]), sq_size_format((double)limit, text[1]),
             sq_size_format((double)plan->activations, text[2]), plan->spill ? " (already in a file)" : "",
             sq_size_format((double)plan->weights, text[3]), sq_size_format((double)plan->workers, text[4]),
             sq_size_format((double)plan->hessian, text[5]), sq_size_format((double)plan->rows, text[6]),
             sq_size_format((double)plan->tokens, text[7]), plan->experts ? ", experts " : "",
             plan->experts ? sq_size_format((double)plan->experts, text[8]) : "");
}

enum sq_status sq_memory_plan_make(const struct sq_memory_request *request, struct sq_memory_plan *plan_p)
{
    struct sq_forward_bytes forward = sq_forward_predict_bytes(request->model, request->compute, request->length);
    int64_t widest = sq_memory_widest_input(request->model, request->layers);
    size_t solver = sq_memory_scratch_bytes(request) + solver_host_bytes(request);
    struct sq_memory_plan plan = {
        .activations = forward.per_sample * request->n_samples,
        .workers = forward.per_worker * request->n_workers,
        .weights = forward.weights,
        .hessian = (int64_t)(sq_hessian_bytes(&request->sizes, widest, request->n_workers) + sq_factor_bytes(widest)),
        .rows = (int64_t)(sq_memory_record_bytes(request) + solver * (size_t)request->n_workers),
        .tokens = request->n_job_samples * request->length * (int64_t)sizeof(int32_t),
        .experts = expert_bytes(request)};
    if (request->config->propagation == SQ_PROPAGATION_ORIGINAL)
        plan.hessian += sq_memory_block_hessians(request->model);
    int64_t fixed = plan.workers + plan.weights + plan.hessian + plan.rows + plan.tokens + plan.experts;
    plan.spill = request->is_host && request->limit > 0 && fixed + plan.activations > request->limit;
    plan.resident = plan.spill ? fixed : fixed + plan.activations;
    if (request->limit > 0 && plan.resident > request->limit) {
        describe(&plan, request->limit);
        return SQ_ERR_USAGE;
    }
    *plan_p = plan;
    return SQ_OK;
}
