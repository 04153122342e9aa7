#include "gptq/memory_eval.h"

#include <string.h>

#include "model/evaluate.h"
#include "model/final.h"

/* What the final states of a model take. */
static void add_final(const struct sq_memory_request *request, const struct sq_model *model,
                      struct sq_memory_plan *plan)
{
    const struct sq_forward_options options = {
        .compute = request->compute, .n_samples = request->n_samples, .length = request->length, .place = plan->place};
    struct sq_final_bytes final = sq_final_predict_bytes(request->n_workers, model, &options);
    bool on_host = plan->place == SQ_ACTIVATIONS_ON_HOST;
    (on_host ? plan->host : plan->backend)[SQ_MEMORY_STATES] += final.states;
    plan->backend[SQ_MEMORY_WEIGHTS] += final.weights;
    plan->backend[SQ_MEMORY_WORKSPACE] += final.desks;
    plan->host[SQ_MEMORY_WORKSPACE] += final.host_pieces;
}

/* While the last of so many models runs. */
static struct sq_memory_plan while_running(const struct sq_memory_request *request,
                                           const struct sq_model *const models[2], int n_models,
                                           const struct sq_memory_plan *given)
{
    const struct sq_expert_policy as_routed = {SQ_EXPERTS_ROUTE, 0};
    struct sq_memory_plan plan = *given;
    sq_memory_count_forward(request, models[n_models - 1], &plan);
    sq_memory_count_inputs(request, models[n_models - 1], &as_routed, &plan);
    for (int m = 0; m < n_models; m++)
        add_final(request, models[m], &plan);
    sq_memory_add_up(request, &plan);
    return plan;
}

static struct sq_memory_plan while_scoring(const struct sq_memory_request *request,
                                           const struct sq_model *const models[2], int n_models,
                                           const struct sq_memory_plan *given)
{
    const struct sq_tokens tokens = {.n_samples = request->n_job_samples, .length = request->length};
    struct sq_memory_plan plan = *given;
    struct sq_evaluate_bytes bytes =
        sq_evaluate_predict_bytes(request->n_workers, n_models, models[0], &tokens, request->n_samples);
    plan.backend[SQ_MEMORY_LOGITS] = bytes.logits;
    plan.host[SQ_MEMORY_LOGITS] = bytes.host_logits;
    sq_memory_count_workers(request, &plan);
    plan.host[SQ_MEMORY_TOKENS] = request->n_job_samples * request->length * (int64_t)sizeof(int32_t);
    for (int m = 0; m < n_models; m++)
        add_final(request, models[m], &plan);
    sq_memory_add_up(request, &plan);
    return plan;
}

/* Of the backend's memory and of the host's, the larger each. */
static void take_larger(const struct sq_memory_request *request, const struct sq_memory_plan *now,
                        struct sq_memory_plan *most)
{
    if (now->resident + sq_memory_embedding(request, now) > most->resident + sq_memory_embedding(request, most)) {
        memcpy(most->backend, now->backend, sizeof most->backend);
        most->resident = now->resident;
        most->start = now->start;
    }
    if (now->resident_host > most->resident_host) {
        memcpy(most->host, now->host, sizeof most->host);
        most->resident_host = now->resident_host;
    }
}

static void count_all(const struct sq_memory_request *request, struct sq_memory_plan *plan)
{
    const struct sq_model *const models[2] = {request->model, request->reference};
    int n_models = request->reference ? 2 : 1;
    const struct sq_memory_plan given = *plan;
    for (int count = 1; count <= n_models; count++) {
        struct sq_memory_plan running = while_running(request, models, count, &given);
        take_larger(request, &running, plan);
    }
    struct sq_memory_plan scoring = while_scoring(request, models, n_models, &given);
    take_larger(request, &scoring, plan);
}

void sq_memory_count_eval(const struct sq_memory_request *request, struct sq_memory_plan *plan)
{
    sq_memory_count_groups_ahead(request, count_all, plan);
}
