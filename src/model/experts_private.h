/* An EXPERTS step from inside; only src/model includes it. */
#ifndef SQ_MODEL_EXPERTS_PRIVATE_H
#define SQ_MODEL_EXPERTS_PRIVATE_H

#include "model/experts.h"
#include "model/forward_private.h"

/* Backend memory that grows when a wave needs more. */
struct sq_room {
    void *memory;
    size_t bytes;
};

struct sq_experts {
    struct sq_backend *backend;
    struct sq_comm world; /* the caller's */
    struct sq_comm team;  /* owned */
    int n_teams, team_index;
    /* the step at hand */
    const struct sq_step *step;
    int first_group;
    int64_t n_own, first_own, n_all; /* tokens of this rank, of those before it, of all */
    /* tokens of this rank by expert: those of expert e from first[e] on, in their order; [n_own * n_chosen] */
    int64_t *first; /* [n_experts + 1] */
    int32_t *tokens;
    float *weights;
    /* the wave at hand; list j is that of its j-th expert */
    int wave_first, wave_count;
    struct sq_expert mine;
    struct sq_range rows;      /* of this rank's expert, those on this rank */
    const int32_t *ids;        /* this rank's tokens, list after list; of `tokens`, or in `own_ids` */
    int32_t *own_ids;          /* host memory for lists that are not the router's; NULL: none yet */
    int64_t n_ids_max;         /* room in own_ids */
    int64_t *list_first;       /* [n_teams + 1] */
    int64_t *before;           /* [ranks + 1, n_teams] tokens of each list on the ranks before; first row: zeros */
    size_t *to_rank, *to_here; /* [ranks] bytes that go there, and come from there */
    struct sq_room x, active, sent, id_room, weight_room, scratch;
};

/* Number of the step's experts, and of those that a token goes to. */
static inline int sq_experts_count(const struct sq_forward *forward)
{
    return (int)forward->model->dims.n_experts;
}

static inline int64_t sq_experts_rounded_up(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* Rows of an expert with n tokens that a rank of its team has: whole pieces of `unit`, shared by shards. */
static inline struct sq_range sq_experts_share(int64_t unit, int64_t n, int team_rank, int team_size)
{
    int64_t pieces = (n + unit - 1) / unit;
    struct sq_range shards = sq_split(SQ_EXPERT_SHARDS, team_rank, team_size);
    int64_t first = sq_split(pieces, shards.first, SQ_EXPERT_SHARDS).first * unit;
    int64_t end = sq_split(pieces, shards.first + shards.count, SQ_EXPERT_SHARDS).first * unit;
    if (first > n) first = n;
    if (end > n) end = n;
    return (struct sq_range){first, end - first};
}

/* Tokens of list j on the ranks before end_rank. */
static inline int64_t sq_experts_before(const struct sq_experts *experts, int j, int end_rank)
{
    return experts->before[(int64_t)end_rank * experts->n_teams + j];
}

/* Makes a room at least so large; what was in it is lost when it grows. Local. */
enum sq_status sq_experts_ensure(struct sq_experts *experts, struct sq_room *room, const char *what,
                                 size_t bytes) SQ_MUST_CHECK;

/* A room as the rows of this rank's expert, filled up to whole pieces: [pieces * expert_rows, width]. Local. */
struct sq_matrix sq_experts_rows(const struct sq_forward *forward, const struct sq_room *room, int64_t width);

/* Rows of a slot of this rank's tokens in host memory: where they are, or a copy, which *copy_p has to be released
 * with sq_free(). Local. */
enum sq_status sq_experts_view_slot(const struct sq_forward *forward, enum sq_slot slot, struct sq_matrix *rows_p,
                                    void **copy_p) SQ_MUST_CHECK;

/* The wave's lists by the policy into own_ids and list_first (experts_lists.c). Collective. */
enum sq_status sq_experts_list(struct sq_forward *forward, const struct sq_expert_policy *policy,
                               bool *is_routed_p) SQ_MUST_CHECK;

/* This rank's tokens by expert, out of the slots of the step; first_own and n_all (experts_lists.c). Collective. */
enum sq_status sq_experts_sort_tokens(struct sq_forward *forward) SQ_MUST_CHECK;

#endif
