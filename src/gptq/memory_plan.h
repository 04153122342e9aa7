/* What a rank of quantize will take, before it takes it. */
#ifndef SQ_GPTQ_MEMORY_PLAN_H
#define SQ_GPTQ_MEMORY_PLAN_H

#include "gptq/memory_fit.h"

/* sq_memory_fit() and sq_memory_fit_or_say() with this counting. */
sq_memory_count_fn sq_memory_count_quantize;
bool sq_memory_plan_count(const struct sq_memory_request *request, struct sq_memory_plan *plan_p);
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
