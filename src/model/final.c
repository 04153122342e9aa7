#include "model/final.h"

#include <string.h>

#include "base/memory.h"
#include "model/model_private.h"
#include "model/weights.h"

static enum sq_status take_memory(struct sq_final *final, const struct sq_forward_options *options)
{
    struct sq_backend *backend = final->backend;
    int64_t hidden = sq_model_hidden_size(final->model), rows = options->n_samples * options->length;
    size_t row_bytes = (size_t)hidden * sq_dtype_size(options->compute);
    SQ_TRY(backend->ops->alloc(backend, "final states", (size_t)rows * row_bytes, &final->states.data));
    final->states = sq_matrix_view(final->states.data, options->compute, rows, hidden);
    final->length = options->length;
    SQ_TRY(backend->ops->alloc(backend, "a piece of lm_head", SQ_HEAD_ROWS * row_bytes, &final->weight.data));
    final->weight = sq_matrix_view(final->weight.data, options->compute, 0, hidden);
    return backend->ops->alloc_host(backend, "rows read from a file",
                                    (size_t)backend->n_workers * sq_weights_piece_bytes(final->model), &final->pieces);
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
    struct sq_backend *backend = final->backend;
    float *bias = (float *)(uintptr_t)sq_forward_head_bias(forward); /* a matrix may be written to; this one is not */
    int64_t vocab = sq_model_vocab_size(final->model);
    if (!bias) return SQ_OK;
    SQ_TRY(backend->ops->alloc(backend, "the bias of lm_head", (size_t)vocab * sizeof(float), (void **)&final->bias));
    return backend->ops->convert(backend, sq_matrix_view(bias, SQ_F32, 1, vocab),
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
    final->backend->ops->free(final->backend, final->states.data);
    final->backend->ops->free(final->backend, final->weight.data);
    final->backend->ops->free(final->backend, final->bias);
    final->backend->ops->free_host(final->backend, final->pieces);
    memset(final, 0, sizeof *final);
}

enum sq_status sq_final_load_head(struct sq_final *final, const struct sq_comm *comm, int64_t first, int64_t rows)
{
    const struct sq_linear *head = sq_model_linear(final->model, sq_model_n_linears(final->model) - 1);
    final->weight.rows = rows;
    final->first = first;
    return sq_weights_load(final->backend, comm, final->model, head, first, final->pieces, final->weight);
}

enum sq_status sq_final_piece_logits(const struct sq_final *final, int64_t row, struct sq_matrix logits)
{
    struct sq_backend *backend = final->backend;
    const struct sq_dimensions *dims = &final->model->dims;
    SQ_TRY(backend->ops->linear(backend, sq_matrix_part(final->states, row, logits.rows, 0, final->states.cols),
                                final->weight, final->bias ? final->bias + final->first : NULL, logits));
    if (dims->logit_scale == 1 && dims->logit_cap == 0) return SQ_OK;
    return backend->ops->rescale(backend, (float)dims->logit_scale, (float)dims->logit_cap, logits);
}

/* Columns [first, first + rows of the weight) of one sample's logits, by way of a piece in backend memory. */
static enum sq_status sample_logits(const struct sq_final *final, void *memory, int64_t first, int64_t start,
                                    struct sq_matrix all)
{
    const struct sq_backend_ops *ops = final->backend->ops;
    struct sq_matrix piece = sq_matrix_view(memory, SQ_F32, final->length, final->weight.rows);
    SQ_TRY(sq_final_piece_logits(final, start, piece));
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
