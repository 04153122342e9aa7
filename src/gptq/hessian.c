#include <math.h>

#include "base/log.h"
#include "gptq/hessian_private.h"
#include "mpi/comm_memory.h"

/* Smaller norms count as this: their squares may be lost in f32, and with them the norms themselves. The scales stay
 * inside f32. */
#define EXPONENT_MIN (-60)
#define SQUARES_MAX 0x1p127 /* of a column: its products stay inside f32, however they are added */
_Static_assert(SQ_LANES == 2, "a piece in hand, the next one on its way: rooms of inputs are two, empty at first");

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* One making of a Hessian, as the parallel items see it. */
struct making {
    struct sq_backend *backend;
    const struct sq_hessian_inputs *inputs;
    struct sq_panels panels;
    int64_t first_panel, n_panels; /* of the slice */
    int64_t first_piece, n_pieces; /* of the inputs, in hand */
    bool is_begun;                 /* the slice has sums */
    bool is_backward;              /* the pieces of the slice come last first */
    int64_t held[SQ_LANES];        /* piece in each room; -1: none */
    struct sq_hessian_workspace *workspace;
    struct sq_matrix hessian;
    double to_mean; /* 2 / T */
};

static struct sq_matrix shard_rows(const struct making *making, int64_t shard)
{
    struct sq_range samples = sq_shards_local(making->inputs->shards, shard);
    return sq_matrix_part(making->inputs->x, samples.first * making->inputs->length,
                          samples.count * making->inputs->length, 0, making->inputs->x.cols);
}

/* --- scales ----------------------------------------------------------------------------------------------------------
 */

/* Smallest e >= EXPONENT_MIN with sqrt(square) <= 2^e. */
static int64_t exponent_of(double square)
{
    if (square == 0) return EXPONENT_MIN;
    int e;
    double fraction = frexp(square, &e); /* square = fraction 2^e, fraction in [0.5, 1) */
    if (fraction == 0.5) e--;
    int64_t half = e >= 0 ? (e + 1) / 2 : e / 2; /* rounded up */
    return half > EXPONENT_MIN ? half : EXPONENT_MIN;
}

static enum sq_status shard_exponents(void *context, int64_t index, int worker)
{
    const struct making *making = context;
    double *squares = making->workspace->squares + (int64_t)worker * making->workspace->n_max;
    int64_t *exponents = making->workspace->exponents + (int64_t)worker * making->workspace->n_max;
    SQ_TRY(making->backend->ops->column_squares(
        making->backend, shard_rows(making, making->inputs->shards->mine.first + index), squares));
    for (int64_t j = 0; j < making->inputs->x.cols; j++) {
        if (!(squares[j] <= SQUARES_MAX)) return SQ_ERR_NUMERIC; /* nor a NaN */
        int64_t e = exponent_of(squares[j]);
        if (e > exponents[j]) exponents[j] = e;
    }
    return SQ_OK;
}

/* Exponents of the columns over this rank's shards, into the first row of exponents. */
static enum sq_status local_exponents(struct making *making)
{
    struct sq_hessian_workspace *w = making->workspace;
    for (int64_t j = 0; j < w->n_max * w->n_workers; j++)
        w->exponents[j] = EXPONENT_MIN;
    SQ_TRY(
        making->backend->ops->parallel(making->backend, making->inputs->shards->mine.count, shard_exponents, making));
    for (int k = 1; k < w->n_workers; k++)
        for (int64_t j = 0; j < making->inputs->x.cols; j++) {
            int64_t e = w->exponents[k * w->n_max + j];
            if (e > w->exponents[j]) w->exponents[j] = e;
        }
    return SQ_OK;
}

static int shard_headroom(int64_t n_shards)
{
    int bits = 1; /* one more for the rounding of the f32 products */
    while (((int64_t)1 << bits) < 2 * n_shards)
        bits++;
    return bits;
}

/* The power of four that brings the largest entry of the Hessian near 1: what is made of it, errors above all, is far
 * from the ends of f32, however small the inputs are. */
static int unit_exponent(const struct making *making)
{
    int64_t largest = EXPONENT_MIN;
    for (int64_t j = 0; j < making->inputs->x.cols; j++)
        if (making->workspace->exponents[j] > largest) largest = making->workspace->exponents[j];
    return (int)largest + ilogb(making->to_mean) / 2;
}

/* Fixed point: an entry scaled into [-1, 1] is multiplied by 2^(62 - headroom), half of it on either side. */
static enum sq_status make_scales(struct making *making)
{
    struct sq_hessian_workspace *w = making->workspace;
    int64_t n = making->inputs->x.cols;
    int steps = 62 - shard_headroom(making->inputs->shards->n_shards);
    int half = steps / 2, unit = unit_exponent(making);
    double *up = (double *)(void *)w->scales, *mean = up + w->n_max;
    float *down = (float *)(mean + w->n_max);
    for (int64_t j = 0; j < n; j++) {
        int e = (int)w->exponents[j];
        down[j] = ldexpf(1.0f, half - e);
        up[j] = ldexp(1.0, e - half);
        mean[j] = up[j] * ldexp(making->to_mean, -2 * unit);
    }
    return making->backend->ops->upload(making->backend, w->scales, 20 * (size_t)w->n_max, w->scale_up);
}

/* --- pieces of the inputs ----------------------------------------------------------------------------------------- */

/* Tokens of this rank's shards in pieces that a product is made of; a piece never reaches into the next shard. */
static int64_t shard_pieces(const struct making *making, int64_t shard)
{
    int64_t most = making->panels.sizes.hessian_tokens;
    return (shard_rows(making, shard).rows + most - 1) / most;
}

static int64_t count_pieces(const struct making *making)
{
    const struct sq_range mine = making->inputs->shards->mine;
    int64_t count = 0;
    for (int64_t s = mine.first; s < mine.first + mine.count; s++)
        count += shard_pieces(making, s);
    return count;
}

static struct sq_matrix piece_rows(const struct making *making, int64_t piece)
{
    int64_t shard = making->inputs->shards->mine.first, most = making->panels.sizes.hessian_tokens;
    for (; piece >= shard_pieces(making, shard); shard++)
        piece -= shard_pieces(making, shard);
    struct sq_matrix x = shard_rows(making, shard);
    return sq_matrix_part(x, piece * most, smaller(x.rows - piece * most, most), 0, x.cols);
}

/* Pieces that are in hand at once: those that fit when packed. */
static int64_t batch_pieces(const struct making *making)
{
    int64_t one = sq_gram_elements(making->panels.sizes.hessian_tokens, making->inputs->x.cols);
    int64_t most = making->workspace->packed ? making->workspace->packed_elements / one : INT64_MAX;
    return smaller(count_pieces(making) - making->first_piece, most);
}

/* The room that has this piece, or to which it is on its way; as many as there are: none. */
static int room_of(const struct making *making, int64_t piece)
{
    int room = 0;
    while (room < making->workspace->rooms.count && making->held[room] != piece)
        room++;
    return room;
}

/* Starts to bring a piece in, as it lies on the host, unless it is in a room; not into that of the present one. */
static enum sq_status bring_in(struct making *making, int64_t piece, int64_t present)
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
static struct sq_matrix piece_in_hand(const struct making *making, int64_t index)
{
    int64_t piece = making->first_piece + index;
    struct sq_matrix x = piece_rows(making, piece);
    if (making->inputs->on_host) x.data = making->workspace->room[room_of(making, piece)];
    return x;
}

/* Where piece `index` of those in hand is packed; NULL where the backend takes x as it is. */
static float *piece_packed(const struct making *making, int64_t index)
{
    int64_t one = sq_gram_elements(making->panels.sizes.hessian_tokens, making->inputs->x.cols);
    return making->workspace->packed ? making->workspace->packed + index * one : NULL;
}

#define PACK_ROWS 64

/* Parts of the longest piece; a shorter one has fewer, and its last items nothing to do. */
static int64_t row_parts(const struct making *making)
{
    return (making->panels.sizes.hessian_tokens + PACK_ROWS - 1) / PACK_ROWS;
}

/* Item: some rows of a piece. */
static enum sq_status pack_rows(void *context, int64_t index, int worker)
{
    const struct making *making = context;
    int64_t piece = index / row_parts(making), row = index % row_parts(making) * PACK_ROWS;
    struct sq_matrix x = piece_in_hand(making, piece);
    (void)worker;
    if (row >= x.rows) return SQ_OK;
    return making->backend->ops->gram_pack(making->backend, x, row, smaller(x.rows - row, PACK_ROWS),
                                           piece_packed(making, piece));
}

/* --- panels ------------------------------------------------------------------------------------------------------- */

/* Item `index` of a slice; the largest panel comes first, so that the workers end together. */
static struct sq_panel item_panel(const struct making *making, int64_t index)
{
    return sq_panels_at(&making->panels, making->first_panel + making->n_panels - 1 - index);
}

static struct sq_matrix panel_sums(const struct making *making, const struct sq_panel *panel)
{
    int64_t first = sq_panels_at(&making->panels, making->first_panel).offset;
    return sq_matrix_view(making->workspace->sums + panel->offset - first, SQ_I64, panel->rows, panel->columns);
}

/* A panel over the pieces in hand. */
static enum sq_status sum_panel(void *context, int64_t index, int worker)
{
    const struct making *making = context;
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

static enum sq_status sum_pieces(struct making *making)
{
    struct sq_backend *backend = making->backend;
    if (making->workspace->packed)
        SQ_TRY(backend->ops->parallel(backend, making->n_pieces * row_parts(making), pack_rows, making));
    SQ_TRY(backend->ops->parallel(backend, making->n_panels, sum_panel, making));
    making->is_begun = true;
    return SQ_OK;
}

/* Piece `index` of those that the slice takes from the host. Every other slice begins with what the one before it had
 * last: that is still in the rooms. */
static int64_t piece_in_order(const struct making *making, int64_t index)
{
    return making->is_backward ? count_pieces(making) - 1 - index : index;
}

static enum sq_status sum_from_host(struct making *making)
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
static enum sq_status settle_rooms(const struct making *making, enum sq_status status)
{
    for (int room = 0; room < making->workspace->rooms.count; room++) {
        enum sq_status sent = making->backend->ops->sent(making->backend, room);
        if (status == SQ_OK) status = sent;
    }
    return status;
}

/* The slice over all of this rank's inputs; without any it is zero. */
static enum sq_status sum_slice(struct making *making)
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
    const struct making *making = context;
    const struct sq_backend_ops *ops = making->backend->ops;
    struct sq_hessian_workspace *w = making->workspace;
    struct sq_panel panel = item_panel(making, index);
    (void)worker;
    SQ_TRY(ops->fixed_get(making->backend, panel_sums(making, &panel), w->scale_mean + panel.row, w->scale_up,
                          sq_matrix_part(making->hessian, panel.row, panel.rows, 0, panel.columns)));
    return ops->mirror(making->backend, making->hessian, panel.row, panel.rows);
}

static enum sq_status make_slice(struct making *making, const struct sq_comm *comm, int root)
{
    struct sq_backend *backend = making->backend;
    int64_t *sums = making->workspace->sums;
    struct sq_panel last = sq_panels_at(&making->panels, making->first_panel + making->n_panels - 1);
    int64_t count = last.offset + last.rows * last.columns - sq_panels_at(&making->panels, making->first_panel).offset;
    enum sq_status status;
    SQ_TRY(sq_comm_agree(comm, sum_slice(making)));
    status = root < 0 ? sq_comm_memory_sum_i64(comm, backend, sums, count)
                      : sq_comm_memory_reduce_sum_i64(comm, backend, root, sums, count);
    if (status == SQ_OK && (root < 0 || comm->rank == root))
        status = backend->ops->parallel(backend, making->n_panels, get_panel, making);
    return sq_comm_agree(comm, status);
}

enum sq_status sq_hessian_make(struct sq_backend *backend, const struct sq_comm *comm, int root, const char *layer,
                               const struct sq_hessian_inputs *inputs, struct sq_hessian_workspace *workspace,
                               struct sq_matrix hessian)
{
    struct making making = {.backend = backend,
                            .inputs = inputs,
                            .panels = sq_panels_make(&backend->sizes, inputs->x.cols, &workspace->rooms),
                            .held = {-1, -1},
                            .workspace = workspace,
                            .hessian = hessian,
                            .to_mean = 2.0 / ((double)inputs->shards->n_samples * (double)inputs->length)};
    enum sq_status status = sq_comm_agree(comm, local_exponents(&making));
    if (status == SQ_ERR_NUMERIC && comm->rank == 0)
        sq_error("the inputs of %s are too large: their Hessian is not finite", layer);
    SQ_TRY(status);
    SQ_TRY(sq_comm_max_i64(comm, workspace->exponents, inputs->x.cols));
    SQ_TRY(sq_comm_agree(comm, make_scales(&making)));
    for (int64_t first = 0; first < sq_panels_count(&making.panels); first += making.n_panels) {
        making.first_panel = first;
        making.n_panels = sq_panels_slice(&making.panels, first);
        SQ_TRY(make_slice(&making, comm, root));
    }
    return SQ_OK;
}
