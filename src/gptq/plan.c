#include "gptq/plan.h"

#include "gptq/factor.h"
#include "gptq/shards.h"
#include "io/store.h"

/* --- work --------------------------------------------------------------------------------------------------------- */

/* Of all tokens, those that an expert gets on average. */
static double expert_share(const struct sq_model *model, int block)
{
    return (double)sq_model_n_chosen(model) / sq_model_n_experts(model, block);
}

/* One linear for all tokens; H and factor are counted once for each group, by its first quantized member. */
static void count_linear(const struct sq_memory_request *request, int index, bool is_first, double tokens,
                         struct sq_plan_work *work)
{
    const struct sq_linear *linear = sq_model_linear(request->model, index);
    double n = (double)linear->in_features, rows = (double)linear->out_features;
    bool is_head = linear->block == (int)sq_model_n_blocks(request->model);
    double share = linear->expert < 0 ? 1 : expert_share(request->model, linear->block);
    if (!is_head) work->forward += 2 * share * tokens * n * rows;
    if (request->layers->of_linear[index] < 0) return;
    if (is_first) {
        work->hessian += (request->config->experts == SQ_EXPERTS_ALL ? 1 : share) * tokens * n * (n + 1);
        work->factor += n * n * n / 3;
    }
    work->solve += rows * n * n;
    work->refine += request->config->refine * 2 * rows * n * n;
}

void sq_plan_count_work(const struct sq_memory_request *request, struct sq_plan_work *work_p)
{
    struct sq_plan_work counted = {0}, *work = &counted;
    double tokens = (double)request->n_samples * (double)request->length;
    int previous_block = -1, previous_group = -1;
    for (int i = 0; i < sq_model_n_linears(request->model); i++) {
        const struct sq_linear *linear = sq_model_linear(request->model, i);
        bool quantized = request->layers->of_linear[i] >= 0;
        bool is_first = quantized && (linear->block != previous_block || linear->group != previous_group);
        count_linear(request, i, is_first, tokens, work);
        if (is_first) {
            previous_block = linear->block;
            previous_group = linear->group;
        }
    }
    work->forward += sq_model_attention_flops(request->model, request->length) * (double)request->n_samples;
    *work_p = counted;
}

/* --- limits ------------------------------------------------------------------------------------------------------- */

static int ranks_on_node(const struct sq_machine *machine, int n_ranks)
{
    return n_ranks < machine->ranks_per_node ? n_ranks : machine->ranks_per_node;
}

/* As sq_place_memory() has it for the machine at hand: three quarters of a node, shared; nine tenths of what is free on
 * a device once the backend is there. */
static void set_limits(const struct sq_memory_request *request, const struct sq_machine *machine, struct sq_plan *plan)
{
    double host = machine->node_memory / 4 * 3 / ranks_on_node(machine, plan->n_ranks);
    double workers = (double)request->n_workers * (double)request->traits->worker_bytes;
    plan->host_limit = request->traits->is_host ? 0 : (int64_t)host;
    plan->limit = request->limit;
    if (plan->limit == 0)
        plan->limit = (int64_t)(request->traits->is_host ? host : (machine->device_memory - workers) / 10 * 9);
}

/* --- factors ------------------------------------------------------------------------------------------------------ */

/* Adds a width where it belongs. */
static void add_width(struct sq_plan *plan, int64_t n)
{
    int at = 0;
    while (at < plan->n_factors && plan->factors[at].n < n)
        at++;
    if (plan->n_factors == SQ_PLAN_FACTORS || (at < plan->n_factors && plan->factors[at].n == n)) return;
    for (int i = plan->n_factors++; i > at; i--)
        plan->factors[i] = plan->factors[i - 1];
    plan->factors[at] = (struct sq_plan_factor){.n = n};
}

static enum sq_status add_factors(const struct sq_memory_request *request, const struct sq_machine *machine,
                                  struct sq_plan *plan)
{
    int n_ranks = sq_simulate_team_ranks(request, plan->n_ranks);
    for (int i = 0; i < sq_model_n_linears(request->model); i++) {
        const struct sq_linear *linear = sq_model_linear(request->model, i);
        if (linear->expert < 0 && request->layers->of_linear[i] >= 0) add_width(plan, linear->in_features);
    }
    for (int i = 0; i < plan->n_factors; i++) {
        struct sq_plan_factor *factor = &plan->factors[i];
        SQ_TRY(sq_simulate_factor(request, machine, n_ranks, factor->n, false, &factor->alone));
        SQ_TRY(sq_simulate_factor(request, machine, n_ranks, factor->n, true, &factor->shared));
    }
    return SQ_OK;
}

int64_t sq_plan_faster_from(const struct sq_plan *plan)
{
    int at = plan->n_factors;
    while (plan->n_ranks > 1 && at > 0 && plan->factors[at - 1].shared < plan->factors[at - 1].alone)
        at--;
    return at < plan->n_factors ? plan->factors[at].n : 0;
}

/* plan->factors are those of this machine; NULL: there is none. */
static int64_t spread_from(const struct sq_memory_request *request, const struct sq_machine *machine,
                           const struct sq_plan *plan)
{
    int64_t wanted = request->config->spread_factors;
    if (plan->n_ranks == 1 || wanted == SQ_SPREAD_NEVER) return SQ_FACTOR_ALONE;
    if (wanted != SQ_SPREAD_AUTO) return wanted;
    if (!machine || machine->link.bytes_per_second <= 0) return request->traits->spread_inputs;
    int64_t faster_from = sq_plan_faster_from(plan);
    return faster_from ? faster_from : SQ_FACTOR_ALONE;
}

enum sq_status sq_plan_spread_from(const struct sq_memory_request *request, const struct sq_machine *machine,
                                   int n_ranks, int64_t *spread_from_p)
{
    struct sq_plan plan = {.n_ranks = n_ranks};
    if (machine) SQ_TRY(add_factors(request, machine, &plan));
    *spread_from_p = spread_from(request, machine, &plan);
    return SQ_OK;
}

/* --- the plan ----------------------------------------------------------------------------------------------------- */

static void add_up(struct sq_plan *plan)
{
    for (int stage = 0; stage < SQ_N_STAGES; stage++)
        plan->seconds += sq_plan_stage_seconds(plan, (enum sq_stage)stage);
}

enum sq_status sq_plan_make(const struct sq_memory_request *request, const struct sq_machine *machine, int n_ranks,
                            struct sq_plan *plan_p)
{
    struct sq_plan plan = {.n_ranks = n_ranks};
    struct sq_memory_request rank = *request;
    const struct sq_layers *layers = request->layers;
    set_limits(request, machine, &plan);
    SQ_TRY(add_factors(request, machine, &plan));
    plan.spread_from = spread_from(request, machine, &plan);
    rank.spread_from = plan.spread_from;
    rank.n_ranks = n_ranks;
    rank.n_job_samples = request->n_samples;
    rank.n_samples = sq_shards_largest(request->n_samples, request->config->shards, n_ranks).samples.count;
    rank.limit = plan.limit;
    rank.host_limit = plan.host_limit;
    plan.fits = sq_memory_plan_count(&rank, &plan.memory);
    rank.n_workers = plan.memory.n_workers;
    plan.store_bytes = sq_store_predict_bytes(layers->layers, layers->n_layers);
    plan.state_bytes = 2 * request->n_samples * request->length * sq_model_hidden_size(request->model) * 4;
    SQ_TRY(sq_simulate(&rank, &plan.memory, machine, n_ranks, &plan.run));
    add_up(&plan);
    *plan_p = plan;
    return SQ_OK;
}

/* --- sums --------------------------------------------------------------------------------------------------------- */

double sq_plan_stage_seconds(const struct sq_plan *plan, enum sq_stage stage)
{
    double seconds = 0;
    for (int limit = 0; limit < SQ_N_LIMITS; limit++)
        seconds += plan->run.seconds[stage][limit];
    return seconds;
}

void sq_plan_limit(const struct sq_plan *plan, enum sq_stage *stage_p, enum sq_limit *limit_p)
{
    double most = -1;
    for (int stage = 0; stage < SQ_N_STAGES; stage++)
        for (int limit = 0; limit < SQ_N_LIMITS; limit++) {
            if (plan->run.seconds[stage][limit] <= most) continue;
            most = plan->run.seconds[stage][limit];
            *stage_p = (enum sq_stage)stage;
            *limit_p = (enum sq_limit)limit;
        }
}

#define MOST_RANKS 65536
#define WORTH_TWICE 0.9 /* of the time */

enum sq_status sq_plan_useful_ranks(const struct sq_memory_request *request, const struct sq_machine *machine,
                                    int *n_ranks_p)
{
    struct sq_plan plan, twice;
    int n_ranks = 0;
    for (int n = 1; n <= MOST_RANKS && n_ranks == 0; n *= 2) {
        SQ_TRY(sq_plan_make(request, machine, n, &plan));
        if (plan.fits) n_ranks = n;
    }
    while (n_ranks > 0 && n_ranks < MOST_RANKS) {
        SQ_TRY(sq_plan_make(request, machine, 2 * n_ranks, &twice));
        if (!twice.fits || twice.seconds > WORTH_TWICE * plan.seconds) break;
        n_ranks *= 2;
        plan = twice;
    }
    *n_ranks_p = n_ranks;
    return SQ_OK;
}
