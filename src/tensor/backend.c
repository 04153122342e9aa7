#include "tensor/backend.h"

struct sq_matrix sq_matrix_part(struct sq_matrix m, int64_t row, int64_t rows, int64_t col, int64_t cols)
{
    char *data = (char *)m.data + (size_t)(row * m.stride + col) * sq_dtype_size(m.dtype);
    return (struct sq_matrix){data, m.dtype, rows, cols, m.stride};
}
