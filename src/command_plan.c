/* shardq plan: memory, bytes and time of a job for several numbers of ranks, before it is run. */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/text.h"
#include "command.h"
#include "config/options.h"
#include "gptq/compute.h"
#include "gptq/place.h"
#include "gptq/plan.h"

struct planning {
    const struct sq_config *config;
    struct sq_place place;
    struct sq_backend *backend; /* the place's */
    struct sq_checkpoint *checkpoint;
    struct sq_model *model;
    struct sq_layers layers;
    struct sq_memory_request request;
    struct sq_plan_rates rates;
};

static enum sq_status open_model(struct planning *p)
{
    const struct sq_config *config = p->config;
    struct sq_comm alone = {.size = 1};
    enum sq_dtype compute;
    SQ_TRY(sq_place_open(config, &alone, &p->place));
    p->backend = p->place.backend;
    SQ_TRY(sq_compute_choose(&alone, p->backend, config->compute, &compute));
    SQ_TRY(sq_checkpoint_open(config->model, &p->checkpoint));
    SQ_TRY(sq_model_open(p->checkpoint, &p->model));
    SQ_TRY(sq_layers_resolve(p->model, config, &p->layers));
    if (sq_model_max_length(p->model) && config->length > sq_model_max_length(p->model)) {
        sq_error("--length %lld: %s knows %lld positions", (long long)config->length, config->model,
                 (long long)sq_model_max_length(p->model));
        return SQ_ERR_USAGE;
    }
    p->request = (struct sq_memory_request){.model = p->model,
                                            .layers = &p->layers,
                                            .config = config,
                                            .compute = compute,
                                            .n_samples = config->samples,
                                            .length = config->length,
                                            .n_workers = p->backend->n_workers,
                                            .sizes = p->backend->sizes,
                                            .is_host = p->backend->is_host,
                                            .limit = config->memory_bytes};
    return sq_plan_measure_rates(p->backend, compute, &p->rates);
}

static void show_header(const struct planning *p)
{
    if (p->config->json) return;
    printf("%s: %s, %.1f million parameters, %d layers to quantize, group size %lld\n", p->config->model,
           sq_model_architecture(p->model), 1e-6 * (double)sq_model_n_parameters(p->model), p->layers.n_layers,
           (long long)p->layers.group_size);
    printf(
        "%lld samples of %lld tokens; %d thread%s per rank at %.0f GFLOP/s (%s) and %.0f (f32) each, measured here\n\n",
        (long long)p->config->samples, (long long)p->config->length, p->request.n_workers,
        p->request.n_workers > 1 ? "s" : "", 1e-9 * p->rates.product_flops, sq_dtype_name(p->request.compute),
        1e-9 * p->rates.f32_flops);
    printf("%6s  %10s %10s %10s %10s %10s %10s  %10s %10s  %s\n", "ranks", "memory", "activat.", "weights", "hessian",
           "rows", "state", "reduced", "gathered", "time (compute only)");
}

static void show_plan(const struct planning *p, int n_ranks, const struct sq_plan *plan)
{
    char t[8][16], time[48];
    const struct sq_memory_plan *m = &plan->memory;
    if (p->config->json) {
        printf("{\"ranks\":%d,\"memory_bytes\":%lld,\"spill\":%s,\"activations_bytes\":%lld,\"weights_bytes\":%lld,"
               "\"hessian_bytes\":%lld,\"experts_bytes\":%lld,\"store_bytes\":%lld,\"state_bytes\":%lld,\"reduced_"
               "bytes\":%lld,"
               "\"gathered_bytes\":%lld,\"flops\":{\"forward\":%.6g,\"hessian\":%.6g,\"factor\":%.6g,\"solve\":%.6g,"
               "\"refine\":%.6g},\"seconds\":%.6g}\n",
               n_ranks, (long long)m->resident, m->spill ? "true" : "false", (long long)m->activations,
               (long long)m->weights, (long long)m->hessian, (long long)m->experts, (long long)plan->store_bytes,
               (long long)plan->state_bytes, (long long)plan->reduced_bytes, (long long)plan->gathered_bytes,
               plan->work.forward, plan->work.hessian, plan->work.factor, plan->work.solve, plan->work.refine,
               plan->seconds);
        return;
    }
    printf("%6d  %10s %9s%s %10s %10s %10s %10s  %10s %10s  %s\n", n_ranks, sq_size_format((double)m->resident, t[0]),
           sq_size_format((double)m->activations, t[1]), m->spill ? "*" : " ", sq_size_format((double)m->weights, t[2]),
           sq_size_format((double)m->hessian, t[3]), sq_size_format((double)m->rows, t[4]),
           sq_size_format((double)plan->state_bytes, t[5]), sq_size_format((double)plan->reduced_bytes, t[6]),
           sq_size_format((double)plan->gathered_bytes, t[7]), sq_duration_format(plan->seconds, time));
}

static enum sq_status show_all(const struct planning *p)
{
    struct sq_plan plan = {0};
    bool any_spill = false;
    char store[16];
    show_header(p);
    for (int i = 0; i < p->config->ranks.count; i++) {
        int n_ranks = atoi(p->config->ranks.items[i]); /* checked when the options were read */
        SQ_TRY(sq_plan_make(&p->request, n_ranks, &p->rates, &plan));
        show_plan(p, n_ranks, &plan);
        any_spill |= plan.memory.spill;
    }
    if (p->config->json) return SQ_OK;
    printf("\nstore file: %s. Memory is per rank; reduced and gathered are what each rank sends in the whole job.\n",
           sq_size_format((double)plan.store_bytes, store));
    if (any_spill) puts("* activations do not fit --memory and go to a file beside the store");
    printf("operations: forward %.3g, hessian %.3g, factor %.3g (on every rank), solve %.3g, refine at most %.3g\n",
           plan.work.forward, plan.work.hessian, plan.work.factor, plan.work.solve, plan.work.refine);
    return SQ_OK;
}

static enum sq_status run(const struct sq_config *config, const struct sq_comm *world)
{
    struct planning p = {.config = config};
    (void)world;
    enum sq_status status = open_model(&p);
    if (status == SQ_OK) status = show_all(&p);
    sq_layers_release(&p.layers);
    sq_model_close(p.model);
    sq_checkpoint_close(p.checkpoint);
    sq_place_close(&p.place);
    return status;
}

const struct sq_command sq_command_plan = {
    .name = "plan",
    .summary = "Predicts memory, bytes and time of a quantize job for several numbers of ranks.",
    .mask = SQ_COMMAND_PLAN,
    .needs_mpi = false,
    .run = run,
};
