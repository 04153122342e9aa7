/* A transformer as data: dimensions from config.json, and a block as a short straight program of steps.
 * An architecture is one file of two tables (src/model/arch_*.c, explained in architecture.h): which config keys mean
 * what, and the steps with their tensor names. */
#ifndef SQ_MODEL_MODEL_H
#define SQ_MODEL_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "io/checkpoint.h"
#include "tensor/backend.h"

#define SQ_STEP_MAX 5 /* linears of one group at most */

/* One linear layer of the model, in the order of computation. */
struct sq_linear {
    char *name; /* "model.layers.3.self_attn.q_proj", without ".weight"; owned by the model */
    int64_t out_features, in_features;
    bool has_bias;
    bool is_transposed; /* its plain tensor is [in_features, out_features] */
    int block;          /* n_blocks for lm_head */
    int group;          /* index among the block's groups of linears with one input */
    int member;         /* position in that group */
    int expert;         /* that it is a part of; -1: none */
};

/* The layer as a folder has it; the name is borrowed. */
static inline struct sq_checkpoint_linear sq_linear_in_folder(const struct sq_linear *linear)
{
    return (struct sq_checkpoint_linear){linear->name, linear->out_features, linear->in_features,
                                         linear->is_transposed};
}

struct sq_model; /* fields in model/model_private.h; read through the functions below */

/* Reads config.json and checks every tensor the architecture needs (presence, shape, dtype). Unknown `architectures`:
 * SQ_ERR_INPUT that names it and lists those known. A known architecture with an option that is not supported: the key
 * is named. The checkpoint stays the caller's and must outlive the model. Local. */
enum sq_status sq_model_open(const struct sq_checkpoint *checkpoint, struct sq_model **model_p) SQ_MUST_CHECK;
void sq_model_close(struct sq_model *model);

/* From here on the forward pass has plain linears as a checkpoint that leaves them as they are will have them: BF16
 * where their weights have scales, as those of 8 bits. Local. */
void sq_model_keep_linears(struct sq_model *model);

const struct sq_checkpoint *sq_model_checkpoint(const struct sq_model *model);
int64_t sq_model_n_blocks(const struct sq_model *model);
int64_t sq_model_hidden_size(const struct sq_model *model);
int64_t sq_model_vocab_size(const struct sq_model *model);
int64_t sq_model_max_length(const struct sq_model *model); /* positions the model knows; 0: no bound */
bool sq_model_is_tied(const struct sq_model *model);
int64_t sq_model_n_parameters(const struct sq_model *model);
double sq_model_attention_flops(const struct sq_model *model, int64_t length); /* of one sample, all blocks */
const char *sq_model_architecture(const struct sq_model *model);

/* All linear layers: those of block 0 in order of computation, block 1, ..., and last lm_head (also when tied). */
int sq_model_n_linears(const struct sq_model *model);
const struct sq_linear *sq_model_linear(const struct sq_model *model, int index);

/* Groups of linears with one input: a LINEAR step is one, an expert two (gate and up, then down), one expert after the
 * other. Those of a block (n_blocks: lm_head), and index of the first linear of (block, group). */
int sq_model_n_groups(const struct sq_model *model, int64_t block);
int sq_model_group_linears(const struct sq_model *model, int block, int group, int *first_p); /* returns the count */

/* Groups of the step that `group` belongs to, from its first on: 1, or twice the number of experts. */
int sq_model_step_groups(const struct sq_model *model, int64_t block, int group, int *first_p);

/* Experts of a block (0: none), those that a token goes to, and whether a group is one of an expert's. */
int sq_model_n_experts(const struct sq_model *model, int64_t block);
int sq_model_n_chosen(const struct sq_model *model);
bool sq_model_is_expert_group(const struct sq_model *model, int64_t block, int group);

/* Experts that every token goes to, together `width` wide, beside those it chooses; 0: none. */
int64_t sq_model_n_shared(const struct sq_model *model, int64_t *width_p);

#endif
