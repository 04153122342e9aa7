#include "model/model_private.h"

#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "io/fused.h"

/* --- names -------------------------------------------------------------------------------------------------------- */

enum sq_status sq_model_number_name(const char *name, int64_t index, char **name_p)
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
    const char *ending = parameter->is_whole_name ? "" : parameter->is_bias ? ".bias" : ".weight";
    const char *prefix = model->prefix;
    bool is_in_block = block >= 0 && block < model->dims.n_blocks;
    char *tensor;
    SQ_TRY(sq_model_number_name(step->out[parameter->member].tensor, index, &tensor));
    if (!is_in_block && step->kind == SQ_STEP_LINEAR) prefix = ""; /* lm_head stands beside the model */
    enum sq_status status = is_in_block
                                ? sq_string_format(name_p, "%s%s.%lld.%s%s", prefix, model->architecture->blocks,
                                                   (long long)block, tensor, ending)
                                : sq_string_format(name_p, "%s%s%s", prefix, tensor, ending);
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

#define MOST_BLOCKS 100000          /* where there are no tensors that say so */
#define MOST_PARTS (INT32_MAX / 64) /* of all blocks: an int counts their linears */

static enum sq_status check_block_count(const struct sq_model *model)
{
    int64_t n_blocks = model->dims.n_blocks, n_experts = model->dims.n_experts;
    bool is_bare = sq_checkpoint_is_bare(model->checkpoint);
    int64_t most = is_bare ? MOST_BLOCKS : sq_checkpoint_n_tensors(model->checkpoint);
    bool is_each_fine = n_blocks <= most && n_experts <= most;
    const char *folder = sq_checkpoint_folder(model->checkpoint), *also = n_experts ? " and there are experts" : "";
    if (is_each_fine && n_blocks * (n_experts + 1) <= MOST_PARTS) return SQ_OK;
    if (is_bare || is_each_fine)
        sq_error("%s/config.json: key 'num_hidden_layers' is %lld%s; there can be at most %lld blocks, as many experts "
                 "in each, and %d in all",
                 folder, (long long)n_blocks, also, (long long)most, MOST_PARTS);
    else
        sq_error("%s/config.json: key 'num_hidden_layers' is %lld%s, but there are only %lld tensors", folder,
                 (long long)n_blocks, also, (long long)most);
    return SQ_ERR_INPUT;
}

static enum sq_status read_sparse_blocks(struct sq_model *model)
{
    void *memory;
    SQ_TRY(sq_alloc("the kinds of blocks", model->dims.n_blocks, sizeof *model->sparse, &memory));
    model->sparse = memory;
    SQ_TRY(sq_sparse_blocks_read(&model->architecture->config, sq_checkpoint_config(model->checkpoint),
                                 sq_checkpoint_folder(model->checkpoint), &model->dims, model->sparse));
    for (int64_t block = 0; block < model->dims.n_blocks; block++)
        model->has_kind[model->sparse[block] ? SQ_BLOCK_SPARSE : SQ_BLOCK_DENSE] = true;
    return SQ_OK;
}

/* Whether some block of the folder has the tensor that stands for new names. */
static enum sq_status find_new_names(struct sq_model *model)
{
    const struct sq_architecture *architecture = model->architecture;
    bool *found = &model->dims.variant[SQ_VARIANT_NEW_NAMES];
    for (int64_t block = 0; architecture->new_name && block < model->dims.n_blocks && !*found; block++) {
        char *name;
        SQ_TRY(sq_string_format(&name, "%s%s.%lld.%s", model->prefix, architecture->blocks, (long long)block,
                                architecture->new_name));
        *found = sq_checkpoint_find(model->checkpoint, name) != NULL;
        sq_free(name);
    }
    return SQ_OK;
}

static void fill_sections(struct sq_model *model)
{
    const struct sq_architecture *architecture = model->architecture;
    struct sq_dimensions dims = model->dims;
    sq_section_fill(&dims, &architecture->stem, &model->stem);
    sq_section_fill(&dims, &architecture->head, &model->head);
    sq_section_fill(&dims, &architecture->block, &model->blocks[SQ_BLOCK_DENSE]);
    dims.variant[SQ_VARIANT_EXPERTS] = true;
    sq_section_fill(&dims, &architecture->block, &model->blocks[SQ_BLOCK_SPARSE]);
}

static enum sq_status open_parts(struct sq_model *model)
{
    SQ_TRY(read_config(model));
    SQ_TRY(sq_fused_check(model->checkpoint));
    SQ_TRY(find_prefix(model));
    SQ_TRY(check_block_count(model)); /* before memory is taken for blocks */
    SQ_TRY(read_sparse_blocks(model));
    SQ_TRY(find_new_names(model));
    fill_sections(model);
    SQ_TRY(sq_model_list_linears(model));
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
    sq_free(model->first_linear);
    sq_free(model->sparse);
    sq_free(model->windows);
    sq_free(model);
}

/* --- what others read --------------------------------------------------------------------------------------------- */

void sq_model_keep_linears(struct sq_model *model)
{
    model->keeps_linears = true;
}

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

int sq_model_n_groups(const struct sq_model *model, int64_t block)
{
    return sq_model_section(model, block)->n_groups;
}

int sq_model_group_linears(const struct sq_model *model, int block, int group, int *first_p)
{
    int first, count = sq_section_group(sq_model_section(model, block), group, &first);
    *first_p = model->first_linear[block] + first;
    return count;
}

int sq_model_step_groups(const struct sq_model *model, int64_t block, int group, int *first_p)
{
    const struct sq_stage *stage = sq_section_stage(sq_model_section(model, block), group);
    *first_p = stage->first_group;
    return stage->n_groups;
}

int sq_model_n_experts(const struct sq_model *model, int64_t block)
{
    return block < model->dims.n_blocks && model->sparse[block] ? (int)model->dims.n_experts : 0;
}

int sq_model_n_chosen(const struct sq_model *model)
{
    return (int)model->dims.n_chosen;
}

int64_t sq_model_n_shared(const struct sq_model *model, int64_t *width_p)
{
    *width_p = model->dims.shared_ffn;
    if (model->dims.n_shared > 0) return model->dims.n_shared;
    return model->dims.shared_ffn > 0 ? 1 : 0; /* families with one do not say so */
}

bool sq_model_is_expert_group(const struct sq_model *model, int64_t block, int group)
{
    const struct sq_section *section = sq_model_section(model, block);
    return sq_section_is_experts(section, sq_section_stage(section, group));
}

/* Scores and weighted sums of the positions each position sees, two operations per multiply-add. */
double sq_model_attention_flops(const struct sq_model *model, int64_t length)
{
    double pairs = 0;
    for (int64_t block = 0; block < model->dims.n_blocks; block++)
        pairs += sq_attention_pairs(length, model->windows[block]);
    return 2 * pairs * (double)(model->dims.n_heads * (model->dims.head_dim + model->dims.value_dim));
}
