#include "tensor/backend.h"

struct sq_matrix sq_matrix_part(struct sq_matrix m, int64_t row, int64_t rows, int64_t col, int64_t cols)
{
    char *data = (char *)m.data + (size_t)(row * m.stride + col) * sq_dtype_size(m.dtype);
    return (struct sq_matrix){data, m.dtype, rows, cols, m.stride};
}

double sq_attention_pairs(int64_t length, int64_t window)
{
    double whole = (double)length, full = window > 0 && window < length ? (double)window : whole;
    return full * (full + 1) / 2 + (whole - full) * full;
}

enum sq_status sq_backend_view(struct sq_backend *backend, const void *host, size_t bytes, void *room,
                               const void **view_p)
{
    if (!backend->is_host) SQ_TRY(backend->ops->upload(backend, host, bytes, room));
    *view_p = backend->is_host ? host : room;
    return SQ_OK;
}
