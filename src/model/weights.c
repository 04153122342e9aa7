#include "model/weights.h"

#include "base/memory.h"
#include "model/model_private.h"
#include "mpi/comm_memory.h"
#include "mpi/split.h"

#define PIECE_LENGTH ((int64_t)1 << 18) /* floats of a piece of rows: 1 MiB */
#define PIECE_ROWS 16                   /* at least: rows of a packed layer are not worth reading one by one */

/* Floats of one piece. */
static int64_t piece_length(const struct sq_model *model)
{
    return model->widest_input * PIECE_ROWS > PIECE_LENGTH ? model->widest_input * PIECE_ROWS : PIECE_LENGTH;
}

size_t sq_weights_piece_bytes(const struct sq_model *model)
{
    return 2 * (size_t)piece_length(model) * sizeof(float); /* as read, and converted */
}

/* One linear on its way: rows in pieces, each by any worker. */
struct loading {
    struct sq_backend *backend;
    const struct sq_model *model;
    const struct sq_linear *linear;
    const struct sq_tensor *table; /* the embedding, where it stands in for lm_head; else NULL */
    int64_t row;                   /* of the linear, for row 0 of weight */
    struct sq_matrix weight;
    struct sq_range rows; /* this rank's rows of weight */
    int64_t piece_rows;
    float *pieces;
};

static enum sq_status read_rows(const struct loading *loading, int64_t row, int64_t rows, float *values)
{
    struct sq_checkpoint_linear linear = sq_linear_in_folder(loading->linear);
    if (loading->table) return sq_tensor_read_f32(loading->table, row, rows, values);
    return sq_checkpoint_read_linear(loading->model->checkpoint, &linear, row, rows, values);
}

static enum sq_status load_piece(void *context, int64_t index, int worker)
{
    const struct loading *loading = context;
    struct sq_backend *backend = loading->backend;
    int64_t length = piece_length(loading->model), cols = loading->weight.cols;
    float *values = loading->pieces + 2 * (int64_t)worker * length;
    int64_t row = loading->rows.first + index * loading->piece_rows;
    int64_t rows = loading->rows.first + loading->rows.count - row;
    if (rows > loading->piece_rows) rows = loading->piece_rows;
    SQ_TRY(read_rows(loading, loading->row + row, rows, values));
    if (!sq_checkpoint_is_bare(loading->model->checkpoint))
        sq_dtype_from_f32(values, rows * cols, loading->weight.dtype, values + length);
    return backend->ops->upload(backend, values + length, (size_t)(rows * cols) * sq_dtype_size(loading->weight.dtype),
                                sq_matrix_part(loading->weight, row, rows, 0, cols).data);
}

/* Said once for all ranks and workers. */
static void report_not_finite(const struct loading *loading)
{
    if (loading->table)
        (void)sq_tensor_report_not_finite(loading->table);
    else
        (void)sq_checkpoint_report_linear(loading->model->checkpoint, loading->linear->name);
}

/* Where each rank's share of the rows lies, in bytes: offsets, then sizes; released with sq_free(). */
static enum sq_status make_shares(const struct sq_comm *comm, struct sq_matrix weight, size_t **shares_p)
{
    size_t row_bytes = (size_t)weight.cols * sq_dtype_size(weight.dtype);
    void *memory;
    SQ_TRY(sq_alloc("shares of rows", 2 * comm->size, sizeof(size_t), &memory));
    size_t *shares = memory;
    for (int rank = 0; rank < comm->size; rank++) {
        struct sq_range rows = sq_split(weight.rows, rank, comm->size);
        shares[rank] = (size_t)rows.first * row_bytes;
        shares[comm->size + rank] = (size_t)rows.count * row_bytes;
    }
    *shares_p = shares;
    return SQ_OK;
}

static enum sq_status find_table(const struct sq_model *model, const struct sq_linear *linear,
                                 const struct sq_tensor **table_p)
{
    *table_p = NULL;
    if (linear->block < model->dims.n_blocks || !model->dims.tied) return SQ_OK;
    char *name;
    SQ_TRY(sq_model_tensor_name(model, model->architecture->embedding, &name));
    *table_p = sq_checkpoint_find(model->checkpoint, name);
    sq_free(name);
    return SQ_OK;
}

enum sq_status sq_weights_load(struct sq_backend *backend, const struct sq_comm *comm, const struct sq_model *model,
                               const struct sq_linear *linear, int64_t row, void *pieces, struct sq_matrix weight)
{
    struct loading loading = {.backend = backend,
                              .model = model,
                              .linear = linear,
                              .row = row,
                              .weight = weight,
                              .rows = sq_split(weight.rows, comm->rank, comm->size),
                              .piece_rows = piece_length(model) / weight.cols,
                              .pieces = pieces};
    int64_t n_pieces = (loading.rows.count + loading.piece_rows - 1) / loading.piece_rows;
    size_t *shares = NULL;
    enum sq_status status = make_shares(comm, weight, &shares);
    if (status == SQ_OK) status = find_table(model, linear, &loading.table);
    if (status == SQ_OK) status = backend->ops->parallel(backend, n_pieces, load_piece, &loading);
    status = sq_comm_agree(comm, status);
    if (status == SQ_ERR_NUMERIC && comm->rank == 0) report_not_finite(&loading);
    if (status == SQ_OK) status = sq_comm_memory_all_gather(comm, backend, weight.data, shares, shares + comm->size);
    sq_free(shares);
    return status;
}
