/* What a rank of verify will take. */
#ifndef SQ_GPTQ_MEMORY_VERIFY_H
#define SQ_GPTQ_MEMORY_VERIFY_H

#include "gptq/memory_fit.h"

sq_memory_count_fn sq_memory_count_verify;

/* Columns of a block of the quadratic forms that verify makes, and a worker's elements of F32 for them: weights and
 * errors of a tile, and a product; once in the host's memory and once in the backend's. Local. */
#define SQ_VERIFY_COLUMNS 256
int64_t sq_verify_room_elements(const struct sq_sizes *sizes, int64_t in_features);

/* Widest input of any linear, and figures of the rows of the one with most outputs, filled up to whole tiles. Local. */
int64_t sq_verify_widest_input(const struct sq_model *model);
int64_t sq_verify_n_figures(const struct sq_sizes *sizes, const struct sq_model *model);

#endif
