/* What the two ways of propagation share. */
#ifndef SQ_GPTQ_RUN_PRIVATE_H
#define SQ_GPTQ_RUN_PRIVATE_H

#include "gptq/group.h"
#include "gptq/job.h"

#define SQ_RUN_UNMARKED 256 /* layers that may wait for their marks */

/* The layers of a block without its experts, or of one expert, that a team has quantized: for all ranks. */
struct sq_block_result {
    int layers[64];
    struct sq_layer_report reports[64];
    int count;
};
struct sq_expert_result {
    int layers[2 * SQ_STEP_MAX];
    struct sq_layer_report reports[2 * SQ_STEP_MAX];
    int count;
};

/* A run in progress. */
struct sq_run_state {
    struct sq_job *job;
    double started, saved; /* clock at the start, and at the last saving of activations */
    int n_done_before;     /* layers complete at the start */
    /* layers that are solved, their rows given to the store, and not yet marked complete there */
    int n_unmarked, unmarked[SQ_RUN_UNMARKED];
    struct sq_layer_report reports[SQ_RUN_UNMARKED];
};

/* One past the last block to go through: lm_head counts as a block of one group when it is quantized. Local. */
int64_t sq_run_end(const struct sq_model *model, const struct sq_config *config);

/* Takes the weights of the block that are not quantized: forward.h. Collective. */
enum sq_status sq_run_load_block(struct sq_run_state *run, int64_t block) SQ_MUST_CHECK;

/* Runs on to the group's input: forward.h. Collective. */
enum sq_status sq_run_to_group(struct sq_run_state *run, int index) SQ_MUST_CHECK;

/* H of the group's input into `hessian` [n, n], on every rank or on root alone; layer: one of the group, for messages.
 * Collective on the world. */
enum sq_status sq_run_hessian(struct sq_run_state *run, const char *layer, int root,
                              struct sq_matrix hessian) SQ_MUST_CHECK;

/* Shows the layers, which are complete once sq_run_mark_layers() has been called. `status` is this rank's own.
 * Collective on the world. */
enum sq_status sq_run_finish_layers(struct sq_run_state *run, enum sq_status status, const int *layers, int count,
                                    const struct sq_layer_report *reports, double seconds) SQ_MUST_CHECK;

/* Brings the rows of all layers finished so far to the disk, and marks them complete. This waits for the disk: done
 * once a block, and before the run stops. Collective on the world. */
enum sq_status sq_run_mark_layers(struct sq_run_state *run) SQ_MUST_CHECK;

/* Saves the activations before `block` when the last saving is long ago. Collective. */
enum sq_status sq_run_save_state(struct sq_run_state *run, int64_t block) SQ_MUST_CHECK;

/* The experts of a block, whose groups begin with `first_group`, once sq_run_to_group() has come to them
 * (run_experts.c). is_last: nothing needs what they give. Collective. */
enum sq_status sq_run_experts(struct sq_run_state *run, int block, int first_group, bool is_last) SQ_MUST_CHECK;

/* Propagation "original" (run_original.c): from block `first` on. Collective. */
enum sq_status sq_run_original(struct sq_run_state *run, int64_t first) SQ_MUST_CHECK;

#endif
