/* Which tokens go to which expert. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/experts_private.h"

enum sq_status sq_experts_view_slot(const struct sq_forward *forward, enum sq_slot slot, struct sq_matrix *rows_p,
                                    void **copy_p)
{
    struct sq_backend *backend = forward->backend;
    struct sq_matrix rows = sq_forward_slot(forward, slot);
    *copy_p = NULL;
    *rows_p = rows;
    if (backend->is_host || sq_forward_is_on_host(forward) || rows.rows == 0) return SQ_OK;
    size_t bytes = (size_t)(rows.rows * rows.stride) * sq_dtype_size(rows.dtype);
    SQ_TRY(sq_alloc("routes of tokens", (int64_t)bytes, 1, copy_p));
    rows_p->data = *copy_p;
    return backend->ops->download(backend, rows.data, bytes, *copy_p);
}

/* --- by expert, as the router says -------------------------------------------------------------------------------- */

/* Where the next token of each expert goes; a token's experts are distinct. */
static void sort_tokens(struct sq_experts *experts, int n_experts, struct sq_matrix chosen, struct sq_matrix weights,
                        int64_t *next)
{
    memset(experts->first, 0, (size_t)(n_experts + 1) * sizeof *experts->first);
    for (int64_t t = 0; t < chosen.rows; t++)
        for (int64_t i = 0; i < chosen.cols; i++)
            experts->first[((const int32_t *)chosen.data)[t * chosen.stride + i] + 1]++;
    for (int e = 0; e < n_experts; e++)
        experts->first[e + 1] += experts->first[e];
    memcpy(next, experts->first, (size_t)n_experts * sizeof *next);
    for (int64_t t = 0; t < chosen.rows; t++)
        for (int64_t i = 0; i < chosen.cols; i++) {
            int64_t at = next[((const int32_t *)chosen.data)[t * chosen.stride + i]]++;
            experts->tokens[at] = (int32_t)t;
            experts->weights[at] = ((const float *)weights.data)[t * weights.stride + i];
        }
}

static enum sq_status sort_own(struct sq_forward *forward)
{
    struct sq_experts *experts = forward->experts;
    struct sq_matrix chosen, weights;
    void *copies[2] = {NULL, NULL}, *next = NULL;
    enum sq_status status = sq_experts_view_slot(forward, experts->step->in[1], &chosen, &copies[0]);
    if (status == SQ_OK) status = sq_experts_view_slot(forward, experts->step->in[2], &weights, &copies[1]);
    if (status == SQ_OK) status = sq_alloc("tokens by expert", sq_experts_count(forward), sizeof(int64_t), &next);
    if (status == SQ_OK) sort_tokens(experts, sq_experts_count(forward), chosen, weights, next);
    sq_free(next);
    sq_free(copies[0]);
    sq_free(copies[1]);
    return status;
}

/* Numbers of this rank, count of them, into its place among those of all ranks. Collective. */
static enum sq_status gather(const struct sq_comm *comm, int64_t *all, int64_t count)
{
    void *memory = NULL;
    SQ_TRY(sq_comm_agree(comm, sq_alloc("shares of ranks", 2 * (int64_t)comm->size, sizeof(size_t), &memory)));
    size_t *offsets = memory, *bytes = offsets + comm->size;
    for (int rank = 0; rank < comm->size; rank++) {
        bytes[rank] = (size_t)count * sizeof *all;
        offsets[rank] = (size_t)rank * bytes[rank];
    }
    enum sq_status status = sq_comm_all_gather(comm, all, offsets, bytes);
    sq_free(memory);
    return status;
}

enum sq_status sq_experts_sort_tokens(struct sq_forward *forward)
{
    struct sq_experts *experts = forward->experts;
    SQ_TRY(sq_comm_agree(&experts->world, sort_own(forward)));
    int64_t *counts = experts->before + experts->n_teams; /* room that the first wave overwrites */
    counts[experts->world.rank] = experts->n_own;
    SQ_TRY(gather(&experts->world, counts, 1));
    experts->first_own = experts->n_all = 0;
    for (int rank = 0; rank < experts->world.size; rank++) {
        if (rank < experts->world.rank) experts->first_own += counts[rank];
        experts->n_all += counts[rank];
    }
    return SQ_OK;
}

/* --- topping up --------------------------------------------------------------------------------------------------- */

/* A token that the router does not send to the expert. */
struct candidate {
    int64_t token; /* among all ranks' */
    float score;
};

/* By score, largest first, then by token. */
static int compare_candidates(const void *left, const void *right)
{
    const struct candidate *a = left, *b = right;
    if (a->score > b->score) return -1;
    if (a->score < b->score) return 1;
    return (a->token > b->token) - (a->token < b->token);
}

/* This rank's best candidates for an expert into best[count], filled up with none (token INT64_MAX). */
static enum sq_status find_candidates(const struct sq_forward *forward, int expert, int64_t count,
                                      struct candidate *best)
{
    const struct sq_experts *experts = forward->experts;
    struct sq_matrix scores;
    void *copy = NULL, *memory = NULL;
    enum sq_status status = sq_experts_view_slot(forward, experts->step->in[3], &scores, &copy);
    if (status == SQ_OK) status = sq_alloc("tokens by score", experts->n_own, sizeof(struct candidate), &memory);
    struct candidate *all = memory;
    int64_t n = 0, at = experts->first[expert];
    for (int64_t t = 0; status == SQ_OK && t < experts->n_own; t++) {
        if (at < experts->first[expert + 1] && experts->tokens[at] == t) {
            at++;
            continue;
        }
        float score = ((const float *)scores.data)[t * scores.stride + expert]; /* finite */
        all[n++] = (struct candidate){experts->first_own + t, score};
    }
    if (n > 0) qsort(all, (size_t)n, sizeof *all, compare_candidates);
    for (int64_t i = 0; i < count; i++)
        best[i] = i < n ? all[i] : (struct candidate){INT64_MAX, -INFINITY};
    sq_free(memory);
    sq_free(copy);
    return status;
}

static int compare_ids(const void *left, const void *right)
{
    const int32_t *a = left, *b = right;
    return (*a > *b) - (*a < *b);
}

/* Adds to ids, which has n of them, this rank's among the `count` best candidates of all ranks. Collective. */
static enum sq_status top_up(struct sq_forward *forward, int expert, int64_t count, int32_t *ids, int64_t *n_p)
{
    struct sq_experts *experts = forward->experts;
    const struct sq_comm *world = &experts->world;
    void *memory = NULL;
    enum sq_status status = sq_alloc("tokens by score", count * world->size, sizeof(struct candidate), &memory);
    struct candidate *best = memory;
    if (status == SQ_OK) status = find_candidates(forward, expert, count, best + world->rank * count);
    status = sq_comm_agree(world, status);
    if (status == SQ_OK) status = gather(world, memory, count * (int64_t)(sizeof(struct candidate) / sizeof(int64_t)));
    if (status == SQ_OK) {
        qsort(best, (size_t)(count * world->size), sizeof *best, compare_candidates);
        for (int64_t i = 0; i < count; i++) {
            int64_t token = best[i].token - experts->first_own;
            if (token >= 0 && token < experts->n_own) ids[(*n_p)++] = (int32_t)token;
        }
        qsort(ids, (size_t)*n_p, sizeof *ids, compare_ids);
    }
    sq_free(memory);
    return status;
}

/* --- lists of a wave ---------------------------------------------------------------------------------------------- */

/* Room for the largest lists that the policy can give. */
static enum sq_status take_ids(struct sq_experts *experts)
{
    int64_t most = experts->n_own * experts->n_teams;
    void *memory;
    if (experts->own_ids) return SQ_OK;
    SQ_TRY(sq_alloc("tokens of experts", most, sizeof *experts->own_ids, &memory));
    experts->own_ids = memory;
    return SQ_OK;
}

/* One expert's list behind the others in own_ids; n_routed: over all ranks. Collective. */
static enum sq_status list_expert(struct sq_forward *forward, int expert, const struct sq_expert_policy *policy,
                                  int64_t n_routed, int64_t *end_p)
{
    struct sq_experts *experts = forward->experts;
    int32_t *ids = experts->own_ids + *end_p;
    int64_t n = 0, wanted = policy->least < experts->n_all ? policy->least : experts->n_all;
    if (policy->kind == SQ_EXPERTS_ALL) {
        for (; n < experts->n_own; n++)
            ids[n] = (int32_t)n;
    } else {
        n = experts->first[expert + 1] - experts->first[expert];
        memcpy(ids, experts->tokens + experts->first[expert], (size_t)n * sizeof *ids);
        if (n_routed < wanted) SQ_TRY(top_up(forward, expert, wanted - n_routed, ids, &n));
    }
    *end_p += n;
    return SQ_OK;
}

/* Each rank's tokens of every list, by list_first, summed up over the ranks before. Collective. */
static enum sq_status sum_counts(struct sq_experts *experts)
{
    int64_t n_teams = experts->n_teams, *counts = experts->before + n_teams;
    int64_t *mine = counts + experts->world.rank * n_teams;
    for (int j = 0; j < n_teams; j++)
        mine[j] = j < experts->wave_count ? experts->list_first[j + 1] - experts->list_first[j] : 0;
    SQ_TRY(gather(&experts->world, counts, n_teams));
    for (int64_t i = 0; i < experts->world.size * n_teams; i++)
        counts[i] += experts->before[i];
    return SQ_OK;
}

/* Whether the router alone gives every expert of the wave what the policy wants. */
static bool is_routed_enough(const struct sq_experts *experts, const struct sq_expert_policy *policy)
{
    if (!policy || policy->kind == SQ_EXPERTS_ROUTE) return true;
    for (int j = 0; j < experts->wave_count; j++) {
        int64_t n = sq_experts_before(experts, j, experts->world.size);
        if (n < experts->n_all && (policy->kind == SQ_EXPERTS_ALL || n < policy->least)) return false;
    }
    return true;
}

enum sq_status sq_experts_list(struct sq_forward *forward, const struct sq_expert_policy *policy, bool *is_routed_p)
{
    struct sq_experts *experts = forward->experts;
    experts->ids = experts->tokens + experts->first[experts->wave_first];
    for (int j = 0; j <= experts->wave_count; j++)
        experts->list_first[j] = experts->first[experts->wave_first + j] - experts->first[experts->wave_first];
    SQ_TRY(sum_counts(experts));
    experts->mine.n_routed =
        experts->mine.index >= 0 ? sq_experts_before(experts, experts->team_index, experts->world.size) : 0;
    *is_routed_p = is_routed_enough(experts, policy);
    if (*is_routed_p) return SQ_OK;
    SQ_TRY(sq_comm_agree(&experts->world, take_ids(experts)));
    experts->ids = experts->own_ids;
    int64_t end = 0;
    for (int j = 0; j < experts->wave_count; j++) {
        SQ_TRY(list_expert(forward, experts->wave_first + j, policy, sq_experts_before(experts, j, experts->world.size),
                           &end));
        experts->list_first[j + 1] = end;
    }
    return sum_counts(experts);
}
