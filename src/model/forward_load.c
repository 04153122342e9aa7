/* What comes from files: embedding, norms and biases, weights. Each is read once per job and sent to the ranks. */
#include <string.h>

#include "base/memory.h"
#include "model/experts.h"
#include "model/forward_private.h"
#include "model/weights.h"

#define EMBEDDING_PIECE ((int64_t)1 << 20) /* floats sent at a time: 4 MiB */

/* A tensor that only rank 0 reads. */
static enum sq_status read_rows(const struct sq_tensor *tensor, int64_t row, int64_t rows, float *values)
{
    enum sq_status status = sq_tensor_read_f32(tensor, row, rows, values);
    if (status == SQ_ERR_NUMERIC) (void)sq_tensor_report_not_finite(tensor);
    return status;
}

/* --- embedding ---------------------------------------------------------------------------------------------------- */

/* Rows [row, row + rows) of the table prefix + name, read by rank 0, on every rank. Collective. */
static enum sq_status read_table(const struct sq_model *model, const struct sq_comm *comm, const char *name,
                                 int64_t row, int64_t rows, float *values)
{
    enum sq_status status = SQ_OK;
    if (comm->rank == 0) {
        char *full = NULL;
        status = sq_model_tensor_name(model, name, &full);
        if (status == SQ_OK) status = read_rows(sq_checkpoint_find(model->checkpoint, full), row, rows, values);
        sq_free(full);
    }
    SQ_TRY(sq_comm_agree(comm, status));
    return sq_comm_broadcast(comm, 0, values, (size_t)(rows * model->dims.hidden) * sizeof *values);
}

/* Where the embedding comes from and goes to; ids, table and positions in backend memory. */
struct embedding {
    struct sq_forward *forward;
    const int32_t *ids;
    struct sq_matrix table;     /* the piece at hand */
    struct sq_matrix positions; /* [length, hidden], or no data */
    float *host;                /* as much as the larger of the two */
    int64_t first;              /* row of the table's first */
};

/* Rows of the table prefix + name, times scale, into backend memory. Collective. */
static enum sq_status load_table(const struct embedding *e, const struct sq_comm *comm, const char *name, int64_t row,
                                 float scale, struct sq_matrix table)
{
    struct sq_backend *backend = e->forward->backend;
    SQ_TRY(read_table(e->forward->model, comm, name, row, table.rows, e->host));
    for (int64_t i = 0; scale != 1.0f && i < table.rows * table.cols; i++)
        e->host[i] *= scale;
    size_t bytes = (size_t)(table.rows * table.cols) * sizeof(float);
    return sq_comm_agree(comm, backend->ops->upload(backend, e->host, bytes, table.data));
}

static struct sq_matrix residual_of(const struct embedding *e, int64_t sample)
{
    int64_t length = e->forward->options.length;
    struct sq_matrix residual = sq_forward_slot(e->forward, 0);
    return sq_matrix_part(residual, sample * length, length, 0, residual.cols);
}

/* The tokens of a sample whose embedding is in the table at hand. */
static enum sq_status embed_sample(void *context, int64_t index, int worker)
{
    (void)worker;
    const struct embedding *e = context;
    struct sq_backend *backend = e->forward->backend;
    return backend->ops->take_rows(backend, e->table, e->first, e->ids + index * e->forward->options.length,
                                   residual_of(e, index));
}

static enum sq_status place_sample(void *context, int64_t index, int worker)
{
    (void)worker;
    const struct embedding *e = context;
    return e->forward->backend->ops->add(e->forward->backend, e->positions, residual_of(e, index));
}

static enum sq_status embed(struct embedding *e, const struct sq_comm *comm)
{
    struct sq_forward *forward = e->forward;
    const struct sq_model *model = forward->model;
    const struct sq_backend_ops *ops = forward->backend->ops;
    int64_t n_samples = forward->options.n_samples, most = e->table.rows;
    for (e->first = 0; e->first < model->dims.vocab; e->first += e->table.rows) {
        e->table.rows = model->dims.vocab - e->first < most ? model->dims.vocab - e->first : most;
        SQ_TRY(load_table(e, comm, model->architecture->embedding, e->first, (float)model->dims.embedding_scale,
                          e->table));
        SQ_TRY(sq_comm_agree(comm, ops->parallel(forward->backend, n_samples, embed_sample, e)));
    }
    if (e->positions.data) {
        SQ_TRY(load_table(e, comm, model->architecture->positions, model->architecture->position_offset, 1.0f,
                          e->positions));
        SQ_TRY(sq_comm_agree(comm, ops->parallel(forward->backend, n_samples, place_sample, e)));
    }
    sq_forward_forget(forward, 0, n_samples * forward->options.length);
    return SQ_OK;
}

static enum sq_status run_stem(struct sq_forward *forward, const struct sq_comm *comm)
{
    if (forward->model->stem.n_steps == 0) return SQ_OK;
    SQ_TRY(sq_forward_load_block(forward, comm, SQ_BLOCK_STEM));
    return sq_forward_agree(forward, comm, sq_forward_finish_block(forward));
}

static int64_t table_rows(const struct sq_model *model)
{
    int64_t rows = EMBEDDING_PIECE / model->dims.hidden;
    return rows < 1 ? 1 : rows < model->dims.vocab ? rows : model->dims.vocab;
}

size_t sq_forward_table_bytes(const struct sq_model *model, int64_t length)
{
    int64_t rows = table_rows(model) + (model->architecture->positions ? length : 0);
    return (size_t)(rows * model->dims.hidden) * sizeof(float);
}

enum sq_status sq_forward_embed(struct sq_forward *forward, const struct sq_comm *comm, const int32_t *ids)
{
    struct sq_backend *backend = forward->backend;
    const struct sq_backend_ops *ops = backend->ops;
    const struct sq_model *model = forward->model;
    int64_t hidden = model->dims.hidden, length = forward->options.length;
    int64_t most_rows = table_rows(model);
    int64_t position_rows = model->architecture->positions ? length : 0;
    size_t id_bytes = (size_t)(forward->options.n_samples * length) * sizeof *ids;
    size_t table_bytes = sq_forward_table_bytes(model, length);
    struct embedding e = {.forward = forward};
    void *host = NULL, *memory = NULL;
    enum sq_status status = ops->alloc_host(backend, "rows of the embedding", table_bytes, &host);
    if (status == SQ_OK) status = ops->alloc(backend, "rows of the embedding", table_bytes + id_bytes, &memory);
    if (status == SQ_OK) {
        float *table = memory;
        e.table = sq_matrix_view(table, SQ_F32, most_rows, hidden);
        e.positions = sq_matrix_view(position_rows ? table + most_rows * hidden : NULL, SQ_F32, position_rows, hidden);
        e.host = host;
        status = sq_backend_view(backend, ids, id_bytes, (char *)memory + table_bytes, (const void **)&e.ids);
    }
    status = sq_comm_agree(comm, status);
    if (status == SQ_OK) status = embed(&e, comm);
    ops->free(backend, memory);
    ops->free_host(backend, host);
    return status == SQ_OK ? run_stem(forward, comm) : status;
}

/* --- norms and biases --------------------------------------------------------------------------------------------- */

static enum sq_status read_parameter(struct sq_forward *forward, const struct sq_parameter *parameter)
{
    float *values = forward->host_parameters + parameter->offset;
    int64_t length = parameter->length / parameter->n_tensors;
    for (int64_t i = 0; i < parameter->n_tensors; i++) {
        char *name;
        SQ_TRY(sq_model_parameter_name(forward->model, forward->block, parameter, i, &name));
        const struct sq_tensor *tensor = sq_checkpoint_find(forward->model->checkpoint, name);
        sq_free(name);
        SQ_TRY(read_rows(tensor, 0, parameter->shape[0], values + i * length));
    }
    enum sq_step_kind kind = forward->section->steps[parameter->step].kind;
    bool is_factor = !parameter->is_bias && (kind == SQ_STEP_NORM || kind == SQ_STEP_HEAD_NORM);
    for (int64_t i = 0; is_factor && forward->model->architecture->norm_adds_one && i < parameter->length; i++)
        values[i] += 1.0f;
    return SQ_OK;
}

static enum sq_status read_parameters(struct sq_forward *forward)
{
    for (int i = 0; i < forward->section->n_parameters; i++)
        SQ_TRY(read_parameter(forward, &forward->section->parameters[i]));
    return SQ_OK;
}

enum sq_status sq_forward_load_block(struct sq_forward *forward, const struct sq_comm *comm, int64_t block)
{
    forward->block = block;
    forward->section = sq_model_section(forward->model, block);
    forward->group = -1;
    forward->next_step = 0;
    SQ_TRY(sq_comm_agree(comm, comm->rank == 0 ? read_parameters(forward) : SQ_OK));
    size_t bytes = (size_t)forward->section->parameters_length * sizeof(float);
    SQ_TRY(sq_comm_broadcast(comm, 0, forward->host_parameters, bytes));
    return sq_comm_agree(
        comm, forward->backend->ops->upload(forward->backend, forward->host_parameters, bytes, forward->parameters));
}

/* --- weights ------------------------------------------------------------------------------------------------------ */

enum sq_status sq_forward_load_linear(struct sq_forward *forward, const struct sq_comm *comm, int member)
{
    if (forward->section == &forward->model->head) return SQ_OK;
    int first;
    sq_model_group_linears(forward->model, (int)forward->block, forward->group, &first);
    return sq_weights_load(forward->backend, comm, forward->model, sq_model_linear(forward->model, first + member), 0,
                           forward->pieces, sq_forward_linear_weight(forward, member));
}

/* A LINEAR or EXPERTS step with the checkpoint's own weights. */
static enum sq_status run_stage(struct sq_forward *forward, const struct sq_comm *comm, const struct sq_stage *stage)
{
    SQ_TRY(sq_forward_agree(forward, comm, sq_forward_to_group(forward, stage->first_group)));
    if (sq_section_is_experts(forward->section, stage)) return sq_experts_run(forward, comm);
    return sq_forward_load_group(forward, comm);
}

static enum sq_status run_blocks(struct sq_forward *forward, const struct sq_comm *comm, int64_t block)
{
    for (; block < forward->model->dims.n_blocks; block++) {
        SQ_TRY(sq_forward_load_block(forward, comm, block));
        for (int i = 0; i < forward->section->n_stages; i++)
            SQ_TRY(run_stage(forward, comm, &forward->section->stages[i]));
        SQ_TRY(sq_forward_agree(forward, comm, sq_forward_finish_block(forward)));
    }
    return SQ_OK;
}

enum sq_status sq_forward_run_blocks(struct sq_forward *forward, const struct sq_comm *comm, int64_t block)
{
    if (forward->options.groups_ahead == 0) return run_blocks(forward, comm, block);
    forward->backend->beside = (struct sq_beside){sq_forward_ahead_step, forward};
    enum sq_status status = run_blocks(forward, comm, block);
    forward->backend->beside = (struct sq_beside){NULL, NULL};
    return status;
}
