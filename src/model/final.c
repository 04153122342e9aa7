#include "model/final.h"

#include <assert.h>
#include <string.h>

#include "base/memory.h"
#include "model/model_private.h"
#include "model/weights.h"

/* --- sizes -------------------------------------------------------------------------------------------------------- */

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int64_t sq_final_rows(const struct sq_model *model)
{
    return smaller(sq_model_vocab_size(model), SQ_HEAD_ROWS);
}

int64_t sq_final_positions(int64_t length)
{
    return smaller(length, SQ_HEAD_POSITIONS);
}

static bool has_bias(const struct sq_model *model)
{
    return sq_section_parameter(&model->head, model->head.stages[0].step, 0, true) != NULL;
}

static int64_t row_bytes(const struct sq_model *model, const struct sq_forward_options *options)
{
    return sq_model_hidden_size(model) * (int64_t)sq_dtype_size(options->compute);
}

/* From one position's state to the next. */
static int64_t state_bytes(const struct sq_model *model, const struct sq_forward_options *options)
{
    return sq_aligned(row_bytes(model, options));
}

static int64_t bias_bytes(const struct sq_model *model)
{
    return has_bias(model) ? sq_model_vocab_size(model) * (int64_t)sizeof(float) : 0;
}

/* Of one worker. */
static int64_t desk_bytes(const struct sq_model *model, const struct sq_forward_options *options)
{
    if (options->place != SQ_ACTIVATIONS_ON_HOST) return 0;
    return sq_final_positions(options->length) * state_bytes(model, options);
}

struct sq_final_bytes sq_final_predict_bytes(int n_workers, const struct sq_model *model,
                                             const struct sq_forward_options *options)
{
    return (struct sq_final_bytes){
        .states = options->n_samples * options->length * state_bytes(model, options),
        .weights = sq_final_rows(model) * row_bytes(model, options) + bias_bytes(model),
        .desks = n_workers * desk_bytes(model, options),
        .host_pieces = n_workers * (int64_t)sq_weights_piece_bytes(model),
    };
}

/* --- making ------------------------------------------------------------------------------------------------------- */

static enum sq_status take_memory(struct sq_final *final, const struct sq_forward_options *options)
{
    struct sq_backend *backend = final->backend;
    const struct sq_backend_ops *ops = backend->ops;
    const struct sq_model *model = final->model;
    struct sq_final_bytes bytes = sq_final_predict_bytes(backend->n_workers, model, options);
    int64_t hidden = sq_model_hidden_size(model), rows = options->n_samples * options->length;
    void *states, *weight;
    final->length = options->length;
    final->desk_bytes = (size_t)desk_bytes(model, options);
    SQ_TRY(
        (final->desk_bytes > 0 ? ops->alloc_host : ops->alloc)(backend, "final states", (size_t)bytes.states, &states));
    final->states = (struct sq_matrix){states, options->compute, rows, hidden,
                                       state_bytes(model, options) / (int64_t)sq_dtype_size(options->compute)};
    if (bytes.desks > 0)
        SQ_TRY(ops->alloc(backend, "pieces of final states", (size_t)bytes.desks, (void **)&final->desk));
    SQ_TRY(ops->alloc(backend, "a piece of lm_head", (size_t)(bytes.weights - bias_bytes(model)), &weight));
    final->weight = sq_matrix_view(weight, options->compute, 0, hidden);
    if (has_bias(model))
        SQ_TRY(ops->alloc(backend, "the bias of lm_head", (size_t)bias_bytes(model), (void **)&final->bias));
    return ops->alloc_host(backend, "rows read from a file", (size_t)bytes.host_pieces, &final->pieces);
}

/* One sample's final states out of the forward pass's memory. */
struct copying {
    struct sq_backend *backend;
    struct sq_matrix from, to;
    int64_t length;
};

static enum sq_status copy_sample(void *context, int64_t index, int worker)
{
    (void)worker;
    const struct copying *copying = context;
    int64_t row = index * copying->length;
    return copying->backend->ops->convert(copying->backend,
                                          sq_matrix_part(copying->from, row, copying->length, 0, copying->from.cols),
                                          sq_matrix_part(copying->to, row, copying->length, 0, copying->to.cols));
}

static enum sq_status copy_bias(struct sq_final *final, const struct sq_forward *forward)
{
    float *bias = (float *)(uintptr_t)sq_forward_head_bias(forward); /* a matrix may be written to; this one is not */
    int64_t vocab = sq_model_vocab_size(final->model);
    if (!bias) return SQ_OK;
    return final->backend->ops->convert(final->backend, sq_matrix_view(bias, SQ_F32, 1, vocab),
                                        sq_matrix_view(final->bias, SQ_F32, 1, vocab));
}

static enum sq_status run_model(struct sq_final *final, const struct sq_comm *comm, struct sq_forward *forward,
                                const struct sq_forward_options *options, const int32_t *ids)
{
    SQ_TRY(sq_forward_embed(forward, comm, ids));
    SQ_TRY(sq_forward_run_blocks(forward, comm, 0));
    SQ_TRY(sq_forward_load_block(forward, comm, sq_model_n_blocks(final->model)));
    SQ_TRY(sq_forward_agree(forward, comm, sq_forward_to_group(forward, 0)));
    struct copying copying = {final->backend, sq_forward_group_input(forward), final->states, options->length};
    SQ_TRY(sq_comm_agree(comm, copy_bias(final, forward)));
    return sq_comm_agree(comm,
                         final->backend->ops->parallel(final->backend, options->n_samples, copy_sample, &copying));
}

enum sq_status sq_final_make(struct sq_backend *backend, const struct sq_comm *comm, const struct sq_model *model,
                             const struct sq_forward_options *options, const int32_t *ids, struct sq_final *final_p)
{
    struct sq_final final = {.backend = backend, .model = model};
    struct sq_forward *forward = NULL;
    enum sq_status status = take_memory(&final, options);
    if (status == SQ_OK) status = sq_forward_create(backend, model, options, &forward);
    status = sq_comm_agree(comm, status);
    if (status == SQ_OK) status = run_model(&final, comm, forward, options, ids);
    sq_forward_destroy(forward);
    if (status != SQ_OK) {
        sq_final_release(&final);
        return status;
    }
    *final_p = final;
    return SQ_OK;
}

void sq_final_release(struct sq_final *final)
{
    if (!final->backend) return;
    const struct sq_backend_ops *ops = final->backend->ops;
    (final->desk_bytes > 0 ? ops->free_host : ops->free)(final->backend, final->states.data);
    ops->free(final->backend, final->desk);
    ops->free(final->backend, final->weight.data);
    ops->free(final->backend, final->bias);
    ops->free_host(final->backend, final->pieces);
    memset(final, 0, sizeof *final);
}

/* --- logits ------------------------------------------------------------------------------------------------------- */

enum sq_status sq_final_load_head(struct sq_final *final, const struct sq_comm *comm, int64_t first, int64_t rows)
{
    const struct sq_linear *head = sq_model_linear(final->model, sq_model_n_linears(final->model) - 1);
    final->weight.rows = rows;
    final->first = first;
    return sq_weights_load(final->backend, comm, final->model, head, first, final->pieces, final->weight);
}

/* Rows [row, row + rows) of the states in backend memory; those on the host come to the worker's desk. */
static enum sq_status bring_in(const struct sq_final *final, int worker, int64_t row, int64_t rows,
                               struct sq_matrix *x_p)
{
    struct sq_matrix x = sq_matrix_part(final->states, row, rows, 0, final->states.cols);
    if (final->desk_bytes > 0) {
        void *desk = final->desk + (size_t)worker * final->desk_bytes;
        size_t bytes = (size_t)(x.rows * x.stride) * sq_dtype_size(x.dtype);
        assert(bytes <= final->desk_bytes);
        SQ_TRY(final->backend->ops->upload(final->backend, x.data, bytes, desk));
        x.data = desk;
    }
    *x_p = x;
    return SQ_OK;
}

enum sq_status sq_final_piece_logits(const struct sq_final *final, int worker, int64_t row, struct sq_matrix logits)
{
    struct sq_backend *backend = final->backend;
    const struct sq_dimensions *dims = &final->model->dims;
    struct sq_matrix x;
    SQ_TRY(bring_in(final, worker, row, logits.rows, &x));
    SQ_TRY(backend->ops->linear(backend, x, final->weight, final->bias ? final->bias + final->first : NULL, logits));
    if (dims->logit_scale == 1 && dims->logit_cap == 0) return SQ_OK;
    return backend->ops->rescale(backend, (float)dims->logit_scale, (float)dims->logit_cap, logits);
}

/* Columns [first, first + rows of the weight) of one sample's logits, by way of a piece in backend memory. */
static enum sq_status sample_logits(const struct sq_final *final, void *memory, int64_t first, int64_t start,
                                    struct sq_matrix all)
{
    const struct sq_backend_ops *ops = final->backend->ops;
    struct sq_matrix piece = sq_matrix_view(memory, SQ_F32, final->length, final->weight.rows);
    SQ_TRY(sq_final_piece_logits(final, 0, start, piece));
    for (int64_t row = 0; row < piece.rows; row++)
        SQ_TRY(ops->download(final->backend, sq_matrix_part(piece, row, 1, 0, piece.cols).data,
                             (size_t)piece.cols * sizeof(float),
                             sq_matrix_part(all, start + row, 1, first, piece.cols).data));
    return SQ_OK;
}

/* Sample by sample: how a library sums a row may depend on how many rows there are. */
static enum sq_status piece_of_logits(const struct sq_final *final, void *memory, int64_t first, struct sq_matrix all)
{
    for (int64_t start = 0; start < all.rows; start += final->length)
        SQ_TRY(sample_logits(final, memory, first, start, all));
    return SQ_OK;
}

enum sq_status sq_final_logits(struct sq_final *final, const struct sq_comm *comm, float *logits)
{
    struct sq_backend *backend = final->backend;
    int64_t vocab = sq_model_vocab_size(final->model);
    struct sq_matrix all = sq_matrix_view(logits, SQ_F32, final->states.rows, vocab);
    void *memory = NULL;
    enum sq_status status = sq_comm_agree(
        comm, backend->ops->alloc(backend, "logits", (size_t)(final->length * SQ_HEAD_ROWS) * sizeof(float), &memory));
    for (int64_t first = 0, rows; first < vocab && status == SQ_OK; first += rows) {
        rows = vocab - first < SQ_HEAD_ROWS ? vocab - first : SQ_HEAD_ROWS;
        status = sq_final_load_head(final, comm, first, rows);
        if (status == SQ_OK) status = sq_comm_agree(comm, piece_of_logits(final, memory, first, all));
    }
    backend->ops->free(backend, memory);
    return status;
}
