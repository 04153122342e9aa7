#include <assert.h>
#include <string.h>

#include "tensor/cpu_private.h"
#include "tensor/kernels/gram.h"
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

/* Rows of x in a word of its packed columns. */
static int64_t rows_per_word(struct sq_backend *backend, enum sq_dtype dtype)
{
    return dtype == SQ_BF16 ? ((struct sq_cpu *)backend)->gram->pair : 1;
}

static int64_t packed_steps(struct sq_backend *backend, struct sq_matrix x)
{
    int64_t pair = rows_per_word(backend, x.dtype);
    return (x.rows + pair - 1) / pair;
}

enum sq_status sq_cpu_gram_pack(struct sq_backend *backend, struct sq_matrix x, int64_t row, int64_t rows,
                                float *packed)
{
    const struct sq_gram_kernels *gram = ((struct sq_cpu *)backend)->gram;
    const void *values = sq_matrix_part(x, row, rows, 0, x.cols).data;
    float *words = packed + row / rows_per_word(backend, x.dtype) * gram->lanes;
    if (x.dtype == SQ_BF16)
        gram->pack_bf16(values, x.stride, rows, x.cols, packed_steps(backend, x), words);
    else
        gram->pack_f32(values, x.stride, rows, x.cols, packed_steps(backend, x), words);
    return SQ_OK;
}

enum sq_status sq_cpu_gram_add(struct sq_backend *backend, struct sq_matrix x, const float *packed, int64_t row,
                               const float *scale, struct sq_matrix sums)
{
    const struct sq_gram_kernels *gram = ((struct sq_cpu *)backend)->gram;
    assert(x.rows <= SQ_GRAM_ROWS); /* as the room has it */
    const struct sq_gram_packed words = {packed, packed_steps(backend, x), sq_cpu_room(backend)};
    if (x.dtype == SQ_BF16)
        gram->add_bf16(&words, row, sums.rows, scale, sums.data, sums.stride);
    else
        gram->add_f32(&words, row, sums.rows, scale, sums.data, sums.stride);
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

/* Squares of it at a time: reads and writes that go down columns stay in the cache. */
#define MIRROR_EDGE 16

static void mirror_square(float *values, int64_t stride, int64_t row, int64_t rows, int64_t col)
{
    for (int64_t j = col; j < col + MIRROR_EDGE; j++)
        for (int64_t i = j < row ? row : j + 1; i < row + rows; i++)
            values[j * stride + i] = values[i * stride + j];
}

enum sq_status sq_cpu_mirror(struct sq_backend *backend, struct sq_matrix m, int64_t row, int64_t rows)
{
    (void)backend;
    for (int64_t i = row; i < row + rows; i += MIRROR_EDGE) {
        int64_t count = row + rows - i < MIRROR_EDGE ? row + rows - i : MIRROR_EDGE;
        for (int64_t j = 0; j < i + count; j += MIRROR_EDGE)
            mirror_square(m.data, m.stride, i, count, j);
    }
    return SQ_OK;
}
