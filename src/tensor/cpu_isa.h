/* The instruction sets that kernels are compiled for, and this processor. */
#ifndef SQ_TENSOR_CPU_ISA_H
#define SQ_TENSOR_CPU_ISA_H

#include <stdbool.h>

#include "tensor/backend.h"

/* Whether this process may use it; false for all but generic on a processor other than x86-64. Local. */
bool sq_cpu_has(enum sq_isa isa);

#endif
