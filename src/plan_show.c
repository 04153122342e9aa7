#include "plan_show.h"

#include <stdio.h>

#include "base/text.h"
#include "gptq/factor.h"
#include "gptq/progress.h"
#include "gptq/shards.h"

static const char *const limit_names[SQ_N_LIMITS] = {
    [SQ_LIMIT_COMPUTE] = "compute", [SQ_LIMIT_LINK] = "links", [SQ_LIMIT_FILE] = "files"};

/* Ranks that have samples, and the most that one has. */
static struct sq_range sample_owners(const struct sq_plan_head *head, int n_ranks)
{
    const struct sq_memory_request *request = head->request;
    int64_t owners = n_ranks < request->config->shards ? n_ranks : request->config->shards;
    if (owners > request->n_samples) owners = request->n_samples;
    struct sq_shards most = sq_shards_largest(request->n_samples, request->config->shards, n_ranks);
    return (struct sq_range){owners, most.samples.count};
}

/* Tiles of rows of the widest group of a block (or lm_head) that the ranks of a team share. */
static int64_t most_tiles(const struct sq_memory_request *request, int block)
{
    int64_t rows = request->traits->sizes.solve_rows, most = 0;
    for (int group = 0; group < sq_model_n_groups(request->model, block); group++) {
        int first, count = sq_model_group_linears(request->model, block, group, &first);
        int64_t tiles = 0;
        if (sq_model_is_expert_group(request->model, block, group)) continue;
        for (int i = 0; i < count; i++)
            if (request->layers->of_linear[first + i] >= 0)
                tiles += (sq_model_linear(request->model, first + i)->out_features + rows - 1) / rows;
        if (tiles > most) most = tiles;
    }
    return most;
}

/* Those of the widest of all blocks, and how many of them one rank of the smallest team has at most. */
static struct sq_range tile_owners(const struct sq_plan_head *head, int n_ranks)
{
    const struct sq_memory_request *request = head->request;
    int64_t most = 0, team_ranks = sq_simulate_team_ranks(request, n_ranks);
    for (int block = 0; block <= (int)sq_model_n_blocks(request->model); block++) {
        int64_t tiles = most_tiles(request, block);
        if (tiles > most) most = tiles;
    }
    return (struct sq_range){most, (most + team_ranks - 1) / team_ranks};
}

static double sent_bytes(const struct sq_plan *plan, enum sq_traffic_kind kind)
{
    return plan->n_ranks > 1 ? (double)plan->run.traffic.bytes[kind] : 0;
}

/* --- text --------------------------------------------------------------------------------------------------------- */

#define LABEL "%-22s"
#define CELL " %14s"

static void show_head(const struct sq_plan_head *head)
{
    const struct sq_memory_request *r = head->request;
    const struct sq_config *config = r->config;
    printf("%s: %s, %.1f billion parameters, %lld blocks\n", head->model, sq_model_architecture(r->model),
           1e-9 * (double)sq_model_n_parameters(r->model), (long long)sq_model_n_blocks(r->model));
    printf("%d layers to %d bits in groups of %lld; %lld samples of %lld tokens in %d shards; %s\n",
           r->layers->n_layers, config->bits, (long long)r->layers->group_size, (long long)r->n_samples,
           (long long)r->length, config->shards, r->compute == SQ_BF16 ? "bf16" : "fp32");
    printf("%s; %s, %d ranks a node, %d %s a rank\n\n", head->machine->name, r->traits->name,
           head->machine->ranks_per_node, r->n_workers, r->traits->is_host ? "threads" : "streams");
}

static void show_ranks(const struct sq_plan *plans, int count)
{
    char text[16];
    printf(LABEL, "ranks");
    for (int i = 0; i < count; i++) {
        snprintf(text, sizeof text, "%d", plans[i].n_ranks);
        printf(CELL, text);
    }
    putchar('\n');
}

typedef double value_fn(const struct sq_plan *plan, int which);

static double backend_bytes(const struct sq_plan *plan, int kind)
{
    return (double)plan->memory.backend[kind];
}

static double resident(const struct sq_plan *plan, int which)
{
    (void)which;
    return (double)plan->memory.resident;
}

static double limit(const struct sq_plan *plan, int which)
{
    (void)which;
    return (double)plan->limit;
}

static double resident_host(const struct sq_plan *plan, int which)
{
    (void)which;
    return (double)plan->memory.resident_host;
}

static double traffic(const struct sq_plan *plan, int kind)
{
    return sent_bytes(plan, (enum sq_traffic_kind)kind);
}

/* Between hosts, and between devices. */
static double tokens(const struct sq_plan *plan, int which)
{
    (void)which;
    return sent_bytes(plan, SQ_TRAFFIC_SHIFT) + sent_bytes(plan, SQ_TRAFFIC_EXCHANGE);
}

static double stage(const struct sq_plan *plan, int which)
{
    return sq_plan_stage_seconds(plan, (enum sq_stage)which);
}

static double all_stages(const struct sq_plan *plan, int which)
{
    (void)which;
    return plan->seconds;
}

static void show_sizes(const char *label, value_fn *value, int which, const struct sq_plan *plans, int count)
{
    char text[16];
    printf(LABEL, label);
    for (int i = 0; i < count; i++)
        printf(CELL, sq_size_format(value(&plans[i], which), text));
    putchar('\n');
}

static void show_times(const char *label, value_fn *value, int which, const struct sq_plan *plans, int count)
{
    char text[48];
    printf(LABEL, label);
    for (int i = 0; i < count; i++)
        printf(CELL, sq_duration_format(value(&plans[i], which), text));
    putchar('\n');
}

static const char *fit(const struct sq_plan *plan)
{
    if (!plan->fits) return "no";
    return plan->memory.place == SQ_ACTIVATIONS_NEAR ? "yes" : sq_activations_where(plan->memory.place);
}

static void show_memory(const struct sq_plan_head *head, const struct sq_plan *plans, int count)
{
    char label[32];
    puts(head->request->traits->is_host ? "memory of a rank" : "device memory of a rank");
    for (int kind = 0; kind < SQ_N_MEMORY; kind++) {
        snprintf(label, sizeof label, "  %s", sq_memory_kind_name((enum sq_memory_kind)kind));
        if (backend_bytes(plans, kind) > 0) show_sizes(label, backend_bytes, kind, plans, count);
    }
    show_sizes("  in all", resident, 0, plans, count);
    show_sizes("  it may take", limit, 0, plans, count);
    if (!head->request->traits->is_host) show_sizes("  beside, on the host", resident_host, 0, plans, count);
    printf(LABEL, "  fits");
    for (int i = 0; i < count; i++)
        printf(CELL, fit(&plans[i]));
    putchar('\n');
}

static void show_owners(const struct sq_plan_head *head, const struct sq_plan *plans, int count)
{
    char text[48];
    printf(LABEL, "samples of a rank");
    for (int i = 0; i < count; i++) {
        struct sq_range owners = sample_owners(head, plans[i].n_ranks);
        snprintf(text, sizeof text, owners.first < plans[i].n_ranks ? "%lld (%lld ranks)" : "%lld",
                 (long long)owners.count, (long long)owners.first);
        printf(CELL, text);
    }
    printf("\n" LABEL, "tiles of a rank");
    for (int i = 0; i < count; i++) {
        struct sq_range owners = tile_owners(head, plans[i].n_ranks);
        snprintf(text, sizeof text, "%lld of %lld", (long long)owners.count, (long long)owners.first);
        printf(CELL, text);
    }
    putchar('\n');
}

static void show_stages(const struct sq_plan *plans, int count)
{
    char label[32];
    puts("time");
    for (int s = 0; s < SQ_N_STAGES; s++) {
        snprintf(label, sizeof label, "  %s", sq_stage_name((enum sq_stage)s));
        show_times(label, stage, s, plans, count);
    }
    show_times("  in all", all_stages, 0, plans, count);
}

static void show_factor(const char *how, int index, bool is_shared, const struct sq_plan *plans, int count)
{
    char text[48];
    snprintf(text, sizeof text, "  %lld inputs, %s", (long long)plans->factors[index].n, how);
    printf(LABEL, text);
    for (int i = 0; i < count; i++) {
        const struct sq_plan_factor *factor = &plans[i].factors[index];
        snprintf(text, sizeof text, "%.3g s", is_shared ? factor->shared : factor->alone);
        printf(CELL, is_shared && plans[i].n_ranks == 1 ? "-" : text);
    }
    putchar('\n');
}

static void show_width(int64_t n)
{
    char text[48];
    snprintf(text, sizeof text, "%lld inputs", (long long)n);
    printf(CELL, n == 0 ? "never" : text);
}

/* One factorization of each width: by each rank for itself, and by all of them together. */
static void show_factors(const struct sq_plan *plans, int count)
{
    puts("one factorization");
    for (int f = 0; f < plans->n_factors; f++) {
        show_factor("alone", f, false, plans, count);
        show_factor("shared", f, true, plans, count);
    }
    printf(LABEL, "  shared from");
    for (int i = 0; i < count; i++)
        show_width(plans[i].spread_from == SQ_FACTOR_ALONE ? 0 : plans[i].spread_from);
    putchar('\n');
    printf(LABEL, "  faster from");
    for (int i = 0; i < count; i++)
        show_width(sq_plan_faster_from(&plans[i]));
    putchar('\n');
}

static void show_limits(const struct sq_plan *plans, int count)
{
    char text[48];
    printf(LABEL, "most of it is");
    for (int i = 0; i < count; i++) {
        enum sq_stage s = SQ_STAGE_READ;
        enum sq_limit l = SQ_LIMIT_COMPUTE;
        sq_plan_limit(&plans[i], &s, &l);
        snprintf(text, sizeof text, l == SQ_LIMIT_COMPUTE ? "%s" : "%s, %s", sq_stage_name(s), limit_names[l]);
        printf(CELL, text);
    }
    printf("\n" LABEL, "rank hours");
    for (int i = 0; i < count; i++) {
        snprintf(text, sizeof text, "%.1f", plans[i].seconds * plans[i].n_ranks / 3600);
        printf(CELL, text);
    }
    putchar('\n');
}

static void show_notes(const struct sq_plan_head *head, const struct sq_plan *plans, int count)
{
    char text[2][16];
    bool in_file = false;
    for (int i = 0; i < count; i++)
        in_file = in_file || plans[i].memory.place == SQ_ACTIVATIONS_IN_FILE;
    printf("\nfiles: store %s, activations saved for a resume %s\n",
           sq_size_format((double)plans->store_bytes, text[0]), sq_size_format((double)plans->state_bytes, text[1]));
    if (in_file) puts("where activations are in a file, the time that this takes is left out");
    if (head->machine->link.bytes_per_second <= 0)
        puts("nothing is known of links between ranks: their time is left out");
    else if (head->useful_ranks > 0)
        printf("worth having: up to %d rank%s; twice as many take more than 9/10 of the time, or do not fit\n",
               head->useful_ranks, head->useful_ranks > 1 ? "s" : "");
    else
        puts("no number of ranks has memory for this job: fewer or shorter samples would take less");
}

static bool has_experts(const struct sq_plan_head *head)
{
    const struct sq_model *model = head->request->model;
    for (int64_t block = 0; block < sq_model_n_blocks(model); block++)
        if (sq_model_n_experts(model, block) > 0) return true;
    return false;
}

void sq_plan_show(const struct sq_plan_head *head, const struct sq_plan *plans, int count)
{
    show_head(head);
    for (int first = 0; first < count; first += SQ_PLAN_COLUMNS) {
        const struct sq_plan *part = plans + first;
        int n = count - first < SQ_PLAN_COLUMNS ? count - first : SQ_PLAN_COLUMNS;
        if (first > 0) putchar('\n');
        show_ranks(part, n);
        show_owners(head, part, n);
        show_memory(head, part, n);
        puts("a rank's collectives");
        show_sizes("  sums", traffic, SQ_TRAFFIC_SUM, part, n);
        show_sizes("  gathers", traffic, SQ_TRAFFIC_GATHER, part, n);
        if (!head->request->traits->is_host) show_sizes("  weights", traffic, SQ_TRAFFIC_WEIGHTS, part, n);
        show_sizes("  columns of factors", traffic, SQ_TRAFFIC_MEMORY, part, n);
        if (has_experts(head)) show_sizes("  tokens of experts", tokens, 0, part, n);
        show_stages(part, n);
        show_factors(part, n);
        show_limits(part, n);
    }
    show_notes(head, plans, count);
}

/* --- JSON --------------------------------------------------------------------------------------------------------- */

static void put_memory(const char *name, const int64_t bytes[SQ_N_MEMORY])
{
    printf(",\"%s\":{", name);
    for (int kind = 0; kind < SQ_MEMORY_STATES; kind++) /* what follows is eval's */
        printf("%s\"%s\":%lld", kind ? "," : "", sq_memory_kind_name((enum sq_memory_kind)kind),
               (long long)bytes[kind]);
    putchar('}');
}

static void put_stages(const struct sq_plan *plan)
{
    printf(",\"seconds\":%.6g,\"stages\":{", plan->seconds);
    for (int s = 0; s < SQ_N_STAGES; s++) {
        const double *seconds = plan->run.seconds[s];
        printf("%s\"%s\":{\"seconds\":%.6g", s ? "," : "", sq_stage_name((enum sq_stage)s),
               sq_plan_stage_seconds(plan, (enum sq_stage)s));
        for (int l = 0; l < SQ_N_LIMITS; l++)
            printf(",\"%s\":%.6g", limit_names[l], seconds[l]);
        putchar('}');
    }
    putchar('}');
}

static void put_traffic(const struct sq_plan *plan)
{
    static const char *const names[SQ_N_TRAFFIC] = {
        [SQ_TRAFFIC_AGREE] = "agree",         [SQ_TRAFFIC_SUM] = "sum",         [SQ_TRAFFIC_REDUCE] = "reduce",
        [SQ_TRAFFIC_BROADCAST] = "broadcast", [SQ_TRAFFIC_GATHER] = "gather",   [SQ_TRAFFIC_SHIFT] = "shift",
        [SQ_TRAFFIC_MEMORY] = "memory",       [SQ_TRAFFIC_WEIGHTS] = "weights", [SQ_TRAFFIC_EXCHANGE] = "exchange"};
    printf(",\"collectives\":{");
    for (int k = 0; k < SQ_N_TRAFFIC; k++)
        printf("%s\"%s\":{\"calls\":%lld,\"bytes\":%lld}", k ? "," : "", names[k],
               (long long)plan->run.traffic.calls[k], (long long)plan->run.traffic.bytes[k]);
    putchar('}');
}

static void put_factors(const struct sq_plan *plan)
{
    printf(",\"factors\":[");
    for (int i = 0; i < plan->n_factors; i++) {
        const struct sq_plan_factor *factor = &plan->factors[i];
        printf("%s{\"inputs\":%lld,\"alone_seconds\":%.6g,\"shared_seconds\":%.6g,\"is_shared\":%s}", i ? "," : "",
               (long long)factor->n, factor->alone, factor->shared, factor->n >= plan->spread_from ? "true" : "false");
    }
    printf("],\"faster_from\":%lld", (long long)sq_plan_faster_from(plan));
}

static void put_work(const struct sq_plan_head *head)
{
    struct sq_plan_work work;
    sq_plan_count_work(head->request, &work);
    printf(",\"flops\":{\"forward\":%.6g,\"hessian\":%.6g,\"factor\":%.6g,\"solve\":%.6g,\"refine\":%.6g}",
           work.forward, work.hessian, work.factor, work.solve, work.refine);
}

static void put_plan(const struct sq_plan_head *head, const struct sq_plan *plan)
{
    enum sq_stage s = SQ_STAGE_READ;
    enum sq_limit l = SQ_LIMIT_COMPUTE;
    const struct sq_memory_plan *memory = &plan->memory;
    struct sq_range samples = sample_owners(head, plan->n_ranks), tiles = tile_owners(head, plan->n_ranks);
    sq_plan_limit(plan, &s, &l);
    printf(
        "{\"ranks\":%d,\"memory_bytes\":%lld,\"spill\":%s,\"activations_bytes\":%lld,\"fits\":%s,\"limit_bytes\":%lld,"
        "\"host_bytes\":%lld,\"host_limit_bytes\":%lld,\"start_bytes\":%lld",
        plan->n_ranks, (long long)memory->resident, memory->place == SQ_ACTIVATIONS_NEAR ? "false" : "true",
        (long long)memory->backend[SQ_MEMORY_ACTIVATIONS], plan->fits ? "true" : "false", (long long)plan->limit,
        (long long)memory->resident_host, (long long)plan->host_limit, (long long)memory->start);
    put_memory("memory", memory->backend);
    put_memory("host_memory", memory->host);
    printf(",\"owners\":{\"sample_ranks\":%lld,\"samples\":%lld,\"tiles\":%lld,\"rank_tiles\":%lld,\"tile_rows\":%lld}",
           (long long)samples.first, (long long)samples.count, (long long)tiles.first, (long long)tiles.count,
           (long long)head->request->traits->sizes.solve_rows);
    put_stages(plan);
    printf(",\"most\":{\"stage\":\"%s\",\"limit\":\"%s\"}", sq_stage_name(s), limit_names[l]);
    put_traffic(plan);
    put_factors(plan);
    printf(",\"store_bytes\":%lld,\"state_bytes\":%lld", (long long)plan->store_bytes, (long long)plan->state_bytes);
    put_work(head);
    printf(",\"useful_ranks\":%d}\n", head->useful_ranks);
}

void sq_plan_show_json(const struct sq_plan_head *head, const struct sq_plan *plans, int count)
{
    for (int i = 0; i < count; i++)
        put_plan(head, &plans[i]);
}
