/* What a rank will take, before it takes it. */
#ifndef SQ_GPTQ_MEMORY_PLAN_H
#define SQ_GPTQ_MEMORY_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "config/config.h"
#include "gptq/layers.h"
#include "model/model.h"

/* What the plan is made for. */
struct sq_memory_request {
    const struct sq_model *model;
    const struct sq_layers *layers;
    const struct sq_config *config;
    enum sq_dtype compute;
    int64_t n_samples, length; /* samples of this rank (the largest share) */
    int64_t n_job_samples;     /* of all ranks: each has the token ids of the whole job */
    int n_ranks, n_workers;
    struct sq_sizes sizes; /* of the backend */
    bool is_host;          /* likewise: only then can activations go to a file */
    int64_t limit;         /* bytes this rank may take; 0: no limit */
};

/* Bytes by purpose. */
struct sq_memory_plan {
    int64_t activations; /* residual stream and group inputs of this rank's samples */
    int64_t workers;     /* one sample's slots, per worker */
    int64_t weights;     /* of the block in work */
    int64_t hessian;     /* sums, H and its factor */
    int64_t rows;        /* records of one group of linears, what the solver takes */
    int64_t tokens;
    int64_t experts;  /* tokens of the expert in work, should all of them go to it, and those on their way */
    int64_t resident; /* what counts against the limit: all of it, without the activations when they spill */
    bool spill;       /* activations in a file */
};

/* SQ_ERR_USAGE with figures when even spilling does not fit. Local. */
enum sq_status sq_memory_plan_make(const struct sq_memory_request *request,
                                   struct sq_memory_plan *plan_p) SQ_MUST_CHECK;

/* Widest input of any quantized layer, and bytes of scratch of one worker and of the records of the largest group.
 * Local. */
int64_t sq_memory_widest_input(const struct sq_model *model, const struct sq_layers *layers);
size_t sq_memory_scratch_bytes(const struct sq_memory_request *request);
size_t sq_memory_record_bytes(const struct sq_memory_request *request);

/* Bytes of the Hessians of one block kept at once without experts (propagation: original). Local. */
int64_t sq_memory_block_hessians(const struct sq_model *model);

#endif
