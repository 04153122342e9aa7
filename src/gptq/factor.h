/* From a Hessian to what the solver needs: dead inputs, order, damping ladder, one factorization (n^3/3 operations). */
#ifndef SQ_GPTQ_FACTOR_H
#define SQ_GPTQ_FACTOR_H

#include "gptq/solve.h"

/* Allocates a factor for layers up to n_max inputs; reused for every group, released with sq_factor_destroy(). Local.
 */
enum sq_status sq_factor_create(struct sq_backend *backend, int64_t n_max, struct sq_factor *factor_p) SQ_MUST_CHECK;
void sq_factor_destroy(struct sq_backend *backend, struct sq_factor *factor);

/* Bytes that sq_factor_create(n_max) takes in the backend's memory beside the Hessian's, and of the host's. Local. */
size_t sq_factor_bytes(int64_t n_max);
size_t sq_factor_host_bytes(int64_t n_max);

/* factor->hessian [n, n] has been filled by the caller (full, symmetric, undamped); the rest is made from it:
 * dead inputs, order, H += damping * mean(diag H), tile Cholesky in parallel over the backend's workers, unit form.
 * The mean is over live inputs. Not positive definite: damping x 10 (from 0: 0.01) up to 1, then diagonal only, which
 * never fails for that reason. SQ_ERR_NUMERIC with a message when the diagonal holds a NaN, an infinity or a negative.
 * Local; the same bits on every rank and for any number of workers. */
enum sq_status sq_factor_make(struct sq_backend *backend, int64_t n, enum sq_order order, double damping,
                              struct sq_factor *factor) SQ_MUST_CHECK;

#endif
