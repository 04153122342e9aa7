/* The memory of a rank before it takes it: what a command counts, and the choice of place and workers with which it
 * fits. */
#ifndef SQ_GPTQ_MEMORY_FIT_H
#define SQ_GPTQ_MEMORY_FIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "config/config.h"
#include "gptq/hessian.h"
#include "gptq/layers.h"
#include "gptq/place.h"
#include "model/experts.h"
#include "model/forward.h"
#include "model/model.h"

/* What is counted. */
struct sq_memory_request {
    const struct sq_model *model;
    const struct sq_model *reference; /* eval's, as --against names it; else NULL */
    const struct sq_layers *layers;   /* quantize's; else NULL */
    const struct sq_config *config;
    struct sq_expert_policy policy; /* verify's, of the job that made the checkpoint; of quantize it is in config */
    enum sq_dtype compute;
    int64_t n_samples, length; /* samples of this rank (the largest share) */
    int64_t n_job_samples;     /* of all ranks: each has the token ids of the whole job */
    int n_ranks, n_workers;    /* workers: at most */
    const struct sq_backend_traits *traits;
    int64_t spread_from; /* quantize's: sq_plan_spread_from() */
    int64_t limit;       /* bytes this rank may take of the backend's memory; 0: no limit */
    int64_t host_limit;  /* of a device's rank, likewise of the host's */
};

enum sq_memory_kind {
    SQ_MEMORY_WEIGHTS,     /* of the linears in work, norms and biases */
    SQ_MEMORY_ACTIVATIONS, /* residual stream and group inputs of this rank's samples */
    SQ_MEMORY_EXPERTS, /* tokens of the expert in work, should all of them go to it, and those on their way; at most */
    SQ_MEMORY_HESSIAN, /* sums and H; all of a block's with propagation original */
    SQ_MEMORY_FACTOR,
    SQ_MEMORY_WORKSPACE, /* one sample's slots and one tile for each worker, records of a group's rows, pieces of files
                          */
    SQ_MEMORY_TOKENS,    /* of the whole job */
    SQ_MEMORY_STATES,    /* eval's alone, as the next: input of lm_head for this rank's samples */
    SQ_MEMORY_LOGITS,    /* with what is made of them */
    SQ_N_MEMORY
};

/* Bytes by purpose. */
struct sq_memory_plan {
    int64_t backend[SQ_N_MEMORY];    /* in the backend's memory */
    int64_t host[SQ_N_MEMORY];       /* of the host's beside that; of a backend on the host: nothing */
    int64_t start;                   /* while tokens are embedded, before any Hessian: what is taken beside all of that;
                                      * on a device it counts against the limit, too */
    int64_t resident;                /* what counts against the limit: the former, without activations in a file */
    int64_t resident_host;           /* sum of the latter */
    int64_t ahead;                   /* of the backend's weights: those that are read ahead, as far as there is room;
                                      * of eval 0: there it is groups_ahead that counts */
    int groups_ahead;                /* groups whose weights the forward pass has on their way: of these, theirs */
    int n_workers;                   /* of a device: as many of those asked for as fit, each with a sample or tile */
    enum sq_activations_place place; /* of the activations */
    struct sq_hessian_rooms rooms;   /* of the backend's for the Hessian, where its inputs lie on the host */
};

const char *sq_memory_kind_name(enum sq_memory_kind kind);

/* A command's counting, for request->n_workers and activations in plan->place: fills in the plan's bytes by kind, both
 * of the backend and of the host, and start. Local. */
typedef void sq_memory_count_fn(const struct sq_memory_request *request, struct sq_memory_plan *plan);

/* Parts of it. What a forward pass of a model takes (its embedding: plan->start), with what the workers took when the
 * backend was made; that alone, added to the rest: of a device it is gone from what a rank may take; the least room for
 * the inputs of a Hessian, where they come from the host; tokens, and those of experts taken by this policy. Local. */
void sq_memory_count_forward(const struct sq_memory_request *request, const struct sq_model *model,
                             struct sq_memory_plan *plan);
void sq_memory_count_workers(const struct sq_memory_request *request, struct sq_memory_plan *plan);
struct sq_hessian_rooms sq_memory_rooms(const struct sq_memory_request *request, enum sq_activations_place place);
void sq_memory_count_inputs(const struct sq_memory_request *request, const struct sq_model *model,
                            const struct sq_expert_policy *policy, struct sq_memory_plan *plan);

/* Bytes that the limit leaves of the backend's memory beside what is counted. Local. */
int64_t sq_memory_left(const struct sq_memory_request *request, const struct sq_memory_plan *plan);

/* As much of it as is of use goes to the Hessian of n_max inputs, where they come from the host. Local. */
void sq_memory_widen_hessian(const struct sq_memory_request *request, int64_t n_max, struct sq_memory_plan *plan);

/* Counts with the weights of as many groups on their way as fit a device: one is read and, of several ranks, another is
 * gathered. For forward passes that take the checkpoint's own weights. Local. */
void sq_memory_count_groups_ahead(const struct sq_memory_request *request, sq_memory_count_fn *count,
                                  struct sq_memory_plan *plan);

/* Sums of a plan whose bytes by kind are counted: resident and resident_host; where the backend's memory is the host's,
 * all of it becomes the backend's. Local. */
void sq_memory_add_up(const struct sq_memory_request *request, struct sq_memory_plan *plan);

/* Bytes of all kinds; what embedding takes beside them: the host's pages count when they are used, and then most are
 * not yet. Local. */
int64_t sq_memory_sum(const int64_t bytes[SQ_N_MEMORY]);
int64_t sq_memory_embedding(const struct sq_memory_request *request, const struct sq_memory_plan *plan);

/* Counts; returns whether it fits, if need be with the activations in a file; on a device with fewer workers or, where
 * one is too many, with the activations on the host. What does not fit is counted at its least. Local. */
bool sq_memory_fit(const struct sq_memory_request *request, sq_memory_count_fn *count, struct sq_memory_plan *plan_p);

/* Likewise; SQ_ERR_USAGE with figures when nothing fits. Local. */
enum sq_status sq_memory_fit_or_say(const struct sq_memory_request *request, sq_memory_count_fn *count,
                                    struct sq_memory_plan *plan_p) SQ_MUST_CHECK;

/* The same plan on every rank of the place, for the largest share of the samples and the smallest limit: of
 * memory_bytes or, where that is 0, what the place has. request->n_samples: this rank's share; it, the limits and what
 * is known of the backend are filled in. The backend gets no more workers than the plan has. Collective. */
enum sq_status sq_memory_fit_ranks(const struct sq_place *place, int64_t memory_bytes, sq_memory_count_fn *count,
                                   struct sq_memory_request *request, struct sq_memory_plan *plan_p) SQ_MUST_CHECK;

/* Says on rank 0 how much a rank takes, and where activations are that are not near. */
void sq_memory_say(const struct sq_comm *comm, const struct sq_memory_plan *plan);

#endif
