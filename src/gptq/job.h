/* One quantize job: everything its stages share. Made and released by gptq/job.c; gptq/run.c knows the order of stages.
 */
#ifndef SQ_GPTQ_JOB_H
#define SQ_GPTQ_JOB_H

#include "base/status.h"
#include "config/config.h"
#include "gptq/beside.h"
#include "gptq/factor.h"
#include "gptq/hessian.h"
#include "gptq/layers.h"
#include "gptq/memory_plan.h"
#include "gptq/place.h"
#include "gptq/shards.h"
#include "gptq/spread.h"
#include "io/state.h"
#include "io/store.h"
#include "io/tokens.h"
#include "model/forward.h"
#include "model/model.h"
#include "mpi/comm.h"

/* Where the wall time of a run goes. */
enum sq_stage {
    SQ_STAGE_READ, /* opening, embedding, small tensors */
    SQ_STAGE_FORWARD,
    SQ_STAGE_HESSIAN,
    SQ_STAGE_FACTOR,
    SQ_STAGE_SOLVE, /* with reading the rows and refinement */
    SQ_STAGE_GATHER,
    SQ_STAGE_STORE, /* store and state files */
    SQ_STAGE_ASSEMBLE,
    SQ_N_STAGES
};

const char *sq_stage_name(enum sq_stage stage);

struct sq_job {
    const struct sq_config *config;
    const struct sq_comm *world;
    struct sq_comm team; /* ranks that solve a block together: the world, or a part of it (propagation: original) */
    int n_teams, team_index;
    struct sq_place place;
    struct sq_backend *backend; /* the place's */
    struct sq_checkpoint *checkpoint;
    uint64_t model_hash; /* sq_checkpoint_fingerprint() */
    struct sq_model *model;
    struct sq_tokens tokens;
    struct sq_shards shards;
    struct sq_layers layers;
    enum sq_dtype compute;
    char *fingerprint, *config_yaml, *store_path;
    struct sq_memory_plan memory;
    struct sq_forward *forward;
    struct sq_store *store;
    bool is_new;          /* the store was made by this job */
    int n_flagged_before; /* layers in it that earlier runs warned of, and this one does not make again */
    struct sq_state *state;
    int64_t state_block; /* block before which the saved activations stand; -1: none */
    struct sq_hessian_workspace hessian;
    struct sq_factor factor;
    void *records;  /* of one group of linears: memory of alloc_host */
    float *staging; /* rows on their way into it, [workers] of staging_elements; NULL: not needed */
    int64_t staging_elements;
    size_t scratch_stride;
    char *scratch; /* [workers] of scratch_stride bytes in backend memory: a tile's weights, then the solver's */
    struct sq_ahead ahead;
    struct sq_behind behind;
    double seconds[SQ_N_STAGES];
};

/* Opens model and tokens, resolves settings, makes or opens the store, takes all memory. Collective. */
enum sq_status sq_job_open(const struct sq_config *config, const struct sq_comm *world,
                           struct sq_job **job_p) SQ_MUST_CHECK;

/* Layers complete in the store, and whether that is all of them. Local. */
int sq_job_n_done(const struct sq_job *job);
bool sq_job_is_complete(const struct sq_job *job);

/* Gives back what only the run needs: activations, weights, Hessian, factor. Local. */
void sq_job_release_buffers(struct sq_job *job);

/* Closes everything; status: how the job ended. A complete job's state file is removed, and so is the store of a job
 * that failed before its first layer was done. Collective. NULL is fine. */
void sq_job_close(struct sq_job *job, enum sq_status status);

/* Adds the time since *since to a stage, and to the trace, and moves *since to now. */
void sq_job_clock(struct sq_job *job, enum sq_stage stage, double *since);

#endif
