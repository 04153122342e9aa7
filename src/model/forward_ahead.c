/* Weights of the groups to come, for forward passes on a device that take the checkpoint's own. With areas for two:
 *
 *      workers        group g computes              | g + 1            area
 *      NCCL             the ranks' shares of g + 1  |   of g + 2       area of its own
 *      main thread      this rank's share of g + 2  |   of g + 3       area of its own, by way of pinned lanes
 *
 * With an area for one, g + 1 is read while g computes, and gathered when it is wanted. Experts stay where they are:
 * they use the area of the group before them. Only the main thread reads, between parallel()s or beside them. */
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/trace.h"
#include "model/forward_private.h"
#include "mpi/comm_memory.h"

_Static_assert(SQ_FORWARD_AHEAD <= SQ_COMM_GATHERS, "a lane for each group's gather");

enum sq_status sq_forward_ahead_create(struct sq_forward *forward, size_t area_bytes)
{
    struct sq_backend *backend = forward->backend;
    struct sq_forward_ahead *ahead = &forward->ahead;
    int count = forward->options.groups_ahead;
    for (int i = 0; i <= count; i++)
        SQ_TRY(backend->ops->alloc(backend, "a group's weights", area_bytes, (void **)&ahead->areas[i]));
    forward->weights = ahead->areas[0];
    for (int lane = 0; lane < SQ_LANES && count > 0; lane++)
        SQ_TRY(backend->ops->alloc_host(backend, "rows read ahead", sq_weights_piece_bytes(forward->model),
                                        &ahead->rooms[lane]));
    return SQ_OK;
}

static enum sq_status wait_for_gathers(const struct sq_forward_ahead *ahead)
{
    for (int i = 0; i < ahead->count; i++)
        if (ahead->queue[i].is_gathering) SQ_TRY(sq_comm_memory_finish_gather(ahead->comm, ahead->queue[i].lane));
    return SQ_OK;
}

/* Waits for what is on its way, and forgets it. */
static void drop(struct sq_forward *forward)
{
    struct sq_forward_ahead *ahead = &forward->ahead;
    ahead->is_open = false;
    for (int lane = 0; lane < SQ_LANES && ahead->rooms[lane]; lane++)
        (void)forward->backend->ops->sent(forward->backend, lane);
    enum sq_status status = wait_for_gathers(ahead);
    (void)status; /* nobody asks any more for what did not come */
    ahead->count = 0;
    sq_free(ahead->shares);
    ahead->shares = NULL;
}

void sq_forward_ahead_destroy(struct sq_forward *forward)
{
    struct sq_backend *backend = forward->backend;
    struct sq_forward_ahead *ahead = &forward->ahead;
    drop(forward);
    for (int i = 0; i < SQ_COUNT(ahead->areas); i++)
        backend->ops->free(backend, ahead->areas[i]);
    for (int lane = 0; lane < SQ_LANES; lane++)
        backend->ops->free_host(backend, ahead->rooms[lane]);
}

/* --- which groups come -------------------------------------------------------------------------------------------- */

/* The next group that has weights of its own; false: there is none, or nobody sets its weights. */
static bool find_next(const struct sq_forward *forward, int64_t *block, int *group)
{
    const struct sq_model *model = forward->model;
    int64_t n_blocks = model->dims.n_blocks;
    do {
        if (++*group == sq_model_n_groups(model, *block)) {
            ++*block;
            *group = 0;
        }
        if (*block == n_blocks) return false;
    } while (sq_model_is_expert_group(model, *block, *group));
    bool is_last = *block == n_blocks - 1 && *group == sq_model_n_groups(model, *block) - 1;
    return !is_last || !forward->options.leaves_last;
}

static char *free_area(const struct sq_forward *forward)
{
    const struct sq_forward_ahead *ahead = &forward->ahead;
    for (int i = 0; i <= forward->options.groups_ahead; i++) {
        bool is_used = ahead->areas[i] == forward->weights;
        for (int k = 0; k < ahead->count; k++)
            is_used = is_used || ahead->areas[i] == ahead->queue[k].area;
        if (!is_used) return ahead->areas[i];
    }
    return NULL;
}

/* What the gathers take, too: where there is no room for it on one rank, take_first() has all agree on that before. */
static enum sq_status describe(struct sq_forward *forward, struct sq_upcoming *upcoming)
{
    int first;
    if (!forward->ahead.shares) SQ_TRY(sq_weights_alloc_shares(forward->ahead.comm, &forward->ahead.shares));
    upcoming->n_linears = sq_model_group_linears(forward->model, (int)upcoming->block, upcoming->group, &first);
    for (int member = 0; member < upcoming->n_linears; member++) {
        struct sq_weights *weights = &upcoming->linears[member];
        SQ_TRY(sq_weights_describe(
            forward->ahead.comm, forward->model, sq_model_linear(forward->model, first + member), 0,
            sq_forward_weight_at(forward, upcoming->area, upcoming->block, upcoming->group, member), weights));
        upcoming->n_pieces += weights->n_pieces;
    }
    return SQ_OK;
}

/* Reading goes on, as far as there are areas. */
static void fill(struct sq_forward *forward)
{
    struct sq_forward_ahead *ahead = &forward->ahead;
    int64_t block = forward->block;
    int group = forward->group;
    if (ahead->count > 0) {
        block = ahead->queue[ahead->count - 1].block;
        group = ahead->queue[ahead->count - 1].group;
    }
    while (ahead->count < forward->options.groups_ahead && find_next(forward, &block, &group)) {
        struct sq_upcoming *upcoming = &ahead->queue[ahead->count];
        *upcoming = (struct sq_upcoming){.block = block, .group = group, .area = free_area(forward)};
        upcoming->lane = ahead->gather_lane;
        ahead->gather_lane = (ahead->gather_lane + 1) % SQ_COMM_GATHERS;
        ahead->status = describe(forward, upcoming);
        ahead->count++;
        if (ahead->status != SQ_OK) return;
    }
    ahead->is_open = true;
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

/* Piece `index` of all linears of a group. */
static enum sq_status read_piece(const struct sq_upcoming *upcoming, int64_t index, void *room, void **values_p,
                                 struct sq_matrix *place_p)
{
    const struct sq_weights *weights = upcoming->linears;
    for (; index >= weights->n_pieces; weights++)
        index -= weights->n_pieces;
    return sq_weights_read(weights, index, room, values_p, place_p);
}

static size_t bytes_of(struct sq_matrix place)
{
    return (size_t)(place.rows * place.cols) * sq_dtype_size(place.dtype);
}

/* The next piece by way of the next lane. */
static enum sq_status send_piece(struct sq_forward *forward, const struct sq_upcoming *upcoming)
{
    struct sq_forward_ahead *ahead = &forward->ahead;
    struct sq_backend *backend = forward->backend;
    void *values;
    struct sq_matrix place;
    SQ_TRY(backend->ops->sent(backend, ahead->lane));
    SQ_TRY(read_piece(upcoming, upcoming->n_read, ahead->rooms[ahead->lane], &values, &place));
    SQ_TRY(backend->ops->send(backend, ahead->lane, values, bytes_of(place), place.data));
    ahead->lane = (ahead->lane + 1) % SQ_LANES;
    return SQ_OK;
}

bool sq_forward_ahead_step(void *context)
{
    struct sq_forward *forward = context;
    struct sq_forward_ahead *ahead = &forward->ahead;
    struct sq_upcoming *upcoming = ahead->queue, *end = upcoming + ahead->count;
    while (upcoming < end && upcoming->n_read == upcoming->n_pieces)
        upcoming++;
    if (!ahead->is_open || upcoming == end) return false;
    double since = sq_trace_now();
    ahead->status = send_piece(forward, upcoming);
    ahead->is_open = ahead->status == SQ_OK;
    upcoming->n_read += ahead->is_open;
    if (since > 0) sq_trace_add_beside(SQ_TRACE_FILES, 0, "read weights", since, sq_seconds() - since, 0);
    return ahead->is_open;
}

/* By any worker: a piece of those that are left, of all groups one after another. */
static enum sq_status load_piece(void *context, int64_t index, int worker)
{
    const struct sq_forward *forward = context;
    struct sq_backend *backend = forward->backend;
    const struct sq_upcoming *upcoming = forward->ahead.queue;
    void *room = (char *)forward->pieces + (size_t)worker * sq_weights_piece_bytes(forward->model), *values;
    struct sq_matrix place;
    for (; index >= upcoming->n_pieces - upcoming->n_read; upcoming++)
        index -= upcoming->n_pieces - upcoming->n_read;
    SQ_TRY(read_piece(upcoming, upcoming->n_read + index, room, &values, &place));
    return backend->ops->upload(backend, values, bytes_of(place), place.data);
}

/* What was not read beside the work; all that was sent is there afterwards. */
static enum sq_status finish_reading(struct sq_forward *forward)
{
    struct sq_forward_ahead *ahead = &forward->ahead;
    struct sq_backend *backend = forward->backend;
    int64_t n_left = 0;
    ahead->is_open = false;
    SQ_TRY(ahead->status);
    for (int lane = 0; lane < SQ_LANES; lane++)
        SQ_TRY(backend->ops->sent(backend, lane));
    for (int i = 0; i < ahead->count; i++)
        n_left += ahead->queue[i].n_pieces - ahead->queue[i].n_read;
    SQ_TRY(backend->ops->parallel(backend, n_left, load_piece, forward));
    for (int i = 0; i < ahead->count; i++)
        ahead->queue[i].n_read = ahead->queue[i].n_pieces;
    return SQ_OK;
}

/* Said once for all ranks, of the first linear that has such numbers. */
static void report_not_finite(const struct sq_forward_ahead *ahead)
{
    for (int i = 0; i < ahead->count; i++)
        for (int member = 0; member < ahead->queue[i].n_linears; member++)
            if (sq_weights_report(&ahead->queue[i].linears[member])) return;
}

/* --- between ranks ------------------------------------------------------------------------------------------------ */

static enum sq_status start_gather(struct sq_forward *forward, struct sq_upcoming *upcoming)
{
    const struct sq_comm *comm = forward->ahead.comm;
    size_t *shares = forward->ahead.shares;
    upcoming->is_gathering = true;
    for (int member = 0; member < upcoming->n_linears; member++) {
        struct sq_matrix weight = upcoming->linears[member].weight;
        sq_weights_set_shares(comm, weight, shares);
        SQ_TRY(sq_comm_memory_start_gather(comm, forward->backend, upcoming->lane, weight.data, shares,
                                           shares + comm->size));
    }
    return SQ_OK;
}

/* All groups on their way are gathered; the first of them is waited for. */
static enum sq_status gather(struct sq_forward *forward)
{
    struct sq_forward_ahead *ahead = &forward->ahead;
    for (int i = 0; i < ahead->count; i++)
        if (!ahead->queue[i].is_gathering) SQ_TRY(start_gather(forward, &ahead->queue[i]));
    return sq_comm_memory_finish_gather(ahead->comm, ahead->queue[0].lane);
}

enum sq_status sq_forward_ahead_settle(struct sq_forward *forward, const struct sq_comm *comm)
{
    if (forward->options.groups_ahead == 0) return SQ_OK;
    return sq_comm_agree(comm, wait_for_gathers(&forward->ahead));
}

/* The first group on its way becomes the present one's weights. */
static enum sq_status take_first(struct sq_forward *forward, const struct sq_comm *comm)
{
    struct sq_forward_ahead *ahead = &forward->ahead;
    enum sq_status status = sq_comm_agree(comm, finish_reading(forward));
    if (status == SQ_ERR_NUMERIC && comm->rank == 0) report_not_finite(ahead);
    SQ_TRY(status);
    SQ_TRY(sq_comm_agree(comm, gather(forward)));
    forward->weights = ahead->queue[0].area;
    ahead->count--;
    memmove(ahead->queue, ahead->queue + 1, (size_t)ahead->count * sizeof *ahead->queue);
    return SQ_OK;
}

static enum sq_status load_members(struct sq_forward *forward, const struct sq_comm *comm)
{
    int first, count = sq_model_group_linears(forward->model, (int)forward->block, forward->group, &first);
    for (int member = 0; member < count; member++)
        SQ_TRY(sq_forward_load_linear(forward, comm, member));
    return SQ_OK;
}

enum sq_status sq_forward_load_group(struct sq_forward *forward, const struct sq_comm *comm)
{
    struct sq_forward_ahead *ahead = &forward->ahead;
    const struct sq_upcoming *first = ahead->queue;
    bool is_first = ahead->count > 0 && first->block == forward->block && first->group == forward->group;
    if (forward->section == &forward->model->head || forward->options.groups_ahead == 0)
        return load_members(forward, comm);
    if (!is_first) drop(forward);
    ahead->comm = comm;
    SQ_TRY(is_first ? take_first(forward, comm) : load_members(forward, comm));
    fill(forward);
    return SQ_OK;
}
