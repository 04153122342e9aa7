/* Inner loops of the exact Hessian sums; see backend.h for what they mean. */
#ifndef SQ_TENSOR_KERNELS_HESSIAN_H
#define SQ_TENSOR_KERNELS_HESSIAN_H

#include <stdint.h>

#define SQ_SQUARES_ROWS 8

struct sq_hessian_kernels {
    /* squares[j] += sum over SQ_SQUARES_ROWS rows of x[:, j]^2, the few rows summed in f32 */
    void (*add_squares_f32)(const float *x, int64_t stride, int64_t n, double *squares);
    void (*add_squares_bf16)(const uint16_t *x, int64_t stride, int64_t n, double *squares);
    /* one row */
    void (*fixed_get)(const int64_t *sums, double row_scale, const double *col_scale, int64_t n, float *c);
};

#endif
