/* What a rank will take, before it takes it. */
#ifndef SQ_GPTQ_MEMORY_PLAN_H
#define SQ_GPTQ_MEMORY_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "config/config.h"
#include "gptq/layers.h"
#include "model/forward.h"
#include "model/model.h"

/* What the plan is made for. */
struct sq_memory_request {
    const struct sq_model *model;
    const struct sq_layers *layers;
    const struct sq_config *config;
    enum sq_dtype compute;
    int64_t n_samples, length; /* samples of this rank (the largest share) */
    int64_t n_job_samples;     /* of all ranks: each has the token ids of the whole job */
    int n_ranks, n_workers;    /* workers: at most */
    const struct sq_backend_traits *traits;
    int64_t limit;      /* bytes this rank may take of the backend's memory; 0: no limit */
    int64_t host_limit; /* of a device's rank, likewise of the host's */
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
    SQ_N_MEMORY
};

/* Bytes by purpose. */
struct sq_memory_plan {
    int64_t backend[SQ_N_MEMORY]; /* in the backend's memory */
    int64_t host[SQ_N_MEMORY];    /* of the host's beside that; of a backend on the host: nothing */
    int64_t start;                /* while tokens are embedded, before any Hessian: what is taken beside all of that;
                                   * on a device it counts against the limit, too */
    int64_t resident;             /* what counts against the limit: the former, without activations in a file */
    int64_t resident_host;        /* sum of the latter */
    int64_t ahead;                /* of the backend's weights: those that are read ahead, as far as there is room */
    int64_t room;                 /* of the backend's for the Hessian: where inputs lie on the host, a piece of them */
    int n_workers;                /* of a device: as many of those asked for as fit, each with a sample or tile */
    enum sq_activations_place place; /* of the activations */
};

const char *sq_memory_kind_name(enum sq_memory_kind kind);

/* Counts; returns whether it fits, if need be with the activations in a file; on a device with fewer workers or, where
 * one is too many, with the activations on the host. What does not fit is counted at its least. Local. */
bool sq_memory_plan_count(const struct sq_memory_request *request, struct sq_memory_plan *plan_p);

/* Likewise; SQ_ERR_USAGE with figures when nothing fits. Local. */
enum sq_status sq_memory_plan_make(const struct sq_memory_request *request,
                                   struct sq_memory_plan *plan_p) SQ_MUST_CHECK;

/* Widest input of any quantized layer, and bytes of scratch of one worker and of the records of the largest group.
 * Local. */
int64_t sq_memory_widest_input(const struct sq_model *model, const struct sq_layers *layers);
size_t sq_memory_scratch_bytes(const struct sq_memory_request *request);
size_t sq_memory_record_bytes(const struct sq_memory_request *request);

/* Elements of a worker's rows on their way to a device; 0 on the host. Local. */
#define SQ_MEMORY_STAGING_ROWS 64
int64_t sq_memory_staging_elements(const struct sq_memory_request *request);

/* Bytes of the Hessians of one block kept at once without experts (propagation: original). Local. */
int64_t sq_memory_block_hessians(const struct sq_model *model);

#endif
