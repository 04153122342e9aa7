/* For each column k of tiles in turn:
 *
 *      A_ik -= L_i,k-1 L_k,k-1'      for i >= k                                 its owner: rank k mod P
 *      L_kk = cholesky(A_kk)         L_ik = A_ik inv(L_kk)'   for i > k         its owner
 *      column k of L                                                            begins to travel
 *      A_ij -= L_i,k-1 L_j,k-1'      for k < j <= i                             the owner of column j
 *      column k of L                                                            is there
 *
 * so that a column is made, and travels, beside what the one before it does to all others. With it comes its owner's
 * status: when that is bad all ranks end with this column. A rank that fails otherwise takes part until it owns one.
 *
 * A column goes in pieces of some rows. Each piece sees the same operations in the same order whoever owns it, so the
 * bits do not depend on the number P of ranks. They send n^2/2 numbers in all, and every rank has all of L in the end.
 */
#include "gptq/cholesky.h"

#include "gptq/cholesky_dry.h"
#include "mpi/comm_memory.h"

struct cholesky {
    struct sq_backend *backend;
    const struct sq_comm *comm;
    struct sq_matrix matrix;
    int64_t edge, tiles; /* of a tile; along an edge of the matrix */
    int64_t height;      /* rows of a column of tiles that one operation takes */
    int64_t column;      /* of tiles, in work or on its way */
    float *panel;        /* that column from the diagonal down, dense, on its way */
    struct sq_comm_started panel_sent, told_sent;
    struct sq_columns_clock clock; /* on a dry communicator */
    enum sq_status status;         /* of this rank */
    enum sq_status told;           /* of the column's owner when it sent it: the same on all ranks */
};

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static struct sq_matrix tile_of(const struct cholesky *c, int64_t i, int64_t j)
{
    int64_t row = i * c->edge, col = j * c->edge, n = c->matrix.rows;
    return sq_matrix_part(c->matrix, row, smaller(n - row, c->edge), col, smaller(n - col, c->edge));
}

/* Pieces of a column from tile i on, down to the matrix's end. */
static int64_t n_pieces(const struct cholesky *c, int64_t i)
{
    int64_t rows = c->matrix.rows - i * c->edge;
    return rows > 0 ? (rows + c->height - 1) / c->height : 0;
}

/* The one with this number, of column j. */
static struct sq_matrix piece_of(const struct cholesky *c, int64_t i, int64_t index, int64_t j)
{
    int64_t row = i * c->edge + index * c->height, col = j * c->edge, n = c->matrix.rows;
    return sq_matrix_part(c->matrix, row, smaller(n - row, c->height), col, smaller(n - col, c->edge));
}

static bool is_dry(const struct cholesky *c)
{
    return c->comm->size > 1 && sq_comm_is_dry(c->comm);
}

/* --- a column ----------------------------------------------------------------------------------------------------- */

static int owner(const struct cholesky *c)
{
    return (int)(c->column % c->comm->size);
}

static bool is_own(const struct cholesky *c)
{
    return owner(c) == c->comm->rank;
}

/* A -= L L', by the column before the present one; a piece of column `col`, from its diagonal on. */
static enum sq_status update_piece(const struct cholesky *c, int64_t col, int64_t index)
{
    int64_t k = c->column - 1;
    return c->backend->ops->update(c->backend, piece_of(c, col, index, k), tile_of(c, col, k),
                                   piece_of(c, col, index, col));
}

/* Item: a piece of the column. */
static enum sq_status own_item(void *context, int64_t index, int worker)
{
    (void)worker;
    const struct cholesky *c = context;
    return update_piece(c, c->column, index);
}

/* Item: a piece below the diagonal tile. */
static enum sq_status panel_item(void *context, int64_t index, int worker)
{
    (void)worker;
    const struct cholesky *c = context;
    int64_t k = c->column;
    return c->backend->ops->trsm(c->backend, tile_of(c, k, k), piece_of(c, k + 1, index, k));
}

/* Piece `index` of the column where it is packed. */
static struct sq_matrix packed_piece(const struct cholesky *c, int64_t index, struct sq_matrix piece)
{
    return sq_matrix_view(c->panel + index * c->height * piece.cols, SQ_F32, piece.rows, piece.cols);
}

static enum sq_status pack_item(void *context, int64_t index, int worker)
{
    (void)worker;
    const struct cholesky *c = context;
    struct sq_matrix piece = piece_of(c, c->column, index, c->column);
    return c->backend->ops->copy_parts(c->backend, 1, piece.cols, piece, 0, packed_piece(c, index, piece), 0);
}

static enum sq_status unpack_item(void *context, int64_t index, int worker)
{
    (void)worker;
    const struct cholesky *c = context;
    struct sq_matrix piece = piece_of(c, c->column, index, c->column);
    return c->backend->ops->copy_parts(c->backend, 1, piece.cols, packed_piece(c, index, piece), 0, piece, 0);
}

static size_t column_bytes(const struct cholesky *c)
{
    int64_t first = c->column * c->edge, rows = c->matrix.rows - first;
    return (size_t)(rows * smaller(rows, c->edge)) * sizeof *c->panel;
}

static enum sq_status make_column(void *context)
{
    struct cholesky *c = context;
    const struct sq_backend_ops *ops = c->backend->ops;
    int64_t k = c->column;
    if (k > 0 && c->comm->size > 1) SQ_TRY(ops->parallel(c->backend, n_pieces(c, k), own_item, c));
    SQ_TRY(ops->potrf(c->backend, tile_of(c, k, k)));
    SQ_TRY(ops->parallel(c->backend, n_pieces(c, k + 1), panel_item, c));
    return c->comm->size > 1 ? ops->parallel(c->backend, n_pieces(c, k), pack_item, c) : SQ_OK;
}

static void keep_worst(struct cholesky *c, enum sq_status status)
{
    if (status > c->status) c->status = status;
}

/* Where it is this rank's. One that cannot be made travels all the same, as zeros: the others are waiting for it. */
static void begin_column(struct cholesky *c)
{
    if (c->status == SQ_OK && is_dry(c))
        c->status = sq_columns_clock_make(&c->clock, is_own(c), make_column, c, column_bytes(c));
    else if (c->status == SQ_OK && is_own(c))
        c->status = make_column(c);
    if (c->status != SQ_OK && is_own(c) && c->comm->size > 1)
        keep_worst(c, c->backend->ops->clear(c->backend, c->panel, column_bytes(c)));
}

/* --- on its way --------------------------------------------------------------------------------------------------- */

static void send_column(struct cholesky *c)
{
    c->told = c->status;
    keep_worst(c, sq_comm_start_broadcast(c->comm, owner(c), &c->told, sizeof c->told, &c->told_sent));
    keep_worst(
        c, sq_comm_memory_start_broadcast(c->comm, c->backend, owner(c), c->panel, column_bytes(c), &c->panel_sent));
}

static void receive_column(struct cholesky *c)
{
    keep_worst(c, sq_comm_finish_broadcast(&c->told_sent));
    keep_worst(c, sq_comm_memory_finish_broadcast(c->comm, &c->panel_sent));
    if (is_dry(c)) sq_columns_clock_wait(&c->clock);
    if (!is_own(c) && c->told == SQ_OK && c->status == SQ_OK)
        keep_worst(c, c->backend->ops->parallel(c->backend, n_pieces(c, c->column), unpack_item, c));
}

/* --- the columns after it ----------------------------------------------------------------------------------------- */

/* The first of this rank's columns after the present one; alone, where nobody waits for that one, it is among them. */
static int64_t first_after(const struct cholesky *c)
{
    int64_t size = c->comm->size, next = c->column + 1;
    return size == 1 ? c->column : next + (c->comm->rank + size - next % size) % size;
}

/* Item: a piece of these columns, column by column. */
static enum sq_status update_item(void *context, int64_t index, int worker)
{
    (void)worker;
    const struct cholesky *c = context;
    int64_t col = first_after(c);
    for (; index >= n_pieces(c, col); col += c->comm->size)
        index -= n_pieces(c, col);
    return update_piece(c, col, index);
}

static void update_columns(struct cholesky *c)
{
    int64_t count = 0;
    if (c->status != SQ_OK || c->column == 0) return;
    for (int64_t col = first_after(c); col < c->tiles; col += c->comm->size)
        count += n_pieces(c, col);
    c->status = c->backend->ops->parallel(c->backend, count, update_item, c);
}

/* --- all of it ---------------------------------------------------------------------------------------------------- */

enum sq_status sq_cholesky_make(struct sq_backend *backend, const struct sq_comm *comm, void *panel,
                                struct sq_matrix matrix)
{
    struct cholesky c = {.backend = backend,
                         .comm = comm,
                         .matrix = matrix,
                         .edge = backend->sizes.factor_tile,
                         .height = backend->sizes.factor_rows,
                         .panel = panel};
    c.clock.links = (struct sq_links_clock){.backend = backend, .comm = comm};
    c.tiles = (matrix.rows + c.edge - 1) / c.edge;
    for (; c.column < c.tiles && c.told == SQ_OK; c.column++) {
        if (comm->size == 1) update_columns(&c);
        begin_column(&c);
        send_column(&c);
        if (comm->size > 1) update_columns(&c);
        receive_column(&c);
    }
    return sq_comm_agree(comm, c.status > c.told ? c.status : c.told);
}

size_t sq_cholesky_panel_bytes(const struct sq_sizes *sizes, int64_t n_max)
{
    return (size_t)(n_max * smaller(n_max, sizes->factor_tile)) * sizeof(float);
}
