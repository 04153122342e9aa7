#include "gptq/memory_verify.h"

int64_t sq_verify_room_elements(const struct sq_sizes *sizes, int64_t in_features)
{
    return 2 * sizes->solve_rows * (in_features + SQ_VERIFY_COLUMNS);
}

int64_t sq_verify_widest_input(const struct sq_model *model)
{
    int64_t widest = 0;
    for (int i = 0; i < sq_model_n_linears(model); i++)
        if (sq_model_linear(model, i)->in_features > widest) widest = sq_model_linear(model, i)->in_features;
    return widest;
}

int64_t sq_verify_n_figures(const struct sq_sizes *sizes, const struct sq_model *model)
{
    int64_t most = 0;
    for (int i = 0; i < sq_model_n_linears(model); i++)
        if (sq_model_linear(model, i)->out_features > most) most = sq_model_linear(model, i)->out_features;
    return 2 * (most + sizes->solve_rows);
}

void sq_memory_count_verify(const struct sq_memory_request *request, struct sq_memory_plan *plan)
{
    const struct sq_sizes *sizes = &request->traits->sizes;
    int64_t n = sq_verify_widest_input(request->model);
    int64_t rooms = request->n_workers * sq_verify_room_elements(sizes, n) * (int64_t)sizeof(float);
    sq_memory_count_forward(request, request->model, plan);
    sq_memory_count_inputs(request, request->model, &request->policy, plan);
    plan->rooms = sq_memory_rooms(request, plan->place);
    plan->backend[SQ_MEMORY_HESSIAN] =
        (int64_t)sq_hessian_bytes(sizes, n, &plan->rooms) + n * n * (int64_t)sizeof(float);
    plan->host[SQ_MEMORY_HESSIAN] = (int64_t)sq_hessian_host_bytes(n, request->n_workers);
    plan->backend[SQ_MEMORY_WORKSPACE] += rooms;
    plan->host[SQ_MEMORY_WORKSPACE] += rooms + sq_verify_n_figures(sizes, request->model) * (int64_t)sizeof(double);
    sq_memory_widen_hessian(request, n, plan);
}
