/* One group of linears with one input: quantized now, or taken from the store on a resume. */
#ifndef SQ_GPTQ_GROUP_H
#define SQ_GPTQ_GROUP_H

#include "gptq/job.h"

/* The group's place in the model and in the store. */
struct sq_group {
    int block, index;                  /* index of the group in its block */
    int first, n_linears;              /* in the model's list of linears */
    int layers[SQ_STEP_MAX], n_layers; /* store indices of those that are quantized */
    const struct sq_comm *team;        /* ranks that have it together; as sq_group_at() gives it: job->team */
    bool is_expert;                    /* a part of an expert: its weights are set on its team alone */
    int64_t n_tokens, n_routed;        /* for the reports; as sq_group_at() gives them: all tokens */
};

/* The settings of the solve for one layer. Local. */
struct sq_solve_options sq_group_solve_options(const struct sq_config *config, const struct sq_grid *grid);

/* Group `index` of a block (block == n_blocks: lm_head). Local. */
struct sq_group sq_group_at(const struct sq_job *job, int block, int index);

/* Who has which of the group's rows, of which some are quantized; with records in job->records. Local. */
struct sq_spread sq_group_describe(const struct sq_job *job, const struct sq_group *group);

/* Whether every quantized layer of the group is complete in the store. Local. */
bool sq_group_is_done(const struct sq_job *job, const struct sq_group *group);

/* H [n, n] of the group's input on this rank is in job->factor.hessian: factor, solve this rank's tiles, gather their
 * figures; rows go to the store beside what comes next (beside.h). Collective on the group's team. reports: one per
 * quantized layer, in order; the layers are not yet marked (sq_store_finish_layers). spread_p is released by the
 * caller. */
enum sq_status sq_group_solve(struct sq_job *job, const struct sq_group *group, struct sq_spread *spread_p,
                              struct sq_layer_report *reports) SQ_MUST_CHECK;

/* The records of this rank's tiles from the store. Collective on the group's team. */
enum sq_status sq_group_restore(struct sq_job *job, const struct sq_group *group,
                                struct sq_spread *spread_p) SQ_MUST_CHECK;

/* Puts the weights of the present group into the forward pass: quantized ones as each rank of the team has solved or
 * restored its tiles (spread not NULL), the others from the checkpoint. Collective on the world, of an expert's group
 * on its team. */
enum sq_status sq_group_set_weights(struct sq_job *job, const struct sq_group *group,
                                    const struct sq_spread *spread) SQ_MUST_CHECK;

#endif
