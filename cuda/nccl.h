/* Collectives between the devices of a communicator's ranks, by NCCL. */
#ifndef SQ_CUDA_NCCL_H
#define SQ_CUDA_NCCL_H

#include "mpi/comm.h"
#include "tensor/backend.h"

/* Makes comm->device for CUDA backends, each rank with a device of its own; destroyed with its destroy(). Work goes on
 * a stream of its own, after what the main thread's worker was given, and is waited for. A rank that cannot take part
 * in a collective says why and ends the whole job, as NCCL need not tell the others; so does one that hears from NCCL
 * that another is lost. Ranks that stay silent are the business of base/watch.h, which ends the process. Collective. */
enum sq_status sq_nccl_attach(struct sq_comm *comm, struct sq_backend *backend) SQ_MUST_CHECK;

#endif
