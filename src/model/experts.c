#include "model/experts.h"

#include "base/memory.h"
#include "model/experts_private.h"
#include "model/weights.h"
#include "mpi/comm_memory.h"

/* --- memory ------------------------------------------------------------------------------------------------------- */

/* Rows of an expert that has all tokens, on the rank of the smallest team that has most of them, in whole pieces. */
static int64_t most_rows(const struct sq_experts_request *request, int n_teams)
{
    int64_t most = 0;
    int size = request->n_ranks / n_teams;
    for (int rank = 0; rank < size; rank++) {
        int64_t count = sq_experts_share(request->expert_rows, request->n_all, rank, size).count;
        if (count > most) most = count;
    }
    return sq_experts_rounded_up(most, request->expert_rows);
}

/* Beside the lists: those of other policies than route, with the scores by which one tops up, and on a device the
 * slots that are looked at on the host. */
static int64_t policy_bytes(const struct sq_dimensions *dims, const struct sq_experts_request *request, int n_teams)
{
    bool tops_up = request->policy.kind == SQ_EXPERTS_TOP_UP;
    int64_t candidate = 2 * (int64_t)sizeof(int64_t), bytes = 0;
    if (request->policy.kind != SQ_EXPERTS_ROUTE) bytes += request->n_own * n_teams * (int64_t)sizeof(int32_t);
    if (tops_up) bytes += candidate * (request->n_own + request->policy.least * request->n_ranks);
    if (!request->is_host)
        bytes += request->n_own * (int64_t)sizeof(float) * (tops_up ? dims->n_experts : 2 * dims->n_chosen);
    return bytes;
}

/* Outputs of gate and of up, and where they have to be sorted these once more. */
static int64_t scratch_bytes(const struct sq_model *model, int64_t rows, enum sq_dtype compute)
{
    int64_t parts = model->architecture->experts_in_turn ? 4 : 2;
    return parts * rows * model->dims.expert_ffn * (int64_t)sq_dtype_size(compute);
}

struct sq_experts_bytes sq_experts_predict_bytes(const struct sq_model *model, const struct sq_experts_request *request)
{
    const struct sq_dimensions *dims = &model->dims;
    int64_t size = (int64_t)sq_dtype_size(request->compute), n_own = request->n_own, n_ranks = request->n_ranks;
    if (!model->has_kind[SQ_BLOCK_SPARSE]) return (struct sq_experts_bytes){0, 0};
    int n_teams = n_ranks < dims->n_experts ? request->n_ranks : (int)dims->n_experts;
    bool is_routed = request->policy.kind == SQ_EXPERTS_ROUTE;
    int64_t n_lists = is_routed && dims->n_chosen < n_teams ? dims->n_chosen : n_teams;
    int64_t row = (n_ranks > 1 ? dims->hidden * size : 0) + (request->is_host ? 0 : 8); /* of a token on its way */
    return (struct sq_experts_bytes){
        .backend = most_rows(request, n_teams) * (dims->hidden + dims->expert_ffn) * size + n_own * n_lists * row +
                   request->n_workers * scratch_bytes(model, request->expert_rows, request->compute),
        .host = n_own * dims->n_chosen * 8 +
                8 * (2 * dims->n_experts + 2 + n_teams + (n_ranks + 1) * n_teams + 2 * n_ranks) +
                policy_bytes(dims, request, n_teams)};
}

enum sq_status sq_experts_ensure(struct sq_experts *experts, struct sq_room *room, const char *what, size_t bytes)
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
                 {&experts->before, (n_ranks + 1) * experts->n_teams, sizeof *experts->before},
                 {&experts->to_rank, n_ranks, sizeof *experts->to_rank},
                 {&experts->to_here, n_ranks, sizeof *experts->to_here}};
    for (int i = 0; i < SQ_COUNT(parts); i++)
        SQ_TRY(sq_alloc("tokens by expert", parts[i].count, parts[i].size, parts[i].pointer_p));
    int64_t scratch = scratch_bytes(forward->model, experts->backend->sizes.expert_rows, forward->options.compute);
    return sq_experts_ensure(experts, &experts->scratch, "the experts' scratch",
                             (size_t)(scratch * experts->backend->n_workers));
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
    experts->team_index = sq_team_of(comm->rank, experts->n_teams, comm->size);
    SQ_TRY(sq_comm_split(comm, experts->team_index, &experts->team));
    enum sq_status status = sq_comm_memory_join(comm, &experts->team);
    if (status == SQ_OK) status = take_lists(forward, experts);
    return sq_comm_agree(comm, status);
}

void sq_experts_destroy(struct sq_experts *experts)
{
    if (!experts) return;
    struct sq_room *rooms[] = {&experts->x,       &experts->active,      &experts->sent,
                               &experts->id_room, &experts->weight_room, &experts->scratch};
    void *host[] = {experts->first,      experts->tokens, experts->weights, experts->own_ids,
                    experts->list_first, experts->before, experts->to_rank, experts->to_here};
    for (int i = 0; i < SQ_COUNT(rooms); i++)
        experts->backend->ops->free(experts->backend, rooms[i]->memory);
    for (int i = 0; i < SQ_COUNT(host); i++)
        sq_free(host[i]);
    sq_comm_memory_leave(&experts->team);
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

/* --- in the expert ------------------------------------------------------------------------------------------------ */

struct sq_matrix sq_experts_rows(const struct sq_forward *forward, const struct sq_room *room, int64_t width)
{
    const struct sq_experts *experts = forward->experts;
    int64_t rows = sq_experts_rounded_up(experts->rows.count, experts->backend->sizes.expert_rows);
    return sq_matrix_view(room->memory, forward->options.compute, rows, width);
}

static bool is_down(const struct sq_forward *forward)
{
    return (forward->group - forward->experts->first_group) % 2 == 1;
}

struct sq_matrix sq_experts_input(const struct sq_forward *forward)
{
    const struct sq_experts *experts = forward->experts;
    const struct sq_dimensions *dims = &forward->model->dims;
    return is_down(forward) ? sq_experts_rows(forward, &experts->active, dims->expert_ffn)
                            : sq_experts_rows(forward, &experts->x, dims->hidden);
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

/* The bias of gate, up or down (part 0, 1, 2) of this rank's expert; NULL where it has none. */
static const float *bias_of(const struct sq_forward *forward, int part)
{
    const struct sq_experts *experts = forward->experts;
    const struct sq_dimensions *dims = &forward->model->dims;
    const float *biases = sq_forward_parameter(forward, (int)(experts->step - forward->section->steps), part, true);
    return biases ? biases + experts->mine.index * (part < 2 ? dims->expert_ffn : dims->hidden) : NULL;
}

/* Rows of the last piece that are no tokens' are zero in x, and with biases would not be in what follows: they have no
 * part in a Hessian. */
static enum sq_status clear_rest(const struct sq_forward *forward, int64_t index, struct sq_matrix active)
{
    int64_t used = forward->experts->rows.count - index * active.rows;
    if (used >= active.rows || !bias_of(forward, 0)) return SQ_OK;
    struct sq_matrix rest = sq_matrix_part(active, used, active.rows - used, 0, active.cols);
    return forward->backend->ops->clear(forward->backend, rest.data,
                                        (size_t)(rest.rows * rest.cols) * sq_dtype_size(rest.dtype));
}

/* gate = x gate' + bias, up = x up' + bias; both may be views of one matrix. */
static enum sq_status make_gate_and_up(const struct sq_forward *forward, struct sq_matrix x, struct sq_matrix gate,
                                       struct sq_matrix up)
{
    const struct sq_backend_ops *ops = forward->backend->ops;
    SQ_TRY(
        ops->linear(forward->backend, x, sq_forward_weight_of(forward, forward->group, 0), bias_of(forward, 0), gate));
    return ops->linear(forward->backend, x, sq_forward_weight_of(forward, forward->group, 1), bias_of(forward, 1), up);
}

/* The same where their outputs, one behind the other in `both`, are gate and up in turn. */
static enum sq_status make_in_turn(const struct sq_forward *forward, struct sq_matrix x, struct sq_matrix both,
                                   struct sq_matrix gate, struct sq_matrix up)
{
    const struct sq_backend_ops *ops = forward->backend->ops;
    int64_t width = gate.cols;
    SQ_TRY(make_gate_and_up(forward, x, sq_matrix_part(both, 0, x.rows, 0, width),
                            sq_matrix_part(both, 0, x.rows, width, width)));
    SQ_TRY(ops->copy_parts(forward->backend, width, 1, both, 2, gate, 1));
    return ops->copy_parts(forward->backend, width, 1, sq_matrix_part(both, 0, x.rows, 1, both.cols - 1), 2, up, 1);
}

/* active = act(gate) * up */
static enum sq_status activate_piece(void *context, int64_t index, int worker)
{
    const struct sq_forward *forward = context;
    const struct sq_experts *experts = forward->experts;
    const struct sq_dimensions *dims = &forward->model->dims;
    enum sq_dtype compute = forward->options.compute;
    int64_t unit = forward->backend->sizes.expert_rows, width = dims->expert_ffn;
    struct sq_matrix x = piece_of(forward, sq_experts_rows(forward, &experts->x, dims->hidden), index);
    struct sq_matrix active = piece_of(forward, sq_experts_rows(forward, &experts->active, width), index);
    int64_t bytes = unit * width * (int64_t)sq_dtype_size(compute);
    char *scratch = (char *)experts->scratch.memory + worker * scratch_bytes(forward->model, unit, compute);
    struct sq_matrix gate = sq_matrix_view(scratch, compute, unit, width);
    struct sq_matrix up = sq_matrix_view(scratch + bytes, compute, unit, width);
    struct sq_matrix both = sq_matrix_view(scratch + 2 * bytes, compute, unit, 2 * width);
    SQ_TRY(forward->model->architecture->experts_in_turn ? make_in_turn(forward, x, both, gate, up)
                                                         : make_gate_and_up(forward, x, gate, up));
    SQ_TRY(forward->backend->ops->activate(forward->backend, dims->activation, gate, up, active));
    return clear_rest(forward, index, active);
}

/* x = active down' + bias: the tokens' memory takes what the expert gives */
static enum sq_status finish_piece(void *context, int64_t index, int worker)
{
    (void)worker;
    const struct sq_forward *forward = context;
    const struct sq_experts *experts = forward->experts;
    const struct sq_dimensions *dims = &forward->model->dims;
    struct sq_matrix x = piece_of(forward, sq_experts_rows(forward, &experts->x, dims->hidden), index);
    struct sq_matrix active = piece_of(forward, sq_experts_rows(forward, &experts->active, dims->expert_ffn), index);
    return forward->backend->ops->linear(forward->backend, active, sq_forward_weight_of(forward, forward->group, 0),
                                         bias_of(forward, 2), x);
}

enum sq_status sq_experts_activate(struct sq_forward *forward)
{
    return forward->backend->ops->parallel(forward->backend, n_pieces_here(forward), activate_piece, forward);
}

enum sq_status sq_experts_finish(struct sq_forward *forward)
{
    return forward->backend->ops->parallel(forward->backend, n_pieces_here(forward), finish_piece, forward);
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
