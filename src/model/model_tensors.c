/* Checks, when a model is opened, that every tensor the forward pass needs is there with the right shape. */
#include "base/memory.h"
#include "model/model_private.h"

/* prefix + name + ".weight" must be [rows, cols]. */
static enum sq_status check_table(struct sq_model *model, const char *name, int64_t rows, int64_t cols)
{
    const int64_t shape[] = {rows, cols};
    const struct sq_tensor *tensor;
    char *full;
    SQ_TRY(sq_model_tensor_name(model, name, &full));
    enum sq_status status = sq_checkpoint_require(model->checkpoint, full, 2, shape, &tensor);
    sq_free(full);
    model->n_parameters += rows * cols;
    return status;
}

static enum sq_status check_parameter(struct sq_model *model, int64_t block, const struct sq_parameter *parameter)
{
    for (int64_t i = 0; i < parameter->n_tensors; i++) {
        const struct sq_tensor *tensor;
        char *name;
        SQ_TRY(sq_model_parameter_name(model, block, parameter, i, &name));
        enum sq_status status =
            sq_checkpoint_require(model->checkpoint, name, parameter->n_dims, parameter->shape, &tensor);
        sq_free(name);
        if (status != SQ_OK) return status;
    }
    model->n_parameters += parameter->length;
    return SQ_OK;
}

static enum sq_status check_parameters(struct sq_model *model, int64_t block)
{
    const struct sq_section *section = sq_model_section(model, block);
    for (int i = 0; i < section->n_parameters; i++)
        SQ_TRY(check_parameter(model, block, &section->parameters[i]));
    return SQ_OK;
}

static enum sq_status check_linear(struct sq_model *model, const struct sq_linear *linear)
{
    struct sq_checkpoint_linear in_folder = sq_linear_in_folder(linear);
    SQ_TRY(sq_checkpoint_check_linear(model->checkpoint, &in_folder));
    model->n_parameters += linear->out_features * linear->in_features;
    return SQ_OK;
}

enum sq_status sq_model_check_tensors(struct sq_model *model)
{
    const struct sq_architecture *architecture = model->architecture;
    const struct sq_dimensions *dims = &model->dims;
    SQ_TRY(check_table(model, architecture->embedding, dims->vocab, dims->hidden));
    if (architecture->positions)
        SQ_TRY(check_table(model, architecture->positions, dims->max_length + architecture->position_offset,
                           dims->hidden));
    for (int64_t block = SQ_BLOCK_STEM; block <= dims->n_blocks; block++)
        SQ_TRY(check_parameters(model, block));
    for (int i = 0; i < model->n_linears - (dims->tied ? 1 : 0); i++)
        SQ_TRY(check_linear(model, &model->linears[i]));
    return SQ_OK;
}
