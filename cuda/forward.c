/* The model's steps: each one kernel. */
#include "cuda/cuda_private.h"
#include "cuda/kernels/kernels.h"

static cudaStream_t stream_of(struct sq_backend *backend)
{
    return sq_cuda_worker(backend)->stream;
}

enum sq_status sq_cuda_take_rows(struct sq_backend *backend, struct sq_matrix table, int64_t first, const int32_t *ids,
                                 struct sq_matrix out)
{
    return sq_cuda_checked(sq_kernel_take_rows(stream_of(backend), table, first, ids, out), "taking rows");
}

enum sq_status sq_cuda_norm(struct sq_backend *backend, enum sq_norm_kind kind, struct sq_matrix x, const float *weight,
                            const float *bias, float epsilon, struct sq_matrix y)
{
    return sq_cuda_checked(sq_kernel_norm(stream_of(backend), kind, x, weight, bias, epsilon, y), "a norm");
}

enum sq_status sq_cuda_rope(struct sq_backend *backend, enum sq_rope_pairs pairs, struct sq_matrix x, int64_t head_dim,
                            int64_t n_frequencies, const float *cosine, const float *sine)
{
    return sq_cuda_checked(sq_kernel_rope(stream_of(backend), pairs, x, head_dim, n_frequencies, cosine, sine),
                           "a rotation");
}

enum sq_status sq_cuda_activate(struct sq_backend *backend, enum sq_activation kind, struct sq_matrix x,
                                struct sq_matrix gate, struct sq_matrix y)
{
    return sq_cuda_checked(sq_kernel_activate(stream_of(backend), kind, x, gate, y), "an activation");
}

enum sq_status sq_cuda_add(struct sq_backend *backend, struct sq_matrix x, struct sq_matrix y)
{
    return sq_cuda_checked(sq_kernel_add(stream_of(backend), x, y), "a sum");
}

enum sq_status sq_cuda_rescale(struct sq_backend *backend, float scale, float cap, struct sq_matrix z)
{
    if (z.rows == 0) return SQ_OK; /* a rank without samples */
    return sq_cuda_checked(sq_kernel_rescale(stream_of(backend), scale, cap, z), "a scaling");
}

enum sq_status sq_cuda_convert(struct sq_backend *backend, struct sq_matrix x, struct sq_matrix y)
{
    return sq_cuda_checked(sq_kernel_convert(stream_of(backend), x, y), "a conversion");
}

enum sq_status sq_cuda_copy_parts(struct sq_backend *backend, int64_t count, int64_t width, struct sq_matrix x,
                                  int64_t x_step, struct sq_matrix y, int64_t y_step)
{
    return sq_cuda_checked(sq_kernel_copy_parts(stream_of(backend), count, width, x, x_step, y, y_step),
                           "copying parts of heads");
}

enum sq_status sq_cuda_all_finite(struct sq_backend *backend, struct sq_matrix x, bool *finite_p)
{
    struct sq_cuda_worker *worker = sq_cuda_worker(backend);
    int bad = 0;
    SQ_TRY(sq_cuda_checked(sq_kernel_find_bad(worker->stream, x, worker->room), "looking for what is no number"));
    SQ_TRY(sq_cuda_fetch(worker, worker->room, &bad));
    *finite_p = bad == 0;
    return SQ_OK;
}

enum sq_status sq_cuda_softmax_fold(struct sq_backend *backend, struct sq_matrix z, struct sq_matrix other,
                                    int64_t first, struct sq_softmax *state)
{
    return sq_cuda_checked(sq_kernel_softmax_fold(stream_of(backend), z, other, first, state), "a softmax");
}

enum sq_status sq_cuda_pick(struct sq_backend *backend, struct sq_matrix z, int64_t first, const int32_t *ids,
                            float *out)
{
    return sq_cuda_checked(sq_kernel_pick(stream_of(backend), z, first, ids, out), "picking logits");
}
