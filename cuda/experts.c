/* Mixtures of experts: routing, and rows on their way to experts and back; each one kernel. */
#include "cuda/cuda_private.h"
#include "cuda/kernels/kernels.h"

static cudaStream_t stream_of(struct sq_backend *backend)
{
    return sq_cuda_worker(backend)->stream;
}

enum sq_status sq_cuda_route(struct sq_backend *backend, const struct sq_routing *routing, struct sq_matrix scores,
                             struct sq_matrix chosen, struct sq_matrix weights)
{
    if (scores.rows == 0) return SQ_OK;
    return sq_cuda_checked(sq_kernel_route(stream_of(backend), routing, scores, chosen, weights), "routing");
}

enum sq_status sq_cuda_gather_rows(struct sq_backend *backend, struct sq_matrix x, const int32_t *ids,
                                   struct sq_matrix y)
{
    if (y.rows == 0) return SQ_OK;
    return sq_cuda_checked(sq_kernel_gather_rows(stream_of(backend), x, ids, y), "gathering rows");
}

enum sq_status sq_cuda_add_rows(struct sq_backend *backend, struct sq_matrix x, const int32_t *ids,
                                const float *weights, struct sq_matrix y)
{
    if (x.rows == 0) return SQ_OK;
    return sq_cuda_checked(sq_kernel_add_rows(stream_of(backend), x, ids, weights, y), "adding rows");
}

enum sq_status sq_cuda_gate_rows(struct sq_backend *backend, struct sq_matrix x, const float *w, struct sq_matrix y)
{
    if (x.rows == 0) return SQ_OK;
    return sq_cuda_checked(sq_kernel_gate_rows(stream_of(backend), x, w, y), "gating rows");
}
