#include "model/weights.h"

#include "base/half.h"
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

/* --- pieces of one linear ----------------------------------------------------------------------------------------- */

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

enum sq_status sq_weights_describe(const struct sq_comm *comm, const struct sq_model *model,
                                   const struct sq_linear *linear, int64_t row, struct sq_matrix weight,
                                   struct sq_weights *weights_p)
{
    struct sq_weights weights = {.model = model,
                                 .linear = linear,
                                 .row = row,
                                 .weight = weight,
                                 .rows = sq_split(weight.rows, comm->rank, comm->size),
                                 .piece_rows = piece_length(model) / weight.cols};
    weights.n_pieces = (weights.rows.count + weights.piece_rows - 1) / weights.piece_rows;
    SQ_TRY(find_table(model, linear, &weights.table));
    *weights_p = weights;
    return SQ_OK;
}

/* Whether the numbers read are not yet those that are kept. */
static bool is_to_round(const struct sq_weights *weights)
{
    const struct sq_model *model = weights->model;
    if (!model->keeps_linears || weights->weight.dtype == SQ_BF16) return false;
    const struct sq_tensor *weight = sq_checkpoint_find_part(model->checkpoint, weights->linear->name, "weight");
    return weight && sq_dtype_has_scales(weight->dtype);
}

static enum sq_status read_rows(const struct sq_weights *weights, int64_t row, int64_t rows, float *values)
{
    struct sq_checkpoint_linear linear = sq_linear_in_folder(weights->linear);
    if (weights->table) return sq_tensor_read_f32(weights->table, row, rows, values);
    SQ_TRY(sq_checkpoint_read_linear(weights->model->checkpoint, &linear, row, rows, values));
    int64_t to_round = is_to_round(weights) ? rows * weights->weight.cols : 0;
    for (int64_t i = 0; i < to_round; i++)
        values[i] = sq_bf16_to_f32(sq_f32_to_bf16(values[i]));
    return SQ_OK;
}

enum sq_status sq_weights_read(const struct sq_weights *weights, int64_t piece, void *room, void **values_p,
                               struct sq_matrix *place_p)
{
    int64_t cols = weights->weight.cols, row = weights->rows.first + piece * weights->piece_rows;
    int64_t rows = weights->rows.first + weights->rows.count - row;
    float *values = room, *converted = values + piece_length(weights->model);
    if (rows > weights->piece_rows) rows = weights->piece_rows;
    SQ_TRY(read_rows(weights, weights->row + row, rows, values));
    if (!sq_checkpoint_is_bare(weights->model->checkpoint))
        sq_dtype_from_f32(values, rows * cols, weights->weight.dtype, converted);
    *values_p = converted;
    *place_p = sq_matrix_part(weights->weight, row, rows, 0, cols);
    return SQ_OK;
}

bool sq_weights_report(const struct sq_weights *weights)
{
    if (weights->table) return sq_tensor_report_not_finite(weights->table);
    return sq_checkpoint_report_linear(weights->model->checkpoint, weights->linear->name);
}

enum sq_status sq_weights_alloc_shares(const struct sq_comm *comm, size_t **shares_p)
{
    void *memory;
    SQ_TRY(sq_alloc("shares of rows", 2 * comm->size, sizeof(size_t), &memory));
    *shares_p = memory;
    return SQ_OK;
}

void sq_weights_set_shares(const struct sq_comm *comm, struct sq_matrix weight, size_t *shares)
{
    size_t row_bytes = (size_t)weight.cols * sq_dtype_size(weight.dtype);
    for (int rank = 0; rank < comm->size; rank++) {
        struct sq_range rows = sq_split(weight.rows, rank, comm->size);
        shares[rank] = (size_t)rows.first * row_bytes;
        shares[comm->size + rank] = (size_t)rows.count * row_bytes;
    }
}

/* --- all of it at once -------------------------------------------------------------------------------------------- */

struct loading {
    struct sq_backend *backend;
    struct sq_weights weights;
    char *pieces;
};

/* By any worker. */
static enum sq_status load_piece(void *context, int64_t index, int worker)
{
    const struct loading *loading = context;
    struct sq_backend *backend = loading->backend;
    void *values;
    struct sq_matrix place;
    SQ_TRY(sq_weights_read(&loading->weights, index,
                           loading->pieces + (size_t)worker * sq_weights_piece_bytes(loading->weights.model), &values,
                           &place));
    return backend->ops->upload(backend, values, (size_t)(place.rows * place.cols) * sq_dtype_size(place.dtype),
                                place.data);
}

enum sq_status sq_weights_load(struct sq_backend *backend, const struct sq_comm *comm, const struct sq_model *model,
                               const struct sq_linear *linear, int64_t row, void *pieces, struct sq_matrix weight)
{
    struct loading loading = {.backend = backend, .pieces = pieces};
    size_t *shares = NULL;
    enum sq_status status = sq_weights_alloc_shares(comm, &shares);
    if (status == SQ_OK) status = sq_weights_describe(comm, model, linear, row, weight, &loading.weights);
    if (status == SQ_OK) status = backend->ops->parallel(backend, loading.weights.n_pieces, load_piece, &loading);
    status = sq_comm_agree(comm, status);
    if (status == SQ_ERR_NUMERIC && comm->rank == 0) (void)sq_weights_report(&loading.weights); /* once for all */
    if (status == SQ_OK) {
        sq_weights_set_shares(comm, weight, shares);
        status = sq_comm_memory_all_gather(comm, backend, weight.data, shares, shares + comm->size);
    }
    sq_free(shares);
    return status;
}
