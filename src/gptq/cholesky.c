/* For each column k of tiles in turn:
 *
 *      L_kk = cholesky(A_kk)         L_ik = A_ik inv(L_kk)'   for i > k         its owner: rank k mod P
 *      column k of L                                                            broadcast
 *      A_ij -= L_ik L_jk'            for k < j <= i                             the owner of column j
 *
 * Each tile sees the same operations in the same order whoever owns it, so the bits do not depend on the number P of
 * ranks. They send n^2/2 numbers in all, and every rank has all of L in the end. */
#include "gptq/cholesky.h"

#include "mpi/comm_memory.h"

struct cholesky {
    struct sq_backend *backend;
    const struct sq_comm *comm;
    struct sq_matrix matrix;
    int64_t edge, tiles; /* of a tile; along an edge of the matrix */
    float *panel;        /* the column of tiles in work from the diagonal down, dense, on its way */
    int64_t step;        /* that column */
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

/* --- a column ----------------------------------------------------------------------------------------------------- */

static int owner(const struct cholesky *c)
{
    return (int)(c->step % c->comm->size);
}

/* Whether this rank makes the column; a dry one waits as long as that takes. */
static bool makes_column(const struct cholesky *c)
{
    return owner(c) == c->comm->rank || sq_comm_is_dry(c->comm);
}

static bool takes_column(const struct cholesky *c)
{
    return owner(c) != c->comm->rank || sq_comm_is_dry(c->comm);
}

/* Item: a tile below the diagonal. */
static enum sq_status panel_item(void *context, int64_t index, int worker)
{
    (void)worker;
    const struct cholesky *c = context;
    return c->backend->ops->trsm(c->backend, tile_of(c, c->step, c->step), tile_of(c, c->step + 1 + index, c->step));
}

/* Tile `index` of the column where it is packed. */
static struct sq_matrix packed_tile(const struct cholesky *c, int64_t index, struct sq_matrix tile)
{
    return sq_matrix_view(c->panel + index * c->edge * tile.cols, SQ_F32, tile.rows, tile.cols);
}

static enum sq_status pack_item(void *context, int64_t index, int worker)
{
    (void)worker;
    const struct cholesky *c = context;
    struct sq_matrix tile = tile_of(c, c->step + index, c->step);
    return c->backend->ops->copy_parts(c->backend, 1, tile.cols, tile, 0, packed_tile(c, index, tile), 0);
}

static enum sq_status unpack_item(void *context, int64_t index, int worker)
{
    (void)worker;
    const struct cholesky *c = context;
    struct sq_matrix tile = tile_of(c, c->step + index, c->step);
    return c->backend->ops->copy_parts(c->backend, 1, tile.cols, packed_tile(c, index, tile), 0, tile, 0);
}

static enum sq_status make_column(struct cholesky *c)
{
    const struct sq_backend_ops *ops = c->backend->ops;
    SQ_TRY(ops->potrf(c->backend, tile_of(c, c->step, c->step)));
    SQ_TRY(ops->parallel(c->backend, c->tiles - 1 - c->step, panel_item, c));
    if (c->comm->size == 1) return SQ_OK;
    return ops->parallel(c->backend, c->tiles - c->step, pack_item, c);
}

static enum sq_status share_column(struct cholesky *c)
{
    struct sq_matrix diagonal = tile_of(c, c->step, c->step);
    int64_t rows = c->matrix.rows - c->step * c->edge;
    if (c->comm->size == 1) return SQ_OK;
    SQ_TRY(sq_comm_memory_broadcast(c->comm, c->backend, owner(c), c->panel,
                                    (size_t)(rows * diagonal.cols) * sizeof *c->panel));
    if (!takes_column(c)) return SQ_OK;
    return c->backend->ops->parallel(c->backend, c->tiles - c->step, unpack_item, c);
}

/* --- the columns after it ----------------------------------------------------------------------------------------- */

/* The first of this rank's columns after `column`. */
static int64_t next_own(const struct cholesky *c, int64_t column)
{
    int64_t size = c->comm->size;
    return column + 1 + (c->comm->rank + size - (column + 1) % size) % size;
}

/* Item: a tile of the columns after the present one that this rank owns, column by column. */
static enum sq_status update_item(void *context, int64_t index, int worker)
{
    (void)worker;
    const struct cholesky *c = context;
    int64_t col = next_own(c, c->step);
    for (; index >= c->tiles - col; col += c->comm->size)
        index -= c->tiles - col;
    int64_t row = col + index;
    return c->backend->ops->update(c->backend, tile_of(c, row, c->step), tile_of(c, col, c->step),
                                   tile_of(c, row, col));
}

static enum sq_status update_columns(struct cholesky *c)
{
    int64_t count = 0;
    for (int64_t col = next_own(c, c->step); col < c->tiles; col += c->comm->size)
        count += c->tiles - col;
    return c->backend->ops->parallel(c->backend, count, update_item, c);
}

/* --- all of it ---------------------------------------------------------------------------------------------------- */

enum sq_status sq_cholesky_make(struct sq_backend *backend, const struct sq_comm *comm, void *panel,
                                struct sq_matrix matrix)
{
    struct cholesky c = {
        .backend = backend, .comm = comm, .matrix = matrix, .edge = backend->sizes.factor_tile, .panel = panel};
    enum sq_status status = SQ_OK;
    c.tiles = (matrix.rows + c.edge - 1) / c.edge;
    for (c.step = 0; c.step < c.tiles; c.step++) {
        if (status == SQ_OK && makes_column(&c)) status = make_column(&c);
        status = sq_comm_agree(comm, status); /* a column that cannot be made ends it on all ranks */
        if (status != SQ_OK) return status;
        status = share_column(&c);
        if (status == SQ_OK) status = update_columns(&c);
    }
    return sq_comm_agree(comm, status);
}

size_t sq_cholesky_panel_bytes(const struct sq_sizes *sizes, int64_t n_max)
{
    return (size_t)(n_max * smaller(n_max, sizes->factor_tile)) * sizeof(float);
}
