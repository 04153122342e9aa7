/* What comes from files: embedding, norms and biases, weights. Each is read once per job and sent to the ranks. */
#include <string.h>

#include "base/memory.h"
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

/* Writes the residual stream of those tokens whose embedding is among rows [row, row + rows). positions may be NULL. */
static enum sq_status take_rows(struct sq_forward *forward, const int32_t *ids, int64_t row, int64_t rows, float *table,
                                const float *positions, float *sum)
{
    struct sq_backend *backend = forward->backend;
    int64_t hidden = forward->model->dims.hidden, length = forward->options.length;
    struct sq_matrix residual = sq_forward_slot(forward, 0);
    for (int64_t token = 0; token < residual.rows; token++) {
        if (ids[token] < row || ids[token] >= row + rows) continue;
        const float *value = table + (ids[token] - row) * hidden;
        for (int64_t i = 0; positions && i < hidden; i++)
            sum[i] = value[i] + positions[token % length * hidden + i];
        SQ_TRY(backend->ops->upload(backend, positions ? sum : value, (size_t)hidden * sizeof *value,
                                    (float *)residual.data + token * residual.stride));
    }
    return SQ_OK;
}

static enum sq_status embed(struct sq_forward *forward, const struct sq_comm *comm, const int32_t *ids, float *table,
                            int64_t table_rows, float *positions, float *sum)
{
    const struct sq_model *model = forward->model;
    const struct sq_architecture *architecture = model->architecture;
    if (positions)
        SQ_TRY(read_table(model, comm, architecture->positions, architecture->position_offset, forward->options.length,
                          positions));
    for (int64_t row = 0, rows; row < model->dims.vocab; row += rows) {
        rows = model->dims.vocab - row < table_rows ? model->dims.vocab - row : table_rows;
        SQ_TRY(read_table(model, comm, architecture->embedding, row, rows, table));
        SQ_TRY(sq_comm_agree(comm, take_rows(forward, ids, row, rows, table, positions, sum)));
    }
    sq_forward_forget(forward, 0, forward->options.n_samples * forward->options.length);
    return SQ_OK;
}

enum sq_status sq_forward_embed(struct sq_forward *forward, const struct sq_comm *comm, const int32_t *ids)
{
    int64_t hidden = forward->model->dims.hidden;
    int64_t table_rows = EMBEDDING_PIECE / hidden > 0 ? EMBEDDING_PIECE / hidden : 1;
    int64_t position_rows = forward->model->architecture->positions ? forward->options.length : 0;
    void *memory = NULL;
    enum sq_status status =
        sq_alloc("rows of the embedding", (table_rows + position_rows + 1) * hidden, sizeof(float), &memory);
    status = sq_comm_agree(comm, status);
    if (status == SQ_OK) {
        float *sum = memory, *table = sum + hidden;
        status = embed(forward, comm, ids, table, table_rows, position_rows ? table + table_rows * hidden : NULL, sum);
    }
    sq_free(memory);
    return status;
}

/* --- norms and biases --------------------------------------------------------------------------------------------- */

static enum sq_status read_parameters(struct sq_forward *forward)
{
    for (int i = 0; i < forward->section->n_parameters; i++) {
        const struct sq_parameter *parameter = &forward->section->parameters[i];
        char *name;
        SQ_TRY(sq_model_parameter_name(forward->model, forward->block, parameter, &name));
        const struct sq_tensor *tensor = sq_checkpoint_find(forward->model->checkpoint, name);
        sq_free(name);
        SQ_TRY(read_rows(tensor, 0, parameter->length, forward->host_parameters + parameter->offset));
    }
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

enum sq_status sq_forward_run_blocks(struct sq_forward *forward, const struct sq_comm *comm, int64_t block)
{
    for (; block < forward->model->dims.n_blocks; block++) {
        SQ_TRY(sq_forward_load_block(forward, comm, block));
        for (int group = 0; group < forward->section->n_groups; group++) {
            SQ_TRY(sq_forward_agree(forward, comm, sq_forward_to_group(forward, group)));
            int first, count = sq_model_group_linears(forward->model, (int)block, group, &first);
            for (int member = 0; member < count; member++)
                SQ_TRY(sq_forward_load_linear(forward, comm, member));
        }
        SQ_TRY(sq_forward_agree(forward, comm, sq_forward_finish_block(forward)));
    }
    return SQ_OK;
}
