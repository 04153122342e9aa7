#include "model/model_private.h"

#include <string.h>

#include "base/log.h"
#include "base/memory.h"

/* --- sections ----------------------------------------------------------------------------------------------------- */

/* Fills in where the parameter lies, and adds it. */
static void add_parameter(struct sq_section *section, struct sq_parameter parameter)
{
    parameter.length = parameter.n_tensors * parameter.shape[0] * (parameter.n_dims > 1 ? parameter.shape[1] : 1);
    parameter.offset = section->parameters_length;
    section->parameters[section->n_parameters++] = parameter;
    section->parameters_length += (parameter.length + 15) / 16 * 16; /* each starts a cache line */
}

static void add_linear_step(const struct sq_dimensions *dims, int step, struct sq_section *section)
{
    const struct sq_step *s = &section->steps[step];
    section->group_steps[section->n_groups] = step;
    section->group_first[section->n_groups++] = section->n_linears;
    section->n_linears += s->n_out;
    for (int member = 0; member < s->n_out; member++) {
        if (!dims->bias[s->out[member].bias]) continue;
        int64_t width = sq_slot_width(dims, s->out[member].slot);
        add_parameter(section, (struct sq_parameter){step, member, true, 1, 1, {width}, 0, 0});
    }
}

static void add_norm_step(const struct sq_dimensions *dims, int step, struct sq_section *section)
{
    const struct sq_step *s = &section->steps[step];
    int64_t width = sq_slot_width(dims, s->in[0]), n_heads = width / dims->head_dim;
    struct sq_parameter weight = {step, 0, false, 1, 1, {width}, 0, 0};
    if (s->kind == SQ_STEP_HEAD_NORM) {
        weight.shape[0] = s->heads == SQ_HEADS_ROWS ? n_heads : dims->head_dim;
        weight.shape[1] = dims->head_dim;
        weight.n_dims = s->heads == SQ_HEADS_ROWS ? 2 : 1;
        weight.n_tensors = s->heads == SQ_HEADS_TENSORS ? n_heads : 1;
    }
    add_parameter(section, weight);
    if (!dims->bias[s->out[0].bias]) return;
    weight.is_bias = true;
    add_parameter(section, weight);
}

static bool has_step(const struct sq_dimensions *dims, const struct sq_step *step)
{
    if (step->when != SQ_VARIANT_NONE && !dims->variant[step->when]) return false;
    return step->unless == SQ_VARIANT_NONE || !dims->variant[step->unless];
}

void sq_section_fill(const struct sq_dimensions *dims, const struct sq_program *program, struct sq_section *section)
{
    *section = (struct sq_section){.n_steps = 0};
    for (int i = 0; i < program->n_steps; i++) {
        const struct sq_step *step = &program->steps[i];
        if (!has_step(dims, step)) continue;
        section->steps[section->n_steps] = *step;
        if (step->kind == SQ_STEP_LINEAR) add_linear_step(dims, section->n_steps, section);
        if (step->kind == SQ_STEP_NORM || step->kind == SQ_STEP_HEAD_NORM)
            add_norm_step(dims, section->n_steps, section);
        section->n_steps++;
    }
}

const struct sq_parameter *sq_section_parameter(const struct sq_section *section, int step, int member, bool is_bias)
{
    for (int i = 0; i < section->n_parameters; i++) {
        const struct sq_parameter *p = &section->parameters[i];
        if (p->step == step && p->member == member && p->is_bias == is_bias) return p;
    }
    return NULL;
}

/* --- names -------------------------------------------------------------------------------------------------------- */

/* "norms.#" -> "norms.3" */
static enum sq_status number_name(const char *name, int64_t index, char **name_p)
{
    const char *mark = strchr(name, '#');
    if (!mark) return sq_string_copy(name, name_p);
    return sq_string_format(name_p, "%.*s%lld%s", (int)(mark - name), name, (long long)index, mark + 1);
}

enum sq_status sq_model_parameter_name(const struct sq_model *model, int64_t block,
                                       const struct sq_parameter *parameter, int64_t index, char **name_p)
{
    const struct sq_section *section = sq_model_section(model, block);
    const struct sq_step *step = &section->steps[parameter->step];
    const char *ending = parameter->is_bias ? "bias" : "weight", *prefix = model->prefix;
    char *tensor;
    SQ_TRY(number_name(step->out[parameter->member].tensor, index, &tensor));
    if (section != &model->block && step->kind == SQ_STEP_LINEAR) prefix = ""; /* lm_head stands beside the model */
    enum sq_status status = section == &model->block
                                ? sq_string_format(name_p, "%s%s.%lld.%s.%s", prefix, model->architecture->blocks,
                                                   (long long)block, tensor, ending)
                                : sq_string_format(name_p, "%s%s.%s", prefix, tensor, ending);
    sq_free(tensor);
    return status;
}

enum sq_status sq_model_tensor_name(const struct sq_model *model, const char *name, char **name_p)
{
    return sq_string_format(name_p, "%s%s.weight", model->prefix, name);
}

/* The prefix under which this folder has its embedding; the first one where it has none (and that is said later). */
static enum sq_status find_prefix(struct sq_model *model)
{
    const char *const *prefixes = model->architecture->prefixes;
    for (int i = 0; i < SQ_MAX_PREFIXES && prefixes[i]; i++) {
        char *name;
        model->prefix = prefixes[i];
        SQ_TRY(sq_model_tensor_name(model, model->architecture->embedding, &name));
        bool is_there = sq_checkpoint_find(model->checkpoint, name) != NULL;
        sq_free(name);
        if (is_there) return SQ_OK;
    }
    model->prefix = prefixes[0];
    return SQ_OK;
}

/* --- linears ------------------------------------------------------------------------------------------------------ */

static enum sq_status list_block(struct sq_model *model, int64_t block)
{
    for (int group = 0; group < model->block.n_groups; group++) {
        const struct sq_step *step = &model->block.steps[model->block.group_steps[group]];
        for (int member = 0; member < step->n_out; member++) {
            struct sq_linear *linear = &model->linears[model->n_linears];
            SQ_TRY(sq_string_format(&linear->name, "%s%s.%lld.%s", model->prefix, model->architecture->blocks,
                                    (long long)block, step->out[member].tensor));
            linear->out_features = sq_slot_width(&model->dims, step->out[member].slot);
            linear->in_features = sq_slot_width(&model->dims, step->in[0]);
            linear->is_transposed = model->architecture->is_transposed;
            linear->has_bias = model->dims.bias[step->out[member].bias];
            linear->block = (int)block;
            linear->group = group;
            linear->member = member;
            model->n_linears++;
        }
    }
    return SQ_OK;
}

static enum sq_status list_linears(struct sq_model *model)
{
    int64_t n_blocks = model->dims.n_blocks, n_tensors = sq_checkpoint_n_tensors(model->checkpoint);
    if (n_blocks > n_tensors || n_blocks > INT32_MAX / 64) { /* before memory is taken for them */
        sq_error("%s/config.json: key 'num_hidden_layers' is %lld, but there are only %lld tensors",
                 sq_checkpoint_folder(model->checkpoint), (long long)n_blocks, (long long)n_tensors);
        return SQ_ERR_INPUT;
    }
    void *memory;
    SQ_TRY(sq_alloc("the list of linears", n_blocks * model->block.n_linears + 1, sizeof *model->linears, &memory));
    model->linears = memory;
    for (int64_t block = 0; block < n_blocks; block++)
        SQ_TRY(list_block(model, block));
    struct sq_linear *last = &model->linears[model->n_linears];
    const struct sq_step_out *logits = &model->head.steps[model->head.group_steps[0]].out[0];
    SQ_TRY(sq_string_copy(logits->tensor, &last->name));
    last->has_bias = model->dims.bias[logits->bias];
    last->out_features = model->dims.vocab;
    last->in_features = model->dims.hidden;
    last->block = (int)n_blocks;
    model->n_linears++;
    return SQ_OK;
}

/* --- opening ------------------------------------------------------------------------------------------------------ */

static enum sq_status read_config(struct sq_model *model)
{
    const json_t *config = sq_checkpoint_config(model->checkpoint);
    const char *folder = sq_checkpoint_folder(model->checkpoint);
    SQ_TRY(sq_architecture_find(config, folder, &model->architecture));
    SQ_TRY(sq_dimensions_read(&model->architecture->config, config, folder, &model->dims));
    const struct sq_rope_form *form = &model->architecture->rope;
    if (form->use == SQ_ROPE_EVERYWHERE || form->use == SQ_ROPE_BY_WINDOW)
        SQ_TRY(sq_rope_read(form, false, config, folder, &model->dims, &model->ropes[0]));
    if (form->use == SQ_ROPE_IN_WINDOWS || form->use == SQ_ROPE_BY_WINDOW)
        SQ_TRY(sq_rope_read(form, true, config, folder, &model->dims, &model->ropes[1]));
    if (form->use == SQ_ROPE_EVERYWHERE && model->ropes[0].kind == SQ_ROPE_DYNAMIC)
        model->dims.max_length = 0; /* longer samples have a base of their own */
    if (form->scales_scores) model->dims.attention_scale *= model->ropes[0].score_scale;
    return SQ_OK;
}

int sq_model_rope(const struct sq_model *model, int64_t block)
{
    bool windowed = model->windows[block] > 0;
    switch (model->architecture->rope.use) {
    case SQ_ROPE_EVERYWHERE:
        return 0;
    case SQ_ROPE_BY_WINDOW:
        return windowed ? 1 : 0;
    case SQ_ROPE_IN_WINDOWS:
        return windowed ? 1 : -1;
    case SQ_ROPE_NEVER:
        break;
    }
    return -1;
}

static enum sq_status read_windows(struct sq_model *model)
{
    void *memory;
    SQ_TRY(sq_alloc("attention windows", model->dims.n_blocks, sizeof *model->windows, &memory));
    model->windows = memory;
    return sq_windows_read(&model->architecture->config, sq_checkpoint_config(model->checkpoint),
                           sq_checkpoint_folder(model->checkpoint), &model->dims, model->windows);
}

static enum sq_status open_parts(struct sq_model *model)
{
    SQ_TRY(read_config(model));
    SQ_TRY(find_prefix(model));
    sq_section_fill(&model->dims, &model->architecture->stem, &model->stem);
    sq_section_fill(&model->dims, &model->architecture->block, &model->block);
    sq_section_fill(&model->dims, &model->architecture->head, &model->head);
    SQ_TRY(list_linears(model));
    SQ_TRY(read_windows(model));
    return sq_model_check_tensors(model);
}

enum sq_status sq_model_open(const struct sq_checkpoint *checkpoint, struct sq_model **model_p)
{
    void *memory;
    SQ_TRY(sq_alloc("a model", 1, sizeof(struct sq_model), &memory));
    struct sq_model *model = memory;
    model->checkpoint = checkpoint;
    enum sq_status status = open_parts(model);
    if (status != SQ_OK) {
        sq_model_close(model);
        return status;
    }
    *model_p = model;
    return SQ_OK;
}

void sq_model_close(struct sq_model *model)
{
    if (!model) return;
    for (int i = 0; model->linears && i < model->n_linears; i++)
        sq_free(model->linears[i].name);
    sq_free(model->linears);
    sq_free(model->windows);
    sq_free(model);
}

/* --- what others read --------------------------------------------------------------------------------------------- */

const struct sq_checkpoint *sq_model_checkpoint(const struct sq_model *model)
{
    return model->checkpoint;
}

int64_t sq_model_n_blocks(const struct sq_model *model)
{
    return model->dims.n_blocks;
}

int64_t sq_model_hidden_size(const struct sq_model *model)
{
    return model->dims.hidden;
}

int64_t sq_model_vocab_size(const struct sq_model *model)
{
    return model->dims.vocab;
}

int64_t sq_model_max_length(const struct sq_model *model)
{
    return model->dims.max_length;
}

bool sq_model_is_tied(const struct sq_model *model)
{
    return model->dims.tied;
}

int64_t sq_model_n_parameters(const struct sq_model *model)
{
    return model->n_parameters;
}

const char *sq_model_architecture(const struct sq_model *model)
{
    return model->architecture->name;
}

int sq_model_n_linears(const struct sq_model *model)
{
    return model->n_linears;
}

const struct sq_linear *sq_model_linear(const struct sq_model *model, int index)
{
    return &model->linears[index];
}

int sq_model_n_groups(const struct sq_model *model)
{
    return model->block.n_groups;
}

int sq_model_group_linears(const struct sq_model *model, int block, int group, int *first_p)
{
    const struct sq_section *section = sq_model_section(model, block);
    int end = group + 1 < section->n_groups ? section->group_first[group + 1] : section->n_linears;
    *first_p = block * model->block.n_linears + section->group_first[group];
    return end - section->group_first[group];
}

/* Scores and weighted sums of the positions each position sees, two operations per multiply-add. */
double sq_model_attention_flops(const struct sq_model *model, int64_t length)
{
    double pairs = 0;
    for (int64_t block = 0; block < model->dims.n_blocks; block++)
        for (int64_t t = 1; t <= length; t++)
            pairs += (double)(model->windows[block] && model->windows[block] < t ? model->windows[block] : t);
    return 2 * pairs * (double)(model->dims.n_heads * (model->dims.head_dim + model->dims.value_dim));
}
