#include "gptq/plan.h"

#include "base/clock.h"
#include "gptq/shards.h"
#include "gptq/spread.h"
#include "io/store.h"

#define RATE_SIZE 768
#define RATE_SECONDS 0.1

/* --- rates -------------------------------------------------------------------------------------------------------- */

static enum sq_status measure(struct sq_backend *backend, struct sq_matrix x, struct sq_matrix w, struct sq_matrix y,
                              double *flops_p)
{
    SQ_TRY(backend->ops->linear(backend, x, w, NULL, y)); /* the first call makes the primitive */
    double started = sq_seconds(), seconds = 0;
    int64_t count = 0;
    for (; seconds < RATE_SECONDS; count++) {
        SQ_TRY(backend->ops->linear(backend, x, w, NULL, y));
        seconds = sq_seconds() - started;
    }
    *flops_p = 2.0 * RATE_SIZE * RATE_SIZE * RATE_SIZE * (double)count / seconds;
    return SQ_OK;
}

enum sq_status sq_plan_measure_rates(struct sq_backend *backend, enum sq_dtype compute, struct sq_plan_rates *rates_p)
{
    void *memory = NULL;
    struct sq_plan_rates rates;
    size_t bytes = (size_t)RATE_SIZE * RATE_SIZE * sizeof(float);
    SQ_TRY(backend->ops->alloc(backend, "matrices to measure rates with", 3 * bytes, &memory));
    struct sq_matrix m[3];
    enum sq_dtype types[] = {compute, SQ_F32};
    double *rate[] = {&rates.product_flops, &rates.f32_flops};
    enum sq_status status = SQ_OK;
    for (int t = 0; t < 2 && status == SQ_OK; t++) {
        for (int i = 0; i < 3; i++)
            m[i] = sq_matrix_view((char *)memory + (size_t)i * bytes, types[t], RATE_SIZE, RATE_SIZE);
        status = measure(backend, m[0], m[1], m[2], rate[t]);
    }
    backend->ops->free(backend, memory);
    if (status == SQ_OK) *rates_p = rates;
    return status;
}

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

static void count_work(const struct sq_memory_request *request, struct sq_plan_work *work)
{
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
}

/* --- bytes -------------------------------------------------------------------------------------------------------- */

static void count_bytes(const struct sq_memory_request *request, int n_ranks, struct sq_plan *plan)
{
    const struct sq_layers *layers = request->layers;
    plan->store_bytes = sq_store_predict_bytes(layers->layers, layers->n_layers);
    plan->state_bytes = 2 * request->n_samples * request->length * sq_model_hidden_size(request->model) * 4;
    if (n_ranks == 1) return;
    int64_t token_bytes = sq_model_hidden_size(request->model) * (int64_t)sq_dtype_size(request->compute);
    for (int block = 0; block < (int)sq_model_n_blocks(request->model); block++) {
        if (sq_model_n_experts(request->model, block) > 0) /* there and back */
            plan->gathered_bytes +=
                2 * request->n_samples * request->length * sq_model_n_chosen(request->model) * token_bytes / n_ranks;
        for (int g = 0; g < sq_model_n_groups(request->model, block); g++) {
            int first = 0, count = sq_model_group_linears(request->model, block, g, &first);
            if (sq_model_is_expert_group(request->model, block, g)) continue; /* of one team alone */
            int64_t n = sq_model_linear(request->model, first)->in_features;
            plan->reduced_bytes += n * (n + 1) / 2 * 8;
            for (int i = 0; i < count; i++)
                plan->gathered_bytes += sq_model_linear(request->model, first + i)->out_features * n;
        }
    }
}

/* --- time --------------------------------------------------------------------------------------------------------- */

/* The largest share of n items over ranks, and that over workers, as a fraction of all. */
static double largest_share(int64_t n, int64_t n_ranks, int64_t n_workers)
{
    int64_t mine = (n + n_ranks - 1) / n_ranks;
    int64_t rounds = (mine + n_workers - 1) / n_workers;
    return n ? (double)rounds / (double)n : 0;
}

static double predict_seconds(const struct sq_memory_request *request, int n_ranks, int64_t local_samples,
                              const struct sq_plan_rates *rates, const struct sq_plan_work *work)
{
    int64_t tiles = 0, tile_rows = request->sizes.solve_rows;
    for (int i = 0; i < request->layers->n_layers; i++) {
        int64_t n = (request->layers->layers[i].out_features + tile_rows - 1) / tile_rows;
        if (n > tiles) tiles = n;
    }
    double samples =
        (double)((local_samples + request->n_workers - 1) / request->n_workers) / (double)request->n_samples;
    double token_share = (double)local_samples / (double)request->n_samples / request->n_workers;
    return work->forward * samples / rates->product_flops + work->hessian * token_share / rates->product_flops +
           work->factor / request->n_workers / rates->f32_flops +
           (work->solve + work->refine) * largest_share(tiles, n_ranks, request->n_workers) / rates->f32_flops;
}

enum sq_status sq_plan_make(const struct sq_memory_request *request, int n_ranks, const struct sq_plan_rates *rates,
                            struct sq_plan *plan_p)
{
    struct sq_plan plan = {0};
    struct sq_memory_request rank = *request;
    rank.n_samples = 0;
    rank.n_ranks = n_ranks;
    rank.n_job_samples = request->n_samples;
    for (int r = 0; r < n_ranks; r++) {
        int64_t count = sq_shards_make(request->n_samples, request->config->shards, r, n_ranks).samples.count;
        if (count > rank.n_samples) rank.n_samples = count;
    }
    SQ_TRY(sq_memory_plan_make(&rank, &plan.memory));
    count_work(request, &plan.work);
    count_bytes(request, n_ranks, &plan);
    plan.seconds = predict_seconds(request, n_ranks, rank.n_samples, rates, &plan.work);
    *plan_p = plan;
    return SQ_OK;
}
