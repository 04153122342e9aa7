/* The quantize job from model to store: the only place that knows the order of stages. */
#ifndef SQ_GPTQ_RUN_H
#define SQ_GPTQ_RUN_H

#include "gptq/job.h"

/* Quantizes every layer that is not complete in the store. SQ_STOPPED at a safe point after SIGTERM or SIGUSR1.
 * Collective. */
enum sq_status sq_run(struct sq_job *job) SQ_MUST_CHECK;

#endif
