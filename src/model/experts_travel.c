/* Rows of tokens on their way to the teams of their experts, and back. */
#include "base/memory.h"
#include "model/experts_private.h"
#include "mpi/comm_memory.h"

/* --- who has which rows ------------------------------------------------------------------------------------------- */

/* Rows that `source` sends to `target`: of the expert of target's team, its own tokens among target's rows. */
static int64_t rows_between(const struct sq_experts *experts, int source, int target)
{
    int64_t unit = experts->backend->sizes.expert_rows;
    int n_ranks = experts->world.size, j = sq_team_of(target, experts->n_teams, n_ranks);
    if (j >= experts->wave_count) return 0;
    int begin = sq_team_begin(j, experts->n_teams, n_ranks);
    int size = sq_team_begin(j + 1, experts->n_teams, n_ranks) - begin;
    struct sq_range rows = sq_experts_share(unit, sq_experts_before(experts, j, n_ranks), target - begin, size);
    int64_t first = sq_experts_before(experts, j, source), end = sq_experts_before(experts, j, source + 1);
    if (first < rows.first) first = rows.first;
    if (end > rows.first + rows.count) end = rows.first + rows.count;
    return end > first ? end - first : 0;
}

static void share_rows(struct sq_experts *experts, size_t row_bytes)
{
    int64_t unit = experts->backend->sizes.expert_rows;
    int me = experts->world.rank;
    for (int rank = 0; rank < experts->world.size; rank++) {
        experts->to_rank[rank] = (size_t)rows_between(experts, me, rank) * row_bytes;
        experts->to_here[rank] = (size_t)rows_between(experts, rank, me) * row_bytes;
    }
    experts->rows = (struct sq_range){0, 0};
    experts->mine.n_tokens = 0;
    if (experts->mine.index >= 0) {
        experts->mine.n_tokens = sq_experts_before(experts, experts->team_index, experts->world.size);
        experts->rows = sq_experts_share(unit, experts->mine.n_tokens, experts->team.rank, experts->team.size);
    }
    experts->mine.n_pieces = (experts->mine.n_tokens + unit - 1) / unit;
}

/* --- there -------------------------------------------------------------------------------------------------------- */

/* Rows that leave this rank; with one rank they arrive at once. */
static struct sq_matrix rows_out(const struct sq_forward *forward)
{
    const struct sq_experts *experts = forward->experts;
    const struct sq_room *room = experts->world.size > 1 ? &experts->sent : &experts->x;
    return sq_matrix_view(room->memory, forward->options.compute, experts->list_first[experts->wave_count],
                          forward->model->dims.hidden);
}

static enum sq_status take_rooms(struct sq_forward *forward)
{
    struct sq_experts *experts = forward->experts;
    size_t size = sq_dtype_size(forward->options.compute), n = (size_t)experts->list_first[experts->wave_count];
    size_t rows = (size_t)sq_experts_rounded_up(experts->rows.count, experts->backend->sizes.expert_rows);
    const struct sq_dimensions *dims = &forward->model->dims;
    SQ_TRY(sq_experts_ensure(experts, &experts->x, "the tokens of an expert", rows * (size_t)dims->hidden * size));
    SQ_TRY(sq_experts_ensure(experts, &experts->active, "the tokens of an expert",
                             rows * (size_t)dims->expert_ffn * size));
    if (experts->world.size > 1)
        SQ_TRY(sq_experts_ensure(experts, &experts->sent, "tokens on their way", n * (size_t)dims->hidden * size));
    if (experts->backend->is_host) return SQ_OK;
    SQ_TRY(sq_experts_ensure(experts, &experts->id_room, "tokens on their way", n * sizeof(int32_t)));
    return sq_experts_ensure(experts, &experts->weight_room, "tokens on their way", n * sizeof(float));
}

struct gathering {
    struct sq_backend *backend;
    struct sq_matrix from, to;
    const int32_t *ids;
};

static enum sq_status gather_batch(void *context, int64_t index, int worker)
{
    (void)worker;
    const struct gathering *g = context;
    int64_t row = index * SQ_EXPERT_BATCH,
            rows = g->to.rows - row < SQ_EXPERT_BATCH ? g->to.rows - row : SQ_EXPERT_BATCH;
    return g->backend->ops->gather_rows(g->backend, g->from, g->ids + row,
                                        sq_matrix_part(g->to, row, rows, 0, g->to.cols));
}

/* This rank's tokens into rows_out(), and zeros into what fills up the last piece of its expert. */
static enum sq_status gather_rows(struct sq_forward *forward)
{
    struct sq_experts *experts = forward->experts;
    struct sq_backend *backend = experts->backend;
    SQ_TRY(take_rooms(forward));
    struct sq_matrix x = sq_experts_rows(forward, &experts->x, forward->model->dims.hidden), out = rows_out(forward);
    struct gathering g = {backend, sq_forward_slot(forward, experts->step->in[0]), out, NULL};
    SQ_TRY(sq_backend_view(backend, experts->ids, (size_t)out.rows * sizeof *g.ids, experts->id_room.memory,
                           (const void **)&g.ids));
    SQ_TRY(backend->ops->parallel(backend, (out.rows + SQ_EXPERT_BATCH - 1) / SQ_EXPERT_BATCH, gather_batch, &g));
    if (x.rows == experts->rows.count) return SQ_OK;
    struct sq_matrix rest = sq_matrix_part(x, experts->rows.count, x.rows - experts->rows.count, 0, x.cols);
    return backend->ops->clear(backend, rest.data, (size_t)(rest.rows * rest.cols) * sq_dtype_size(rest.dtype));
}

enum sq_status sq_experts_take(struct sq_forward *forward, int first, const struct sq_expert_policy *policy,
                               struct sq_expert *expert_p)
{
    struct sq_experts *experts = forward->experts;
    int left = sq_experts_count(forward) - first;
    experts->wave_first = first;
    experts->wave_count = left < experts->n_teams ? left : experts->n_teams;
    experts->mine.index = experts->team_index < experts->wave_count ? first + experts->team_index : -1;
    SQ_TRY(sq_experts_list(forward, policy, &experts->mine.is_routed));
    share_rows(experts, (size_t)forward->model->dims.hidden * sq_dtype_size(forward->options.compute));
    SQ_TRY(sq_comm_agree(&experts->world, gather_rows(forward)));
    if (experts->world.size > 1)
        SQ_TRY(sq_comm_memory_exchange(&experts->world, experts->backend, experts->sent.memory, experts->to_rank,
                                       experts->x.memory, experts->to_here));
    *expert_p = experts->mine;
    return SQ_OK;
}

/* --- and back ----------------------------------------------------------------------------------------------------- */

struct giving {
    const struct sq_forward *forward;
    struct sq_matrix rows; /* as rows_out() */
    const int32_t *ids;    /* of the rows, in backend memory */
    const float *weights;
};

/* The first of list j's tokens that is not below `token`, counted from the wave's first row. */
static int64_t find_token(const struct sq_experts *experts, int j, int64_t token)
{
    int64_t low = experts->list_first[j], high = experts->list_first[j + 1];
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (experts->ids[middle] < token)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* A sample's rows of every expert of the wave, in the order of experts. */
static enum sq_status give_sample(void *context, int64_t index, int worker)
{
    (void)worker;
    const struct giving *giving = context;
    const struct sq_forward *forward = giving->forward;
    const struct sq_experts *experts = forward->experts;
    int64_t length = forward->options.length;
    struct sq_matrix out = sq_forward_slot(forward, experts->step->out[0].slot);
    for (int j = 0; j < experts->wave_count; j++) {
        int64_t first = find_token(experts, j, index * length), end = find_token(experts, j, (index + 1) * length);
        struct sq_matrix rows = sq_matrix_part(giving->rows, first, end - first, 0, giving->rows.cols);
        if (end > first)
            SQ_TRY(forward->backend->ops->add_rows(forward->backend, rows, giving->ids + first, giving->weights + first,
                                                   out));
    }
    return SQ_OK;
}

static enum sq_status add_rows(struct sq_forward *forward)
{
    struct sq_experts *experts = forward->experts;
    struct sq_backend *backend = experts->backend;
    struct giving giving = {.forward = forward, .rows = rows_out(forward)};
    size_t n = (size_t)giving.rows.rows;
    SQ_TRY(sq_backend_view(backend, experts->ids, n * sizeof(int32_t), experts->id_room.memory,
                           (const void **)&giving.ids));
    SQ_TRY(sq_backend_view(backend, experts->weights + experts->first[experts->wave_first], n * sizeof(float),
                           experts->weight_room.memory, (const void **)&giving.weights));
    return backend->ops->parallel(backend, forward->options.n_samples, give_sample, &giving);
}

enum sq_status sq_experts_give(struct sq_forward *forward)
{
    struct sq_experts *experts = forward->experts;
    if (experts->world.size > 1)
        SQ_TRY(sq_comm_memory_exchange(&experts->world, experts->backend, experts->x.memory, experts->to_here,
                                       experts->sent.memory, experts->to_rank));
    return sq_comm_agree(&experts->world, add_rows(forward));
}
