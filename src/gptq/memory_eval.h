/* What a rank of eval will take. */
#ifndef SQ_GPTQ_MEMORY_EVAL_H
#define SQ_GPTQ_MEMORY_EVAL_H

#include "gptq/memory_fit.h"

/* The most at once: one forward pass after the other leaves a model's final states, then those are scored. */
sq_memory_count_fn sq_memory_count_eval;

#endif
