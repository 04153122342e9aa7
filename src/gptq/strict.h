/* What --strict makes of a job's warnings. */
#ifndef SQ_GPTQ_STRICT_H
#define SQ_GPTQ_STRICT_H

#include "gptq/job.h"

/* SQ_ERR_STRICT under --strict when a layer was warned of, also by an earlier run, or anything else was, on any rank:
 * rank 0 names each kind with its count. Of a log that was cut main.c speaks. The store has all layers. Collective on
 * job->world, agreed on. */
enum sq_status sq_strict_check(const struct sq_job *job) SQ_MUST_CHECK;

#endif
