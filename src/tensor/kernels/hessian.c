#include "tensor/kernels/hessian.h"

#include <stdbool.h>

#include "base/half.h"
#include "tensor/kernels/kernels.h"

#define LINE 64 /* bytes */

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* A line of each of the rows that come next: so short parts of rows the processor does not foresee. */
static inline void fetch_next(const void *x, int64_t stride_bytes)
{
    for (int64_t i = SQ_SQUARES_ROWS; i < 2 * SQ_SQUARES_ROWS; i++)
        __builtin_prefetch((const char *)x + i * stride_bytes);
}

static inline float value_at(const void *x, bool is_bf16, int64_t i)
{
    return is_bf16 ? sq_bf16_to_f32(((const uint16_t *)x)[i]) : ((const float *)x)[i];
}

/* Of either type; each gets its own loops. */
static inline __attribute__((always_inline)) void add_squares(const void *x, bool is_bf16, int64_t stride, int64_t n,
                                                              double *restrict squares)
{
    const int64_t size = is_bf16 ? (int64_t)sizeof(uint16_t) : (int64_t)sizeof(float), columns = LINE / size;
    for (int64_t first = 0; first < n; first += columns) {
        fetch_next((const char *)x + first * size, stride * size);
        for (int64_t j = first; j < smaller(first + columns, n); j++) {
            float sum = 0;
            for (int64_t i = 0; i < SQ_SQUARES_ROWS; i++) {
                float value = value_at(x, is_bf16, i * stride + j);
                sum += value * value;
            }
            squares[j] += (double)sum;
        }
    }
}

static void add_squares_f32(const float *x, int64_t stride, int64_t n, double *squares)
{
    add_squares(x, false, stride, n, squares);
}

static void add_squares_bf16(const uint16_t *x, int64_t stride, int64_t n, double *squares)
{
    add_squares(x, true, stride, n, squares);
}

static void fixed_get(const int64_t *restrict sums, double row_scale, const double *restrict col_scale, int64_t n,
                      float *restrict c)
{
    for (int64_t j = 0; j < n; j++)
        c[j] = (float)((double)sums[j] * row_scale * col_scale[j]);
}

const struct sq_hessian_kernels SQ_KERNEL(sq_hessian_kernels) = {
    .add_squares_f32 = add_squares_f32,
    .add_squares_bf16 = add_squares_bf16,
    .fixed_get = fixed_get,
};
