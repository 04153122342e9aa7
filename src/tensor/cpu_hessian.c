#include <string.h>

#include "tensor/cpu_private.h"
#include "tensor/kernels/hessian.h"

static const struct sq_hessian_kernels *kernels(struct sq_backend *backend)
{
    return ((struct sq_cpu *)backend)->hessian;
}

static void add_last_rows(struct sq_matrix x, int64_t first, double *squares)
{
    float value;
    for (int64_t i = first; i < x.rows; i++)
        for (int64_t j = 0; j < x.cols; j++) {
            sq_dtype_to_f32(x.dtype, sq_matrix_part(x, i, 1, j, 1).data, 1, &value);
            squares[j] += (double)value * (double)value;
        }
}

enum sq_status sq_cpu_column_squares(struct sq_backend *backend, struct sq_matrix x, double *squares)
{
    int64_t whole = x.rows - x.rows % SQ_SQUARES_ROWS;
    memset(squares, 0, (size_t)x.cols * sizeof *squares);
    for (int64_t i = 0; i < whole; i += SQ_SQUARES_ROWS) {
        void *rows = sq_matrix_part(x, i, SQ_SQUARES_ROWS, 0, x.cols).data;
        if (x.dtype == SQ_BF16)
            kernels(backend)->add_squares_bf16(rows, x.stride, x.cols, squares);
        else
            kernels(backend)->add_squares_f32(rows, x.stride, x.cols, squares);
    }
    add_last_rows(x, whole, squares);
    return SQ_OK;
}

enum sq_status sq_cpu_fixed_add(struct sq_backend *backend, struct sq_matrix c, const float *row_scale,
                                const float *col_scale, struct sq_matrix sums)
{
    for (int64_t i = 0; i < c.rows; i++)
        kernels(backend)->fixed_add((const float *)c.data + i * c.stride, row_scale[i], col_scale, c.cols,
                                    (int64_t *)sums.data + i * sums.stride);
    return SQ_OK;
}

enum sq_status sq_cpu_fixed_get(struct sq_backend *backend, struct sq_matrix sums, const double *row_scale,
                                const double *col_scale, struct sq_matrix c)
{
    for (int64_t i = 0; i < c.rows; i++)
        kernels(backend)->fixed_get((const int64_t *)sums.data + i * sums.stride, row_scale[i], col_scale, c.cols,
                                    (float *)c.data + i * c.stride);
    return SQ_OK;
}

enum sq_status sq_cpu_mirror(struct sq_backend *backend, struct sq_matrix m, int64_t column, int64_t columns)
{
    (void)backend;
    float *values = m.data;
    for (int64_t i = 0; i < column + columns; i++)
        for (int64_t j = i < column ? column : i + 1; j < column + columns; j++)
            values[j * m.stride + i] = values[i * m.stride + j];
    return SQ_OK;
}
