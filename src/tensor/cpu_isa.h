/* The instruction sets that kernels are compiled for, and this processor. */
#ifndef SQ_TENSOR_CPU_ISA_H
#define SQ_TENSOR_CPU_ISA_H

#include <stdbool.h>

#include "tensor/backend.h"

/* Whether this process may use it; false for all but generic on a processor other than x86-64. Local. */
bool sq_cpu_has(enum sq_isa isa);

/* Whether products of BF16 by these instructions take less time than products of F32: with tile registers; without them
 * on some processors. Told by the processor's kind and not by a clock, as bits depend on the answer. Local. */
bool sq_cpu_bf16_is_faster(enum sq_isa isa);

#endif
