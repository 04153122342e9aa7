/* What sq_model_open makes of a folder; only src/model includes it. */
#ifndef SQ_MODEL_MODEL_PRIVATE_H
#define SQ_MODEL_MODEL_PRIVATE_H

#include "model/architecture.h"
#include "model/model.h"

#define SQ_MAX_STEPS 32
#define SQ_MAX_STAGES 12     /* LINEAR and EXPERTS steps of a block */
#define SQ_MAX_PARAMETERS 32 /* small tensors of a block */

/* A small tensor of a block: weight or bias of a norm or router, bias of a linear, sinks; kept in full precision. */
struct sq_parameter {
    int step, member; /* of the section */
    bool is_bias;
    bool is_whole_name; /* its name has no ending */
    int64_t n_tensors;  /* it consists of so many */
    int n_dims;         /* of each */
    int64_t shape[2];
    int64_t length, offset; /* place in the block's parameters, in floats */
};

/* A LINEAR step, which is one group of linears, or an EXPERTS step, which is two for each expert: gate and up, then
 * down. Numbers count within the block. */
struct sq_stage {
    int step;
    int first_group, n_groups;
    int first_linear, n_linears;
};

/* The steps of a program that this model has, and what they need. */
struct sq_section {
    struct sq_step steps[SQ_MAX_STEPS];
    int n_steps;
    struct sq_parameter parameters[SQ_MAX_PARAMETERS];
    int n_parameters;
    int64_t parameters_length; /* floats */
    struct sq_stage stages[SQ_MAX_STAGES];
    int n_stages, n_groups, n_linears;
};

/* The kinds of block. */
enum sq_block_kind { SQ_BLOCK_DENSE, SQ_BLOCK_SPARSE, SQ_N_BLOCK_KINDS };

struct sq_model {
    const struct sq_checkpoint *checkpoint;
    const struct sq_architecture *architecture;
    struct sq_dimensions dims;
    struct sq_rope ropes[2]; /* of blocks without a sliding window, and with one; see sq_model_rope() */
    int64_t *windows;        /* [n_blocks] */
    const char *prefix;      /* of the tensors in this folder */
    bool *sparse;            /* [n_blocks] the block has experts */
    struct sq_section stem, blocks[SQ_N_BLOCK_KINDS], head;
    bool has_kind[SQ_N_BLOCK_KINDS]; /* some block is of this kind */
    int *first_linear;               /* [n_blocks + 1] of each block, then of the head */
    struct sq_linear *linears;       /* [first_linear[n_blocks] + 1] */
    int n_linears;
    int64_t widest_input; /* of all linears */
    bool keeps_linears;   /* sq_model_keep_linears() */
    int64_t n_parameters;
};

#define SQ_BLOCK_STEM ((int64_t)-1) /* what comes before block 0 */

/* The section that block (n_blocks: the head) runs. */
static inline const struct sq_section *sq_model_section(const struct sq_model *model, int64_t block)
{
    if (block == SQ_BLOCK_STEM) return &model->stem;
    if (block == model->dims.n_blocks) return &model->head;
    return &model->blocks[model->sparse[block] ? SQ_BLOCK_SPARSE : SQ_BLOCK_DENSE];
}

/* The stage that a group belongs to. */
const struct sq_stage *sq_section_stage(const struct sq_section *section, int group);

/* First linear among the block's, and count, of one group. */
int sq_section_group(const struct sq_section *section, int group, int *first_p);

static inline bool sq_section_is_experts(const struct sq_section *section, const struct sq_stage *stage)
{
    return section->steps[stage->step].kind == SQ_STEP_EXPERTS;
}

/* Which of the model's ropes the block has, -1: none. */
int sq_model_rope(const struct sq_model *model, int64_t block);

/* The weight or bias of a member of a step, NULL where it has none. */
const struct sq_parameter *sq_section_parameter(const struct sq_section *section, int step, int member, bool is_bias);

/* Fills a section from its program. Local. */
void sq_section_fill(const struct sq_dimensions *dims, const struct sq_program *program, struct sq_section *section);

/* The list of linears (model_linears.c), from the sections. Local. */
enum sq_status sq_model_list_linears(struct sq_model *model) SQ_MUST_CHECK;

/* "norms.#" -> "norms.3"; released with sq_free(). */
enum sq_status sq_model_number_name(const char *name, int64_t index, char **name_p) SQ_MUST_CHECK;

/* Name of one of a small parameter's tensors, such as "model.layers.3.input_layernorm.weight"; released with sq_free().
 */
enum sq_status sq_model_parameter_name(const struct sq_model *model, int64_t block,
                                       const struct sq_parameter *parameter, int64_t index,
                                       char **name_p) SQ_MUST_CHECK;

/* prefix + name + ".weight"; released with sq_free(). */
enum sq_status sq_model_tensor_name(const struct sq_model *model, const char *name, char **name_p) SQ_MUST_CHECK;

/* Checks every tensor and counts the parameters (model_tensors.c). Local. */
enum sq_status sq_model_check_tensors(struct sq_model *model) SQ_MUST_CHECK;

#endif
