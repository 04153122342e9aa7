/* Whether all ranks of a job have been given the same: where a file or a program is an older one on some node, they
 * would wait for each other, or make bytes that no rank alone makes. Collective; SQ_ERR_USAGE on all ranks, the lowest
 * rank that differs from rank 0 says in what. */
#ifndef SQ_IO_ALIKE_H
#define SQ_IO_ALIKE_H

#include "base/status.h"
#include "config/config.h"
#include "io/checkpoint.h"
#include "mpi/comm.h"

/* The program's version and all settings but threads, memory, isa and the names of what is read, of the log and of the
 * trace. */
enum sq_status sq_alike_settings(const struct sq_comm *comm, const struct sq_config *config) SQ_MUST_CHECK;

/* By its fingerprint, sq_checkpoint_fingerprint() of this rank. */
enum sq_status sq_alike_model(const struct sq_comm *comm, const struct sq_checkpoint *checkpoint,
                              uint64_t fingerprint) SQ_MUST_CHECK;
/* The same, where nobody needs the fingerprint, which takes some reading; one rank does not. */
enum sq_status sq_alike_checkpoint(const struct sq_comm *comm, const struct sq_checkpoint *checkpoint) SQ_MUST_CHECK;

#endif
