/* What a job would take, known from the model's shapes alone: operations, bytes, memory, and a time for given rates. */
#ifndef SQ_GPTQ_PLAN_H
#define SQ_GPTQ_PLAN_H

#include "base/status.h"
#include "config/config.h"
#include "gptq/layers.h"
#include "gptq/memory_plan.h"
#include "model/model.h"

/* Rates of one worker; measured on this machine by sq_plan_measure_rates(). */
struct sq_plan_rates {
    double product_flops; /* products of the forward pass and the Hessians, per second, in the compute dtype */
    double f32_flops;     /* factor, solve and refinement */
};

/* Operations of the whole job, all ranks together; a multiply-add counts as two. */
struct sq_plan_work {
    double forward; /* linears and attention */
    double hessian; /* lower triangles */
    double factor;  /* n^3 / 3; every rank does all of it */
    double solve;   /* rows n^2 */
    double refine;  /* at most: rounds of scales and two sweeps */
};

/* The plan for one number of ranks. */
struct sq_plan {
    struct sq_plan_work work;
    struct sq_memory_plan memory;                                    /* of the rank with the largest share */
    int64_t store_bytes, state_bytes, reduced_bytes, gathered_bytes; /* files; sent by each rank in the whole job */
    double seconds; /* at the given rates, without reading, writing and sending */
};

/* Measures the rates with products of a block's shape, about a tenth of a second each. Local. */
enum sq_status sq_plan_measure_rates(struct sq_backend *backend, enum sq_dtype compute,
                                     struct sq_plan_rates *rates_p) SQ_MUST_CHECK;

/* request->n_samples and length are the job's (n_job_samples is not looked at); its n_workers a rank's; config gives
 * the rest. Local. */
enum sq_status sq_plan_make(const struct sq_memory_request *request, int n_ranks, const struct sq_plan_rates *rates,
                            struct sq_plan *plan_p) SQ_MUST_CHECK;

#endif
