#include "tensor/kernels/hessian.h"

#include <string.h>

#include "tensor/kernels/kernels.h"

static float from_bf16(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

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

static void add_squares_f32(const float *restrict x, int64_t stride, int64_t n, double *restrict squares)
{
    const int64_t columns = LINE / (int64_t)sizeof *x;
    for (int64_t first = 0; first < n; first += columns) {
        fetch_next(x + first, stride * (int64_t)sizeof *x);
        for (int64_t j = first; j < smaller(first + columns, n); j++) {
            float sum = 0;
            for (int64_t i = 0; i < SQ_SQUARES_ROWS; i++)
                sum += x[i * stride + j] * x[i * stride + j];
            squares[j] += (double)sum;
        }
    }
}

static void add_squares_bf16(const uint16_t *restrict x, int64_t stride, int64_t n, double *restrict squares)
{
    const int64_t columns = LINE / (int64_t)sizeof *x;
    for (int64_t first = 0; first < n; first += columns) {
        fetch_next(x + first, stride * (int64_t)sizeof *x);
        for (int64_t j = first; j < smaller(first + columns, n); j++) {
            float sum = 0;
            for (int64_t i = 0; i < SQ_SQUARES_ROWS; i++)
                sum += from_bf16(x[i * stride + j]) * from_bf16(x[i * stride + j]);
            squares[j] += (double)sum;
        }
    }
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
