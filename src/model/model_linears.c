/* The list of a model's linear layers, in the order of computation. */
#include "base/memory.h"
#include "model/model_private.h"

/* The next of the model's linears; tensor: its name in the block. */
static enum sq_status add_linear(struct sq_model *model, int64_t block, const char *tensor, struct sq_linear linear)
{
    struct sq_linear *added = &model->linears[model->n_linears];
    linear.block = (int)block;
    linear.is_transposed = model->architecture->is_transposed;
    *added = linear;
    SQ_TRY(sq_string_format(&added->name, "%s%s.%lld.%s", model->prefix, model->architecture->blocks, (long long)block,
                            tensor));
    model->n_linears++;
    return SQ_OK;
}

static enum sq_status list_group(struct sq_model *model, int64_t block, const struct sq_step *step, int group)
{
    for (int member = 0; member < step->n_out; member++)
        SQ_TRY(add_linear(model, block, step->out[member].tensor,
                          (struct sq_linear){.out_features = sq_slot_width(&model->dims, step->out[member].slot),
                                             .in_features = sq_slot_width(&model->dims, step->in[0]),
                                             .has_bias = model->dims.bias[step->out[member].bias],
                                             .group = group,
                                             .member = member,
                                             .expert = -1}));
    return SQ_OK;
}

static enum sq_status list_experts(struct sq_model *model, int64_t block, const struct sq_step *step, int first_group)
{
    int64_t in = sq_slot_width(&model->dims, step->in[0]), out = sq_slot_width(&model->dims, step->out[0].slot);
    for (int expert = 0; expert < model->dims.n_experts; expert++)
        for (int part = 0; part < 3; part++) { /* gate, up, down */
            struct sq_linear linear = {.out_features = part < 2 ? model->dims.expert_ffn : out,
                                       .in_features = part < 2 ? in : model->dims.expert_ffn,
                                       .has_bias = model->dims.bias[step->out[part].bias],
                                       .group = first_group + 2 * expert + part / 2,
                                       .member = part % 2,
                                       .expert = expert};
            char *tensor;
            SQ_TRY(sq_model_number_name(step->out[part].tensor, expert, &tensor));
            enum sq_status status = add_linear(model, block, tensor, linear);
            sq_free(tensor);
            if (status != SQ_OK) return status;
        }
    return SQ_OK;
}

static enum sq_status list_block(struct sq_model *model, int64_t block)
{
    const struct sq_section *section = sq_model_section(model, block);
    for (int i = 0; i < section->n_stages; i++) {
        const struct sq_stage *stage = &section->stages[i];
        const struct sq_step *step = &section->steps[stage->step];
        SQ_TRY(sq_section_is_experts(section, stage) ? list_experts(model, block, step, stage->first_group)
                                                     : list_group(model, block, step, stage->first_group));
    }
    return SQ_OK;
}

/* Where every block's linears begin. */
static enum sq_status place_linears(struct sq_model *model)
{
    int64_t n_blocks = model->dims.n_blocks;
    void *memory;
    SQ_TRY(sq_alloc("the linears of blocks", n_blocks + 1, sizeof *model->first_linear, &memory));
    model->first_linear = memory;
    for (int64_t block = 0; block < n_blocks; block++)
        model->first_linear[block + 1] = model->first_linear[block] + sq_model_section(model, block)->n_linears;
    SQ_TRY(sq_alloc("the list of linears", model->first_linear[n_blocks] + 1, sizeof *model->linears, &memory));
    model->linears = memory;
    return SQ_OK;
}

enum sq_status sq_model_list_linears(struct sq_model *model)
{
    int64_t n_blocks = model->dims.n_blocks;
    SQ_TRY(place_linears(model));
    for (int64_t block = 0; block < n_blocks; block++)
        SQ_TRY(list_block(model, block));
    struct sq_linear *last = &model->linears[model->n_linears];
    const struct sq_step_out *logits = &model->head.steps[model->head.stages[0].step].out[0];
    SQ_TRY(sq_string_copy(logits->tensor, &last->name));
    last->has_bias = model->dims.bias[logits->bias];
    last->out_features = model->dims.vocab;
    last->in_features = model->dims.hidden;
    last->block = (int)n_blocks;
    last->expert = -1;
    model->n_linears++;
    for (int i = 0; i < model->n_linears; i++)
        if (model->linears[i].in_features > model->widest_input) model->widest_input = model->linears[i].in_features;
    return SQ_OK;
}
