/* An EXPERTS step of the present block: the tokens of every rank travel to the rank that owns their expert, in global
 * order, and what the expert makes of them travels back.
 *
 *      sq_forward_to_group(first group of the experts)      every token has its experts
 *      sq_experts_begin                  who has how many tokens for whom
 *      for each wave:                    as many experts at once as there are teams of ranks
 *          sq_experts_take               the tokens come to their expert's team
 *          sq_experts_select(0)          gate and up; sq_experts_input(), weights as with a group of linears
 *          sq_experts_activate           input of down
 *          sq_experts_select(1)          down; likewise
 *          sq_experts_finish             what the expert gives
 *          sq_experts_give               it goes back, and is added in the order of experts
 *      sq_experts_end
 *
 * With fewer experts than ranks a team has several ranks. Inside a team the expert's tokens are in pieces of
 * backend->sizes.expert_rows, the last one filled up with zeros; pieces are shared by shards, so what is computed never
 * depends on the number of ranks. Memory holds the tokens of one expert per team. */
#ifndef SQ_MODEL_EXPERTS_H
#define SQ_MODEL_EXPERTS_H

#include <stdint.h>

#include "base/status.h"
#include "config/config.h"
#include "model/forward.h"
#include "mpi/comm.h"
#include "mpi/split.h"

#define SQ_EXPERT_SHARDS 16 /* in which an expert's tokens are shared inside a team; fixed */
#define SQ_EXPERT_BATCH 256 /* rows on their way that are gathered by one item */

struct sq_experts;

/* Which tokens an expert is calibrated with. */
struct sq_expert_policy {
    enum sq_expert_tokens kind;
    int64_t least; /* SQ_EXPERTS_TOP_UP: so many, where there are so many */
};

/* The expert of this rank's team in the present wave. */
struct sq_expert {
    int index;                  /* -1: the team has none */
    int64_t n_tokens, n_routed; /* over all ranks: those taken, and those that the router sends */
    int64_t n_pieces;           /* of the tokens taken */
    bool is_routed;             /* the tokens of the wave are those that the router sends: they may be given back */
};

/* Begins the step that sq_forward_to_group() has come to. Collective. */
enum sq_status sq_experts_begin(struct sq_forward *forward, const struct sq_comm *comm) SQ_MUST_CHECK;

/* The ranks that have this rank's expert together, how many such teams there are, and which this is; after begin. */
const struct sq_comm *sq_experts_team(const struct sq_forward *forward);
int sq_experts_n_teams(const struct sq_forward *forward);
int sq_experts_team_index(const struct sq_forward *forward);

/* Takes the tokens of the experts [first, first + number of teams), those that there are. policy NULL: the tokens that
 * the router sends. Collective. */
enum sq_status sq_experts_take(struct sq_forward *forward, int first, const struct sq_expert_policy *policy,
                               struct sq_expert *expert_p) SQ_MUST_CHECK;

/* Makes gate and up (part 0) or down (part 1) of this rank's expert the present group: forward.h's
 * sq_forward_linear_weight() is then of its members. Local. */
void sq_experts_select(struct sq_forward *forward, int part);

/* Input of that group on this rank, [pieces * expert_rows, in_features] of the compute dtype. Local. */
struct sq_matrix sq_experts_input(const struct sq_forward *forward);

/* Reads the weights of a member of the selected part from the checkpoint. Collective on the team. */
enum sq_status sq_experts_load(struct sq_forward *forward, int member) SQ_MUST_CHECK;

/* act(gate) * up, with the weights that were set; then down. Local. */
enum sq_status sq_experts_activate(struct sq_forward *forward) SQ_MUST_CHECK;
enum sq_status sq_experts_finish(struct sq_forward *forward) SQ_MUST_CHECK;

/* The rows go back to their tokens. Collective. */
enum sq_status sq_experts_give(struct sq_forward *forward) SQ_MUST_CHECK;

/* The forward pass may go on. Local. */
void sq_experts_end(struct sq_forward *forward);

/* All of it with the checkpoint's own weights. Collective. */
enum sq_status sq_experts_run(struct sq_forward *forward, const struct sq_comm *comm) SQ_MUST_CHECK;

/* What a rank takes for an EXPERTS step at most: all tokens may go to one expert. Local. */
struct sq_experts_request {
    enum sq_dtype compute;
    int64_t n_own, n_all; /* tokens of this rank, and of all */
    int n_ranks, n_workers;
    int64_t expert_rows; /* backend->sizes.expert_rows */
    bool is_host;        /* the backend's memory is the host's */
    struct sq_expert_policy policy;
};
struct sq_experts_bytes {
    int64_t backend, host; /* in the backend's memory, and beside it */
};
struct sq_experts_bytes sq_experts_predict_bytes(const struct sq_model *model,
                                                 const struct sq_experts_request *request);

/* NULL is fine. */
void sq_experts_destroy(struct sq_experts *experts);

#endif
