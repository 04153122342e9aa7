/* A run that computes nothing: the stages of run.c in their order, on a dry backend and a dry communicator, as the rank
 * with the largest share goes through them. It gives the time of each stage on a machine, and what a rank sends. */
#ifndef SQ_GPTQ_SIMULATE_H
#define SQ_GPTQ_SIMULATE_H

#include "config/machine.h"
#include "gptq/job.h"
#include "gptq/memory_plan.h"

/* What a stage waits for. */
enum sq_limit { SQ_LIMIT_COMPUTE, SQ_LIMIT_LINK, SQ_LIMIT_FILE, SQ_N_LIMITS };

struct sq_simulation {
    double seconds[SQ_N_STAGES][SQ_N_LIMITS];
    struct sq_traffic traffic; /* of the rank with the largest share */
};

/* Refinement stops when a round gains little: so many rounds are planned for, where as many are allowed. SmolLM2 took
 * two on average, at 4 bits. */
#define SQ_SIMULATE_ROUNDS 2

/* request: of the rank with the largest share of the samples, the job's by n_job_samples; its model may be bare, its
 * n_workers those of a rank; memory: the plan for it. Takes no backend and sends nothing. Local. */
enum sq_status sq_simulate(const struct sq_memory_request *request, const struct sq_memory_plan *memory,
                           const struct sq_machine *machine, int n_ranks,
                           struct sq_simulation *simulation_p) SQ_MUST_CHECK;

/* Ranks that solve a block together, of the smallest team. Local. */
int sq_simulate_team_ranks(const struct sq_memory_request *request, int n_ranks);

/* Seconds of one factorization of a layer with n inputs, made by each of n_ranks ranks for itself or by all of them
 * together; request and machine as above. Local. */
enum sq_status sq_simulate_factor(const struct sq_memory_request *request, const struct sq_machine *machine,
                                  int n_ranks, int64_t n, bool is_spread, double *seconds_p) SQ_MUST_CHECK;

/* Bytes of a weight in the model's files, by config.json. Local. */
double sq_simulate_weight_bytes(const struct sq_model *model);

#endif
