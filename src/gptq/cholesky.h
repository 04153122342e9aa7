/* Tile Cholesky of a positive definite matrix, on one rank or on several that share its columns of tiles. */
#ifndef SQ_GPTQ_CHOLESKY_H
#define SQ_GPTQ_CHOLESKY_H

#include "mpi/comm.h"
#include "tensor/backend.h"

/* matrix [n, n] f32 in the backend's memory, the same on every rank: its lower triangle becomes L on every rank, A = L
 * L', n^3/3 operations; what stands above the diagonal means nothing before and after. panel: backend memory of
 * sq_cholesky_panel_bytes(), not looked at with one rank. The same bits for any number of ranks and workers.
 * SQ_ERR_NUMERIC without a message, on all ranks, when the matrix is not positive definite. Collective on comm; on a
 * dry one this rank makes its own columns and waits for those of others. */
enum sq_status sq_cholesky_make(struct sq_backend *backend, const struct sq_comm *comm, void *panel,
                                struct sq_matrix matrix) SQ_MUST_CHECK;

/* Of a matrix of at most n_max rows. Local. */
size_t sq_cholesky_panel_bytes(const struct sq_sizes *sizes, int64_t n_max);

#endif
