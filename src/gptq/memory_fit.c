#include "gptq/memory_fit.h"

#include <stdio.h>

#include "base/log.h"
#include "base/text.h"

const char *sq_memory_kind_name(enum sq_memory_kind kind)
{
    static const char *const names[SQ_N_MEMORY] = {
        [SQ_MEMORY_WEIGHTS] = "weights",     [SQ_MEMORY_ACTIVATIONS] = "activations", [SQ_MEMORY_EXPERTS] = "experts",
        [SQ_MEMORY_HESSIAN] = "hessian",     [SQ_MEMORY_FACTOR] = "factor",           [SQ_MEMORY_TOKENS] = "tokens",
        [SQ_MEMORY_WORKSPACE] = "workspace", [SQ_MEMORY_STATES] = "final states",     [SQ_MEMORY_LOGITS] = "logits"};
    return names[kind];
}

/* --- what commands share ------------------------------------------------------------------------------------------ */

static struct sq_forward_bytes forward_bytes(const struct sq_memory_request *request, const struct sq_model *model,
                                             const struct sq_memory_plan *plan)
{
    const struct sq_forward_options options = {.compute = request->compute,
                                               .n_samples = request->n_samples,
                                               .length = request->length,
                                               .place = plan->place,
                                               .groups_ahead = plan->groups_ahead};
    return sq_forward_predict_bytes(request->traits, request->n_workers, model, &options);
}

void sq_memory_count_forward(const struct sq_memory_request *request, const struct sq_model *model,
                             struct sq_memory_plan *plan)
{
    struct sq_forward_bytes forward = forward_bytes(request, model, plan);
    bool on_host = plan->place == SQ_ACTIVATIONS_ON_HOST;
    (on_host ? plan->host : plan->backend)[SQ_MEMORY_ACTIVATIONS] = forward.activations;
    plan->backend[SQ_MEMORY_WEIGHTS] = forward.weights;
    plan->ahead = forward.weights_ahead;
    plan->host[SQ_MEMORY_WEIGHTS] = forward.host_weights;
    plan->backend[SQ_MEMORY_WORKSPACE] = forward.workspace;
    plan->host[SQ_MEMORY_WORKSPACE] = forward.host_workspace;
    plan->start = request->traits->is_host ? forward.embedding + forward.host_embedding : forward.embedding;
    sq_memory_count_workers(request, plan);
}

void sq_memory_count_workers(const struct sq_memory_request *request, struct sq_memory_plan *plan)
{
    int64_t bytes = request->n_workers * (int64_t)request->traits->worker_bytes;
    if (request->traits->is_host) plan->host[SQ_MEMORY_WORKSPACE] += bytes;
}

struct sq_hessian_rooms sq_memory_rooms(const struct sq_memory_request *request, enum sq_activations_place place)
{
    const struct sq_memory_plan plan = {.place = place};
    if (place != SQ_ACTIVATIONS_ON_HOST) return (struct sq_hessian_rooms){0};
    int64_t row = forward_bytes(request, request->model, &plan).input_row;
    return (struct sq_hessian_rooms){.bytes = sq_hessian_room_bytes(&request->traits->sizes, request->n_job_samples,
                                                                    request->config->shards, request->length, row),
                                     .count = 1};
}

void sq_memory_count_inputs(const struct sq_memory_request *request, const struct sq_model *model,
                            const struct sq_expert_policy *policy, struct sq_memory_plan *plan)
{
    const struct sq_experts_request experts = {.compute = request->compute,
                                               .n_own = request->n_samples * request->length,
                                               .n_all = request->n_job_samples * request->length,
                                               .n_ranks = request->n_ranks,
                                               .n_workers = request->n_workers,
                                               .expert_rows = request->traits->sizes.expert_rows,
                                               .is_host = request->traits->is_host,
                                               .policy = *policy};
    struct sq_experts_bytes bytes = sq_experts_predict_bytes(model, &experts);
    plan->backend[SQ_MEMORY_EXPERTS] = bytes.backend;
    plan->host[SQ_MEMORY_EXPERTS] = bytes.host;
    plan->host[SQ_MEMORY_TOKENS] = request->n_job_samples * request->length * (int64_t)sizeof(int32_t);
}

/* --- sums --------------------------------------------------------------------------------------------------------- */

/* Where the backend's memory is the host's, all of it counts against the limit. */
static void join_host(struct sq_memory_plan *plan)
{
    for (int kind = 0; kind < SQ_N_MEMORY; kind++) {
        plan->backend[kind] += plan->host[kind];
        plan->host[kind] = 0;
    }
}

int64_t sq_memory_sum(const int64_t bytes[SQ_N_MEMORY])
{
    int64_t all = 0;
    for (int kind = 0; kind < SQ_N_MEMORY; kind++)
        all += bytes[kind];
    return all;
}

void sq_memory_add_up(const struct sq_memory_request *request, struct sq_memory_plan *plan)
{
    if (request->traits->is_host) join_host(plan);
    plan->resident = sq_memory_sum(plan->backend);
    plan->resident_host = sq_memory_sum(plan->host);
    if (plan->place == SQ_ACTIVATIONS_IN_FILE) plan->resident -= plan->backend[SQ_MEMORY_ACTIVATIONS];
}

int64_t sq_memory_embedding(const struct sq_memory_request *request, const struct sq_memory_plan *plan)
{
    return request->traits->is_host ? 0 : plan->start;
}

/* --- what does not fit -------------------------------------------------------------------------------------------- */

/* "weights 1.0 GiB, activations 2.0 GiB, ..."; returns its length. */
static size_t list_kinds(const int64_t bytes[SQ_N_MEMORY], const char *where, char *list, size_t size)
{
    size_t used = 0;
    for (int kind = 0; kind < SQ_N_MEMORY; kind++) {
        char text[16];
        if (bytes[kind] == 0 && kind != SQ_MEMORY_ACTIVATIONS) continue;
        used += (size_t)snprintf(list + used, size - used, "%s%s %s%s", used ? ", " : "",
                                 sq_memory_kind_name((enum sq_memory_kind)kind),
                                 sq_size_format((double)bytes[kind], text), kind == SQ_MEMORY_ACTIVATIONS ? where : "");
    }
    return used;
}

static void describe_host(const struct sq_memory_request *request, const struct sq_memory_plan *plan)
{
    char list[320], needs[24], has[24];
    list_kinds(plan->host, "", list, sizeof list);
    sq_size_format_apart((double)plan->resident_host, (double)request->host_limit, needs, has);
    sq_error(
        "beside its device a rank needs %s of the host but may take %s: %s; ranks on more nodes or fewer samples would "
        "fit",
        needs, has, list);
}

static void describe(const struct sq_memory_request *request, const struct sq_memory_plan *plan)
{
    char list[320] = "", where[32] = "", text[16], needs[24], has[24];
    int64_t embedding = sq_memory_embedding(request, plan);
    if (plan->place != SQ_ACTIVATIONS_NEAR)
        snprintf(where, sizeof where, " (already %s)", sq_activations_where(plan->place));
    size_t used = list_kinds(plan->backend, where, list, sizeof list);
    if (embedding > 0)
        snprintf(list + used, sizeof list - used, ", embedding %s", sq_size_format((double)embedding, text));
    sq_size_format_apart((double)(plan->resident + embedding), (double)request->limit, needs, has);
    sq_error("a rank needs %s but may take %s: %s; more ranks, fewer samples or a larger --memory would fit", needs,
             has, list);
}

/* --- what does ---------------------------------------------------------------------------------------------------- */

static bool fits_backend(const struct sq_memory_request *request, const struct sq_memory_plan *plan)
{
    return request->limit == 0 || plan->resident + sq_memory_embedding(request, plan) <= request->limit;
}

static bool fits_host(const struct sq_memory_request *request, const struct sq_memory_plan *plan)
{
    return request->host_limit == 0 || plan->resident_host <= request->host_limit;
}

int64_t sq_memory_left(const struct sq_memory_request *request, const struct sq_memory_plan *plan)
{
    if (request->limit == 0) return INT64_MAX;
    return request->limit - sq_memory_sum(plan->backend) - sq_memory_embedding(request, plan);
}

void sq_memory_widen_hessian(const struct sq_memory_request *request, int64_t n_max, struct sq_memory_plan *plan)
{
    const struct sq_sizes *sizes = &request->traits->sizes;
    int64_t left = sq_memory_left(request, plan), least = (int64_t)sq_hessian_bytes(sizes, n_max, &plan->rooms);
    if (plan->place != SQ_ACTIVATIONS_ON_HOST || left < 0) return;
    plan->rooms = sq_hessian_widen(sizes, n_max, &plan->rooms, left);
    plan->backend[SQ_MEMORY_HESSIAN] += (int64_t)sq_hessian_bytes(sizes, n_max, &plan->rooms) - least;
}

void sq_memory_count_groups_ahead(const struct sq_memory_request *request, sq_memory_count_fn *count,
                                  struct sq_memory_plan *plan)
{
    const struct sq_memory_plan given = *plan;
    int most = request->traits->is_host ? 0 : request->n_ranks > 1 ? SQ_FORWARD_AHEAD : 1;
    count(request, plan);
    for (int groups = 1; groups <= most; groups++) {
        struct sq_memory_plan more = given;
        more.groups_ahead = groups;
        count(request, &more);
        sq_memory_add_up(request, &more);
        if (!fits_backend(request, &more) || !fits_host(request, &more)) return;
        *plan = more;
    }
}

static struct sq_memory_plan count_workers(const struct sq_memory_request *request, sq_memory_count_fn *count,
                                           int n_workers, enum sq_activations_place place)
{
    struct sq_memory_plan plan = {.n_workers = n_workers, .place = place};
    struct sq_memory_request fewer = *request;
    fewer.n_workers = n_workers;
    count(&fewer, &plan);
    sq_memory_add_up(request, &plan);
    return plan;
}

/* A device's workers: fewer of them cost less time than activations that come from the host and go back. What fits the
 * device alone is the plan that is shown when nothing fits the host as well. */
static bool fit_device(const struct sq_memory_request *request, sq_memory_count_fn *count,
                       struct sq_memory_plan *plan_p)
{
    bool fits_one = false;
    const enum sq_activations_place places[] = {SQ_ACTIVATIONS_NEAR, SQ_ACTIVATIONS_ON_HOST};
    for (int i = 0; i < 2; i++)
        for (int n_workers = request->n_workers; n_workers > 0; n_workers--) {
            struct sq_memory_plan plan = count_workers(request, count, n_workers, places[i]);
            bool fits = fits_backend(request, &plan);
            if (!fits_one || (fits && fits_host(request, &plan))) *plan_p = plan;
            if (fits && fits_host(request, &plan)) return true;
            fits_one = fits_one || fits;
        }
    return false;
}

/* On the host workers are the processors, and what each of them takes is small. */
bool sq_memory_fit(const struct sq_memory_request *request, sq_memory_count_fn *count, struct sq_memory_plan *plan_p)
{
    if (!request->traits->is_host) return fit_device(request, count, plan_p);
    *plan_p = count_workers(request, count, request->n_workers, SQ_ACTIVATIONS_NEAR);
    if (fits_backend(request, plan_p)) return true;
    *plan_p = count_workers(request, count, request->n_workers, SQ_ACTIVATIONS_IN_FILE);
    return fits_backend(request, plan_p);
}

enum sq_status sq_memory_fit_or_say(const struct sq_memory_request *request, sq_memory_count_fn *count,
                                    struct sq_memory_plan *plan_p)
{
    struct sq_memory_plan plan;
    if (!sq_memory_fit(request, count, &plan)) {
        (fits_backend(request, &plan) ? describe_host : describe)(request, &plan);
        return SQ_ERR_USAGE;
    }
    *plan_p = plan;
    return SQ_OK;
}

/* --- on all ranks ------------------------------------------------------------------------------------------------- */

struct fitting {
    const struct sq_memory_request *request;
    sq_memory_count_fn *count;
    struct sq_memory_plan *plan;
};

static enum sq_status fit_this_rank(void *context)
{
    const struct fitting *fitting = context;
    return sq_memory_fit_or_say(fitting->request, fitting->count, fitting->plan);
}

/* Rank 0 goes first, so that figures that do not fit are shown once. */
enum sq_status sq_memory_fit_ranks(const struct sq_place *place, int64_t memory_bytes, sq_memory_count_fn *count,
                                   struct sq_memory_request *request, struct sq_memory_plan *plan_p)
{
    const struct sq_comm *comm = &place->comm;
    int64_t limit = 0, host_limit = 0;
    SQ_TRY(sq_comm_agree(comm, sq_place_memory(place, &limit, &host_limit)));
    if (memory_bytes) limit = memory_bytes;
    int64_t largest[4] = {request->n_samples, place->backend->n_workers, -limit, -host_limit};
    SQ_TRY(sq_comm_max_i64(comm, largest, 4));
    request->n_samples = largest[0];
    request->n_ranks = comm->size;
    request->n_workers = (int)largest[1];
    request->traits = place->backend->traits;
    request->limit = -largest[2];
    request->host_limit = -largest[3];
    SQ_TRY(sq_comm_first_rank_first(comm, fit_this_rank, &(struct fitting){request, count, plan_p}));
    request->n_workers = plan_p->n_workers;
    if (place->backend->n_workers > request->n_workers) place->backend->n_workers = request->n_workers;
    return SQ_OK;
}

void sq_memory_say(const struct sq_comm *comm, const struct sq_memory_plan *plan)
{
    char text[16];
    if (comm->rank != 0) return;
    sq_info("about %s per rank%s%s", sq_size_format((double)plan->resident, text),
            plan->place == SQ_ACTIVATIONS_NEAR ? "" : ", activations ", sq_activations_where(plan->place));
}
