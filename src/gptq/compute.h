/* Which arithmetic a job uses. */
#ifndef SQ_GPTQ_COMPUTE_H
#define SQ_GPTQ_COMPUTE_H

#include "base/status.h"
#include "config/config.h"
#include "mpi/comm.h"
#include "tensor/backend.h"

/* The dtype of weights, group inputs and products: bf16 where on every rank it is the faster, unless the user chose.
 * SQ_ERR_USAGE when bf16 was asked for and some rank lacks it. Collective. */
enum sq_status sq_compute_choose(const struct sq_comm *comm, const struct sq_backend *backend, enum sq_compute wanted,
                                 enum sq_dtype *compute_p) SQ_MUST_CHECK;

#endif
