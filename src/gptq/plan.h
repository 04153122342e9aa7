/* What a job would take on a machine, known from the model's shapes alone: memory by kind, time by stage, bytes that
 * are sent, files, who owns what. */
#ifndef SQ_GPTQ_PLAN_H
#define SQ_GPTQ_PLAN_H

#include "config/machine.h"
#include "gptq/memory_plan.h"
#include "gptq/simulate.h"

/* Operations of the whole job, all ranks together; a multiply-add counts as two. */
struct sq_plan_work {
    double forward; /* linears and attention */
    double hessian; /* lower triangles */
    double factor;  /* n^3 / 3; every rank does all of it */
    double solve;   /* rows n^2 */
    double refine;  /* at most: rounds of scales and two sweeps */
};

/* The factorization of layers with n inputs, by each rank of a team for itself or by all of them together. */
struct sq_plan_factor {
    int64_t n;
    double alone, shared; /* seconds */
};

#define SQ_PLAN_FACTORS 8 /* widths; more are not listed */

/* The plan for one number of ranks. */
struct sq_plan {
    int n_ranks;
    int64_t limit, host_limit;    /* bytes that a rank may take of the backend's memory, and of the host's beside */
    bool fits;                    /* memory and limits */
    struct sq_memory_plan memory; /* of the rank with the largest share */
    struct sq_simulation run;     /* likewise; its stages take so long on every rank */
    double seconds;
    int64_t store_bytes, state_bytes;               /* files */
    struct sq_plan_factor factors[SQ_PLAN_FACTORS]; /* of the widths that all ranks of a team solve together, without
                                                     * experts; the narrowest first */
    int n_factors;
    int64_t spread_from; /* inputs from which on a run shares them */
};

/* request->n_samples and length are the job's (n_job_samples is not looked at), its n_workers a rank's, its limit what
 * --memory says: 0 leaves it to the machine. Local. */
enum sq_status sq_plan_make(const struct sq_memory_request *request, const struct sq_machine *machine, int n_ranks,
                            struct sq_plan *plan_p) SQ_MUST_CHECK;

/* Inputs of the narrowest of plan->factors from which on sharing is faster; 0: of none. Local. */
int64_t sq_plan_faster_from(const struct sq_plan *plan);

/* Inputs of a layer from which on the ranks of a job share its factorization, all of them or those of a team: as
 * --spread-factors says; where that leaves it open, those from which on it is faster on this machine; where there is
 * none (NULL) or it says nothing of links, the traits'. SQ_FACTOR_ALONE: never. It changes no bits. Local. */
enum sq_status sq_plan_spread_from(const struct sq_memory_request *request, const struct sq_machine *machine,
                                   int n_ranks, int64_t *spread_from_p) SQ_MUST_CHECK;

/* The number of ranks that is worth having, among the powers of two: twice as many would take more than 9/10 of its
 * time, or more memory than they have where they share a node. *n_ranks_p 0: the job fits no number of ranks. Local. */
enum sq_status sq_plan_useful_ranks(const struct sq_memory_request *request, const struct sq_machine *machine,
                                    int *n_ranks_p) SQ_MUST_CHECK;

/* Seconds of a stage, and the stage and the reason that take most of all. Local. */
double sq_plan_stage_seconds(const struct sq_plan *plan, enum sq_stage stage);
void sq_plan_limit(const struct sq_plan *plan, enum sq_stage *stage_p, enum sq_limit *limit_p);

/* Operations of the job. Local. */
void sq_plan_count_work(const struct sq_memory_request *request, struct sq_plan_work *work_p);

#endif
