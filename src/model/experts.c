#include "model/experts.h"

#include <string.h>

#include "base/memory.h"
#include "model/experts_private.h"
#include "model/weights.h"
#include "mpi/comm_memory.h"

#define BATCH 256 /* rows that are gathered by one item */

/* --- memory ------------------------------------------------------------------------------------------------------- */

static int64_t rounded_up(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

int64_t sq_experts_predict_bytes(const struct sq_model *model, const struct sq_experts_request *request)
{
    const struct sq_dimensions *dims = &model->dims;
    int64_t size = (int64_t)sq_dtype_size(request->compute), width = dims->hidden + dims->expert_ffn;
    if (!model->has_kind[SQ_BLOCK_SPARSE]) return 0;
    int64_t teams = request->n_ranks < dims->n_experts ? request->n_ranks : dims->n_experts;
    int64_t lists = request->policy == SQ_EXPERTS_ROUTE && dims->n_chosen < teams ? dims->n_chosen : teams;
    int64_t sent = request->n_own * lists * (8 + (request->n_ranks > 1 ? dims->hidden * size : 0));
    return rounded_up(request->n_all, request->expert_rows) * width * size + sent +
           2 * request->n_workers * request->expert_rows * dims->expert_ffn * size +
           request->n_own * dims->n_chosen * 8 + 8 * (dims->n_experts + 2 * request->n_ranks * teams);
}

static enum sq_status ensure(struct sq_experts *experts, struct sq_room *room, const char *what, size_t bytes)
{
    struct sq_backend *backend = experts->backend;
    if (bytes <= room->bytes) return SQ_OK;
    backend->ops->free(backend, room->memory);
    *room = (struct sq_room){NULL, 0};
    SQ_TRY(backend->ops->alloc(backend, what, bytes, &room->memory));
    room->bytes = bytes;
    return SQ_OK;
}

static enum sq_status take_lists(struct sq_forward *forward, struct sq_experts *experts)
{
    int64_t n_routes = experts->n_own * forward->model->dims.n_chosen, n_ranks = experts->world.size;
    const struct {
        void *pointer_p;
        int64_t count;
        size_t size;
    } parts[] = {{&experts->first, sq_experts_count(forward) + 1, sizeof *experts->first},
                 {&experts->tokens, n_routes, sizeof *experts->tokens},
                 {&experts->weights, n_routes, sizeof *experts->weights},
                 {&experts->list_first, experts->n_teams + 1, sizeof *experts->list_first},
                 {&experts->counts, n_ranks * experts->n_teams, sizeof *experts->counts},
                 {&experts->to_rank, n_ranks, sizeof *experts->to_rank},
                 {&experts->to_here, n_ranks, sizeof *experts->to_here}};
    for (int i = 0; i < SQ_COUNT(parts); i++)
        SQ_TRY(sq_alloc("tokens by expert", parts[i].count, parts[i].size, parts[i].pointer_p));
    size_t scratch = 2 * (size_t)(experts->backend->sizes.expert_rows * forward->model->dims.expert_ffn) *
                     sq_dtype_size(forward->options.compute);
    return ensure(experts, &experts->scratch, "the experts' scratch", scratch * (size_t)experts->backend->n_workers);
}

/* What is kept from one EXPERTS step to the next. Collective. */
static enum sq_status create(struct sq_forward *forward, const struct sq_comm *comm)
{
    void *memory = NULL;
    int n_experts = sq_experts_count(forward);
    SQ_TRY(sq_comm_agree(comm, sq_alloc("experts", 1, sizeof(struct sq_experts), &memory)));
    struct sq_experts *experts = memory;
    forward->experts = experts;
    experts->backend = forward->backend;
    experts->world = *comm;
    experts->n_own = forward->options.n_samples * forward->options.length;
    experts->n_teams = comm->size < n_experts ? comm->size : n_experts;
    experts->team_index = (int)((int64_t)comm->rank * experts->n_teams / comm->size);
    SQ_TRY(sq_comm_split(comm, experts->team_index, &experts->team));
    return sq_comm_agree(comm, take_lists(forward, experts));
}

void sq_experts_destroy(struct sq_experts *experts)
{
    if (!experts) return;
    struct sq_room *rooms[] = {&experts->x,       &experts->active,      &experts->sent,
                               &experts->id_room, &experts->weight_room, &experts->scratch};
    void *host[] = {experts->first,      experts->tokens, experts->weights, experts->own_ids,
                    experts->list_first, experts->counts, experts->to_rank, experts->to_here};
    for (int i = 0; i < SQ_COUNT(rooms); i++)
        experts->backend->ops->free(experts->backend, rooms[i]->memory);
    for (int i = 0; i < SQ_COUNT(host); i++)
        sq_free(host[i]);
    if (experts->team.size) sq_comm_free(&experts->team);
    sq_free(experts);
}

/* --- the step ----------------------------------------------------------------------------------------------------- */

static enum sq_status clear_sample(void *context, int64_t index, int worker)
{
    (void)worker;
    const struct sq_forward *forward = context;
    struct sq_matrix out = sq_forward_slot(forward, forward->experts->step->out[0].slot);
    int64_t count = forward->options.length * out.stride;
    return forward->backend->ops->clear(forward->backend, (float *)out.data + index * count,
                                        (size_t)count * sizeof(float));
}

enum sq_status sq_experts_begin(struct sq_forward *forward, const struct sq_comm *comm)
{
    if (!forward->experts) SQ_TRY(create(forward, comm));
    const struct sq_stage *stage = sq_section_stage(forward->section, forward->group);
    forward->experts->step = &forward->section->steps[stage->step];
    forward->experts->first_group = stage->first_group;
    SQ_TRY(sq_comm_agree(
        comm, forward->backend->ops->parallel(forward->backend, forward->options.n_samples, clear_sample, forward)));
    return sq_experts_sort_tokens(forward);
}

void sq_experts_end(struct sq_forward *forward)
{
    const struct sq_experts *experts = forward->experts;
    const struct sq_stage *stage = sq_section_stage(forward->section, experts->first_group);
    sq_forward_forget(forward, 0, experts->n_own);
    forward->group = stage->first_group + stage->n_groups - 1;
    forward->next_step = stage->step + 1;
}

const struct sq_comm *sq_experts_team(const struct sq_forward *forward)
{
    return &forward->experts->team;
}

int sq_experts_n_teams(const struct sq_forward *forward)
{
    return forward->experts->n_teams;
}

int sq_experts_team_index(const struct sq_forward *forward)
{
    return forward->experts->team_index;
}

void sq_experts_select(struct sq_forward *forward, int part)
{
    const struct sq_experts *experts = forward->experts;
    if (experts->mine.index >= 0) forward->group = experts->first_group + 2 * experts->mine.index + part;
}

/* --- who has which rows ------------------------------------------------------------------------------------------- */

/* Rows of an expert with n tokens that a rank of its team has: whole pieces, shared by shards. */
static struct sq_range rows_of(const struct sq_experts *experts, int64_t n, int team_rank, int team_size)
{
    int64_t unit = experts->backend->sizes.expert_rows, pieces = (n + unit - 1) / unit;
    struct sq_range shards = sq_split(SQ_EXPERT_SHARDS, team_rank, team_size);
    int64_t first = sq_split(pieces, shards.first, SQ_EXPERT_SHARDS).first * unit;
    int64_t end = sq_split(pieces, shards.first + shards.count, SQ_EXPERT_SHARDS).first * unit;
    if (first > n) first = n;
    if (end > n) end = n;
    return (struct sq_range){first, end - first};
}

static int team_of(const struct sq_experts *experts, int rank)
{
    return (int)((int64_t)rank * experts->n_teams / experts->world.size);
}

/* First rank of a team; that of the team after the last is the number of ranks. */
static int team_begin(const struct sq_experts *experts, int team)
{
    return (int)(((int64_t)team * experts->world.size + experts->n_teams - 1) / experts->n_teams);
}

static int64_t n_of_list(const struct sq_experts *experts, int j, int end_rank)
{
    int64_t n = 0;
    for (int rank = 0; rank < end_rank; rank++)
        n += experts->counts[(int64_t)rank * experts->n_teams + j];
    return n;
}

/* Rows that `source` sends to `target`: of the expert of target's team, its own tokens among target's rows. */
static int64_t rows_between(const struct sq_experts *experts, int source, int target)
{
    int j = team_of(experts, target);
    if (j >= experts->wave_count) return 0;
    int begin = team_begin(experts, j), size = team_begin(experts, j + 1) - begin;
    struct sq_range rows = rows_of(experts, n_of_list(experts, j, experts->world.size), target - begin, size);
    int64_t first = n_of_list(experts, j, source), end = n_of_list(experts, j, source + 1);
    if (first < rows.first) first = rows.first;
    if (end > rows.first + rows.count) end = rows.first + rows.count;
    return end > first ? end - first : 0;
}

static void share_rows(struct sq_experts *experts, size_t row_bytes)
{
    int me = experts->world.rank;
    for (int rank = 0; rank < experts->world.size; rank++) {
        experts->to_rank[rank] = (size_t)rows_between(experts, me, rank) * row_bytes;
        experts->to_here[rank] = (size_t)rows_between(experts, rank, me) * row_bytes;
    }
    experts->rows = (struct sq_range){0, 0};
    experts->mine.n_tokens = 0;
    if (experts->mine.index >= 0) {
        experts->mine.n_tokens = n_of_list(experts, experts->team_index, experts->world.size);
        experts->rows = rows_of(experts, experts->mine.n_tokens, experts->team.rank, experts->team.size);
    }
    int64_t unit = experts->backend->sizes.expert_rows;
    experts->mine.n_pieces = (experts->mine.n_tokens + unit - 1) / unit;
}

/* --- there -------------------------------------------------------------------------------------------------------- */

/* Rows of this rank's expert, filled up to whole pieces. */
static struct sq_matrix rows_in(const struct sq_forward *forward, const struct sq_room *room, int64_t width)
{
    const struct sq_experts *experts = forward->experts;
    int64_t rows = rounded_up(experts->rows.count, experts->backend->sizes.expert_rows);
    return sq_matrix_view(room->memory, forward->options.compute, rows, width);
}

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
    size_t rows = (size_t)rounded_up(experts->rows.count, experts->backend->sizes.expert_rows);
    const struct sq_dimensions *dims = &forward->model->dims;
    SQ_TRY(ensure(experts, &experts->x, "the tokens of an expert", rows * (size_t)dims->hidden * size));
    SQ_TRY(ensure(experts, &experts->active, "the tokens of an expert", rows * (size_t)dims->expert_ffn * size));
    if (experts->world.size > 1)
        SQ_TRY(ensure(experts, &experts->sent, "tokens on their way", n * (size_t)dims->hidden * size));
    if (experts->backend->is_host) return SQ_OK;
    SQ_TRY(ensure(experts, &experts->id_room, "tokens on their way", n * sizeof(int32_t)));
    return ensure(experts, &experts->weight_room, "tokens on their way", n * sizeof(float));
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
    int64_t row = index * BATCH, rows = g->to.rows - row < BATCH ? g->to.rows - row : BATCH;
    return g->backend->ops->gather_rows(g->backend, g->from, g->ids + row,
                                        sq_matrix_part(g->to, row, rows, 0, g->to.cols));
}

/* This rank's tokens into rows_out(), and zeros into what fills up the last piece of its expert. */
static enum sq_status gather_rows(struct sq_forward *forward)
{
    struct sq_experts *experts = forward->experts;
    struct sq_backend *backend = experts->backend;
    SQ_TRY(take_rooms(forward));
    struct sq_matrix x = rows_in(forward, &experts->x, forward->model->dims.hidden), out = rows_out(forward);
    struct gathering g = {backend, sq_forward_slot(forward, experts->step->in[0]), out, NULL};
    SQ_TRY(sq_backend_view(backend, experts->ids, (size_t)out.rows * sizeof *g.ids, experts->id_room.memory,
                           (const void **)&g.ids));
    SQ_TRY(backend->ops->parallel(backend, (out.rows + BATCH - 1) / BATCH, gather_batch, &g));
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

/* --- in the expert ------------------------------------------------------------------------------------------------ */

static bool is_down(const struct sq_forward *forward)
{
    return (forward->group - forward->experts->first_group) % 2 == 1;
}

struct sq_matrix sq_experts_input(const struct sq_forward *forward)
{
    const struct sq_experts *experts = forward->experts;
    const struct sq_dimensions *dims = &forward->model->dims;
    return is_down(forward) ? rows_in(forward, &experts->active, dims->expert_ffn)
                            : rows_in(forward, &experts->x, dims->hidden);
}

enum sq_status sq_experts_load(struct sq_forward *forward, int member)
{
    int first;
    sq_model_group_linears(forward->model, (int)forward->block, forward->group, &first);
    return sq_weights_load(forward->backend, &forward->experts->team, forward->model,
                           sq_model_linear(forward->model, first + member), 0, forward->pieces,
                           sq_forward_linear_weight(forward, member));
}

/* Rows of a piece. */
static struct sq_matrix piece_of(const struct sq_forward *forward, struct sq_matrix m, int64_t piece)
{
    int64_t unit = forward->backend->sizes.expert_rows;
    return sq_matrix_part(m, piece * unit, unit, 0, m.cols);
}

static int64_t n_pieces_here(const struct sq_forward *forward)
{
    int64_t unit = forward->backend->sizes.expert_rows;
    return (forward->experts->rows.count + unit - 1) / unit;
}

/* active = act(x gate') * (x up') */
static enum sq_status activate_piece(void *context, int64_t index, int worker)
{
    const struct sq_forward *forward = context;
    const struct sq_experts *experts = forward->experts;
    const struct sq_backend_ops *ops = forward->backend->ops;
    const struct sq_dimensions *dims = &forward->model->dims;
    int64_t unit = forward->backend->sizes.expert_rows;
    struct sq_matrix x = piece_of(forward, rows_in(forward, &experts->x, dims->hidden), index);
    struct sq_matrix active = piece_of(forward, rows_in(forward, &experts->active, dims->expert_ffn), index);
    size_t bytes = (size_t)(unit * dims->expert_ffn) * sq_dtype_size(forward->options.compute);
    char *scratch = (char *)experts->scratch.memory + 2 * (size_t)worker * bytes;
    struct sq_matrix gate = sq_matrix_view(scratch, forward->options.compute, unit, dims->expert_ffn), up = gate;
    up.data = scratch + bytes;
    SQ_TRY(ops->linear(forward->backend, x, sq_forward_weight_of(forward, forward->group, 0), NULL, gate));
    SQ_TRY(ops->linear(forward->backend, x, sq_forward_weight_of(forward, forward->group, 1), NULL, up));
    return ops->activate(forward->backend, dims->activation, gate, up, active);
}

/* x = active down': the tokens' memory takes what the expert gives */
static enum sq_status finish_piece(void *context, int64_t index, int worker)
{
    (void)worker;
    const struct sq_forward *forward = context;
    const struct sq_experts *experts = forward->experts;
    const struct sq_dimensions *dims = &forward->model->dims;
    struct sq_matrix x = piece_of(forward, rows_in(forward, &experts->x, dims->hidden), index);
    struct sq_matrix active = piece_of(forward, rows_in(forward, &experts->active, dims->expert_ffn), index);
    return forward->backend->ops->linear(forward->backend, active, sq_forward_weight_of(forward, forward->group, 0),
                                         NULL, x);
}

enum sq_status sq_experts_activate(struct sq_forward *forward)
{
    return forward->backend->ops->parallel(forward->backend, n_pieces_here(forward), activate_piece, forward);
}

enum sq_status sq_experts_finish(struct sq_forward *forward)
{
    return forward->backend->ops->parallel(forward->backend, n_pieces_here(forward), finish_piece, forward);
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

/* --- with the checkpoint's weights -------------------------------------------------------------------------------- */

static enum sq_status run_expert(struct sq_forward *forward, const struct sq_expert *expert)
{
    if (expert->n_tokens == 0) return SQ_OK; /* the team has none, or nobody goes to it */
    sq_experts_select(forward, 0);
    SQ_TRY(sq_experts_load(forward, 0));
    SQ_TRY(sq_experts_load(forward, 1));
    SQ_TRY(sq_comm_agree(&forward->experts->team, sq_experts_activate(forward)));
    sq_experts_select(forward, 1);
    SQ_TRY(sq_experts_load(forward, 0));
    return sq_experts_finish(forward);
}

enum sq_status sq_experts_run(struct sq_forward *forward, const struct sq_comm *comm)
{
    struct sq_expert expert;
    SQ_TRY(sq_experts_begin(forward, comm));
    for (int first = 0; first < sq_experts_count(forward); first += forward->experts->n_teams) {
        SQ_TRY(sq_experts_take(forward, first, NULL, &expert));
        SQ_TRY(sq_comm_agree(comm, run_expert(forward, &expert)));
        SQ_TRY(sq_experts_give(forward));
    }
    sq_experts_end(forward);
    return SQ_OK;
}
