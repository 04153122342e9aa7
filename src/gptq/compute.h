/* Which arithmetic a job uses. */
#ifndef SQ_GPTQ_COMPUTE_H
#define SQ_GPTQ_COMPUTE_H

#include "base/status.h"
#include "config/config.h"
#include "mpi/comm.h"
#include "tensor/backend.h"

/* bf16 where it is the faster, unless the user chose. Local. */
static inline enum sq_dtype sq_compute_of(enum sq_compute wanted, bool bf16_is_faster)
{
    if (wanted == SQ_COMPUTE_AUTO) return bf16_is_faster ? SQ_BF16 : SQ_F32;
    return wanted == SQ_COMPUTE_FP32 ? SQ_F32 : SQ_BF16;
}

/* The dtype of weights, group inputs and products: bf16 where on every rank it is the faster, unless the user chose.
 * SQ_ERR_USAGE when bf16 was asked for and some rank lacks it. Collective. */
enum sq_status sq_compute_choose(const struct sq_comm *comm, const struct sq_backend *backend, enum sq_compute wanted,
                                 enum sq_dtype *compute_p) SQ_MUST_CHECK;

#endif
