/* From a Hessian to what the solver needs: dead inputs, order, damping ladder, one factorization (n^3/3 operations). */
#ifndef SQ_GPTQ_FACTOR_H
#define SQ_GPTQ_FACTOR_H

#include "gptq/solve.h"
#include "mpi/comm.h"
#include "tensor/traits.h"

#define SQ_FACTOR_ALONE INT64_MAX /* as the inputs from which on ranks share a factorization: never */

/* Allocates a factor for layers up to n_max inputs; reused for every group, released with sq_factor_destroy().
 * spread_from: as sq_plan_spread_from() gives it. Local. */
enum sq_status sq_factor_create(struct sq_backend *backend, int64_t n_max, int64_t spread_from,
                                struct sq_factor *factor_p) SQ_MUST_CHECK;
void sq_factor_destroy(struct sq_backend *backend, struct sq_factor *factor);

/* Bytes that sq_factor_create() takes in the backend's memory beside the Hessian's, and of the host's. Local. */
size_t sq_factor_bytes(const struct sq_sizes *sizes, int64_t n_max, int64_t spread_from);
size_t sq_factor_host_bytes(int64_t n_max);

/* factor->hessian [n, n] has been filled by the caller (full, symmetric, undamped), alike on every rank; the rest is
 * made from it: dead inputs, order, H += damping * mean(diag H), tile Cholesky over the backend's workers and, from
 * spread_from inputs on, over the ranks of comm (cholesky.h), unit form.
 * The mean is over live inputs. Not positive definite: damping x 10 (from 0: 0.01) up to 1, then diagonal only, which
 * never fails for that reason. SQ_ERR_NUMERIC with a message when the diagonal holds a NaN, an infinity or a negative.
 * The same bits on every rank and for any number of ranks and workers. Collective on comm; a status that ranks do not
 * share is not yet agreed on. */
enum sq_status sq_factor_make(struct sq_backend *backend, const struct sq_comm *comm, int64_t n, enum sq_order order,
                              double damping, struct sq_factor *factor) SQ_MUST_CHECK;

#endif
