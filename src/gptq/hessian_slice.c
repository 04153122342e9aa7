/* A slice of the Hessian on this rank: its products from pieces of the inputs, and what becomes of its sums. */
#include "gptq/hessian_private.h"

_Static_assert(SQ_LANES == 2, "a piece in hand, the next one on its way: rooms of inputs are two, empty at first");

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

struct sq_matrix sq_making_shard(const struct sq_making *making, int64_t shard)
{
    struct sq_range samples = sq_shards_local(making->inputs->shards, shard);
    return sq_matrix_part(making->inputs->x, samples.first * making->inputs->length,
                          samples.count * making->inputs->length, 0, making->inputs->x.cols);
}

/* --- pieces of the inputs ----------------------------------------------------------------------------------------- */

/* Tokens of this rank's shards in pieces that a product is made of; a piece never reaches into the next shard. */
static int64_t shard_pieces(const struct sq_making *making, int64_t shard)
{
    int64_t most = making->panels.sizes.hessian_tokens;
    return (sq_making_shard(making, shard).rows + most - 1) / most;
}

static int64_t count_pieces(const struct sq_making *making)
{
    const struct sq_range mine = making->inputs->shards->mine;
    int64_t count = 0;
    for (int64_t s = mine.first; s < mine.first + mine.count; s++)
        count += shard_pieces(making, s);
    return count;
}

static struct sq_matrix piece_rows(const struct sq_making *making, int64_t piece)
{
    int64_t shard = making->inputs->shards->mine.first, most = making->panels.sizes.hessian_tokens;
    for (; piece >= shard_pieces(making, shard); shard++)
        piece -= shard_pieces(making, shard);
    struct sq_matrix x = sq_making_shard(making, shard);
    return sq_matrix_part(x, piece * most, smaller(x.rows - piece * most, most), 0, x.cols);
}

/* Pieces that are in hand at once: those that fit when packed. */
static int64_t batch_pieces(const struct sq_making *making)
{
    int64_t one = sq_gram_elements(making->panels.sizes.hessian_tokens, making->inputs->x.cols);
    int64_t most = making->workspace->packed ? making->workspace->packed_elements / one : INT64_MAX;
    return smaller(count_pieces(making) - making->first_piece, most);
}

/* The room that has this piece, or to which it is on its way; as many as there are: none. */
static int room_of(const struct sq_making *making, int64_t piece)
{
    int room = 0;
    while (room < making->workspace->rooms.count && making->held[room] != piece)
        room++;
    return room;
}

/* Starts to bring a piece in, as it lies on the host, unless it is in a room; not into that of the present one. */
static enum sq_status bring_in(struct sq_making *making, int64_t piece, int64_t present)
{
    const struct sq_hessian_workspace *w = making->workspace;
    struct sq_matrix x = piece_rows(making, piece);
    if (room_of(making, piece) < w->rooms.count) return SQ_OK;
    int room = making->held[0] == present ? w->rooms.count - 1 : 0;
    making->held[room] = piece;
    return making->backend->ops->send(making->backend, room, x.data,
                                      (size_t)(x.rows * x.stride) * sq_dtype_size(x.dtype), w->room[room]);
}

/* Piece `index` of those in hand, in the backend's memory. */
static struct sq_matrix piece_in_hand(const struct sq_making *making, int64_t index)
{
    int64_t piece = making->first_piece + index;
    struct sq_matrix x = piece_rows(making, piece);
    if (making->inputs->on_host) x.data = making->workspace->room[room_of(making, piece)];
    return x;
}

/* Where piece `index` of those in hand is packed; NULL where the backend takes x as it is. */
static float *piece_packed(const struct sq_making *making, int64_t index)
{
    int64_t one = sq_gram_elements(making->panels.sizes.hessian_tokens, making->inputs->x.cols);
    return making->workspace->packed ? making->workspace->packed + index * one : NULL;
}

#define PACK_ROWS 64

/* Parts of the longest piece; a shorter one has fewer, and its last items nothing to do. */
static int64_t row_parts(const struct sq_making *making)
{
    return (making->panels.sizes.hessian_tokens + PACK_ROWS - 1) / PACK_ROWS;
}

/* Item: some rows of a piece. */
static enum sq_status pack_rows(void *context, int64_t index, int worker)
{
    const struct sq_making *making = context;
    int64_t piece = index / row_parts(making), row = index % row_parts(making) * PACK_ROWS;
    struct sq_matrix x = piece_in_hand(making, piece);
    (void)worker;
    if (row >= x.rows) return SQ_OK;
    return making->backend->ops->gram_pack(making->backend, x, row, smaller(x.rows - row, PACK_ROWS),
                                           piece_packed(making, piece));
}

/* --- panels ------------------------------------------------------------------------------------------------------- */

/* Item `index` of a slice; the largest panel comes first, so that the workers end together. */
static struct sq_panel item_panel(const struct sq_making *making, int64_t index)
{
    return sq_panels_at(&making->panels, making->slice->first_panel + making->slice->n_panels - 1 - index);
}

int64_t *sq_slice_memory(const struct sq_making *making)
{
    return making->workspace->sums + making->slice->lane * making->panels.sizes.hessian_slice;
}

static struct sq_matrix panel_sums(const struct sq_making *making, const struct sq_panel *panel)
{
    int64_t first = sq_panels_at(&making->panels, making->slice->first_panel).offset;
    return sq_matrix_view(sq_slice_memory(making) + panel->offset - first, SQ_I64, panel->rows, panel->columns);
}

/* A panel over the pieces in hand. */
static enum sq_status sum_panel(void *context, int64_t index, int worker)
{
    const struct sq_making *making = context;
    const struct sq_backend_ops *ops = making->backend->ops;
    struct sq_panel panel = item_panel(making, index);
    struct sq_matrix sums = panel_sums(making, &panel);
    (void)worker;
    if (!making->is_begun)
        SQ_TRY(ops->clear(making->backend, sums.data, (size_t)(sums.rows * sums.cols) * sizeof(int64_t)));
    for (int64_t k = 0; k < making->n_pieces; k++)
        SQ_TRY(ops->gram_add(making->backend, piece_in_hand(making, k), piece_packed(making, k), panel.row,
                             making->workspace->scale_down, sums));
    return SQ_OK;
}

static enum sq_status sum_pieces(struct sq_making *making)
{
    struct sq_backend *backend = making->backend;
    if (making->workspace->packed)
        SQ_TRY(backend->ops->parallel(backend, making->n_pieces * row_parts(making), pack_rows, making));
    SQ_TRY(backend->ops->parallel(backend, making->slice->n_panels, sum_panel, making));
    making->is_begun = true;
    return SQ_OK;
}

/* Piece `index` of those that the slice takes from the host. Every other slice begins with what the one before it had
 * last: that is still in the rooms. */
static int64_t piece_in_order(const struct sq_making *making, int64_t index)
{
    return making->is_backward ? count_pieces(making) - 1 - index : index;
}

static enum sq_status sum_from_host(struct sq_making *making)
{
    const struct sq_backend_ops *ops = making->backend->ops;
    int64_t count = count_pieces(making);
    making->n_pieces = 1;
    for (int64_t i = 0; i < count; i++) {
        making->first_piece = piece_in_order(making, i);
        SQ_TRY(bring_in(making, making->first_piece, making->first_piece));
        if (making->workspace->rooms.count > 1 && i + 1 < count)
            SQ_TRY(bring_in(making, piece_in_order(making, i + 1), making->first_piece));
        SQ_TRY(ops->sent(making->backend, room_of(making, making->first_piece)));
        SQ_TRY(sum_pieces(making));
    }
    making->is_backward = !making->is_backward;
    return SQ_OK;
}

/* Nothing is on its way any more. */
static enum sq_status settle_rooms(const struct sq_making *making, enum sq_status status)
{
    for (int room = 0; room < making->workspace->rooms.count; room++) {
        enum sq_status sent = making->backend->ops->sent(making->backend, room);
        if (status == SQ_OK) status = sent;
    }
    return status;
}

enum sq_status sq_slice_sum(struct sq_making *making)
{
    making->is_begun = false;
    making->first_piece = 0;
    if (making->inputs->on_host && count_pieces(making) > 0) return settle_rooms(making, sum_from_host(making));
    do {
        making->n_pieces = batch_pieces(making);
        SQ_TRY(sum_pieces(making));
        making->first_piece += making->n_pieces;
    } while (making->first_piece < count_pieces(making));
    return SQ_OK;
}

static enum sq_status get_panel(void *context, int64_t index, int worker)
{
    const struct sq_making *making = context;
    const struct sq_backend_ops *ops = making->backend->ops;
    struct sq_hessian_workspace *w = making->workspace;
    struct sq_panel panel = item_panel(making, index);
    (void)worker;
    SQ_TRY(ops->fixed_get(making->backend, panel_sums(making, &panel), w->scale_mean + panel.row, w->scale_up,
                          sq_matrix_part(making->hessian, panel.row, panel.rows, 0, panel.columns)));
    return ops->mirror(making->backend, making->hessian, panel.row, panel.rows);
}

enum sq_status sq_slice_get(struct sq_making *making)
{
    return making->backend->ops->parallel(making->backend, making->slice->n_panels, get_panel, making);
}
