/* What --strict makes of a job's warnings. */
#ifndef SQ_GPTQ_STRICT_H
#define SQ_GPTQ_STRICT_H

#include "base/log.h"
#include "gptq/job.h"

/* What all ranks have warned of since they began, by kind. Collective on job->world. */
enum sq_status sq_strict_count(const struct sq_job *job, int64_t counts[SQ_N_WARNINGS]) SQ_MUST_CHECK;

/* SQ_ERR_STRICT under --strict when a layer was warned of, also by an earlier run, or there are counts of anything
 * else: rank 0 names each kind with its count. Of a log that was cut main.c speaks. The store has all layers. Local,
 * the same on all ranks. */
enum sq_status sq_strict_check(const struct sq_job *job, const int64_t counts[SQ_N_WARNINGS]) SQ_MUST_CHECK;

#endif
