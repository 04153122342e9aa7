/* shardq plan: memory, bytes and time of a job for several numbers of ranks, before it is run. */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "command.h"
#include "gptq/bench.h"
#include "gptq/compute.h"
#include "plan_show.h"

#define USUAL_LENGTH 2048 /* of a sample, where none is given */
#define BENCH_SECONDS 0.1 /* for each figure, where no machine is given */

struct planning {
    const struct sq_config *config;
    struct sq_machine machine;
    struct sq_checkpoint *checkpoint;
    struct sq_model *model;
    struct sq_layers layers;
    int64_t length; /* of a sample */
    struct sq_memory_request request;
    struct sq_plan *plans; /* one for each of config->ranks */
};

/* The machine at hand, alone: without links. */
static enum sq_status measure_machine(const struct sq_config *config, struct sq_machine *machine)
{
    const struct sq_comm alone = {.size = 1};
    struct sq_place place;
    SQ_TRY(sq_place_open(config, &alone, &place));
    enum sq_status status = sq_bench_measure(&place, ".", BENCH_SECONDS, machine);
    sq_place_close(&place);
    return status;
}

static enum sq_status get_machine(const struct sq_config *config, struct sq_machine *machine)
{
    if (!config->machine) return measure_machine(config, machine);
    return sq_machine_read_for(config->backend, config->machine, machine);
}

static enum sq_status choose_compute(const struct planning *p, enum sq_dtype *compute_p)
{
    const struct sq_rates *rates = &p->machine.rates;
    if (p->config->compute == SQ_COMPUTE_BF16 && rates->of[SQ_WORK_BF16].per_second == 0) {
        sq_error("--compute bf16: the machine has no rate bf16_product, or none for bf16_gram");
        return SQ_ERR_USAGE;
    }
    *compute_p = sq_compute_of(p->config->compute, sq_rates_bf16_is_faster(rates));
    return SQ_OK;
}

static enum sq_status choose_length(struct planning *p)
{
    const struct sq_config *config = p->config;
    int64_t most = sq_model_max_length(p->model); /* 0: any */
    p->length = config->length;
    if (p->length == 0) p->length = most && most < USUAL_LENGTH ? most : USUAL_LENGTH;
    if (!most || p->length <= most) return SQ_OK;
    sq_error("--length %lld: %s knows %lld positions", (long long)p->length, config->model, (long long)most);
    return SQ_ERR_USAGE;
}

static enum sq_status open_model(struct planning *p)
{
    const struct sq_config *config = p->config;
    SQ_TRY(sq_checkpoint_open_bare(config->model, &p->checkpoint));
    SQ_TRY(sq_model_open(p->checkpoint, &p->model));
    SQ_TRY(sq_layers_resolve(p->model, config, &p->layers));
    return choose_length(p);
}

static enum sq_status make_request(struct planning *p)
{
    const struct sq_config *config = p->config;
    enum sq_dtype compute;
    SQ_TRY(choose_compute(p, &compute));
    p->request =
        (struct sq_memory_request){.model = p->model,
                                   .layers = &p->layers,
                                   .config = config,
                                   .compute = compute,
                                   .n_samples = config->samples,
                                   .length = p->length,
                                   .n_workers = config->threads ? config->threads : p->machine.threads,
                                   .traits = p->machine.backend == SQ_BACKEND_CPU ? &sq_cpu_traits : &sq_cuda_traits,
                                   .limit = config->memory_bytes};
    return SQ_OK;
}

static enum sq_status make_plans(struct planning *p)
{
    void *memory;
    SQ_TRY(sq_alloc("plans", p->config->ranks.count, sizeof *p->plans, &memory));
    p->plans = memory;
    for (int i = 0; i < p->config->ranks.count; i++) {
        int n_ranks = atoi(p->config->ranks.items[i]); /* checked when the options were read */
        SQ_TRY(sq_plan_make(&p->request, &p->machine, n_ranks, &p->plans[i]));
    }
    return SQ_OK;
}

static void warn_of_few_tokens(const struct planning *p)
{
    char source[64];
    snprintf(source, sizeof source, "--samples %lld, --length %lld", (long long)p->config->samples,
             (long long)p->length);
    sq_layers_warn_of_tokens(&p->layers, p->model, p->config->solver, source, p->config->samples * p->length);
}

/* Without links a machine says nothing about several ranks. */
static enum sq_status find_useful(const struct planning *p, int *n_ranks_p)
{
    *n_ranks_p = 1;
    if (p->machine.link.bytes_per_second <= 0) return SQ_OK;
    return sq_plan_useful_ranks(&p->request, &p->machine, n_ranks_p);
}

static enum sq_status show(const struct planning *p)
{
    struct sq_plan_head head = {.request = &p->request, .machine = &p->machine, .model = p->config->model};
    SQ_TRY(find_useful(p, &head.useful_ranks));
    if (p->config->json)
        sq_plan_show_json(&head, p->plans, p->config->ranks.count);
    else
        sq_plan_show(&head, p->plans, p->config->ranks.count);
    return SQ_OK;
}

static enum sq_status run(const struct sq_config *config, const struct sq_comm *world)
{
    struct planning p = {.config = config};
    (void)world;
    enum sq_status status = open_model(&p);
    if (status == SQ_OK) status = get_machine(config, &p.machine);
    if (status == SQ_OK) status = make_request(&p);
    if (status == SQ_OK) warn_of_few_tokens(&p);
    if (status == SQ_OK) status = make_plans(&p);
    if (status == SQ_OK) status = show(&p);
    sq_free(p.plans);
    sq_layers_release(&p.layers);
    sq_model_close(p.model);
    sq_checkpoint_close(p.checkpoint);
    return status;
}

const struct sq_command sq_command_plan = {
    .name = "plan",
    .summary = "Predicts memory, bytes and time of a quantize job for several numbers of ranks.",
    .mask = SQ_COMMAND_PLAN,
    .needs_mpi = false,
    .run = run,
};
