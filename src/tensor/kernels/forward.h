/* Inner loops of the model's steps; see backend.h for what the steps mean. One row, or a part of one, at a time. */
#ifndef SQ_TENSOR_KERNELS_FORWARD_H
#define SQ_TENSOR_KERNELS_FORWARD_H

#include <stdbool.h>
#include <stdint.h>

typedef void sq_rotate_fn(void *x, int64_t n_heads, int64_t head_dim, int64_t n_frequencies, const float *cosine,
                          const float *sine);
typedef void sq_activation_fn(const float *x, int64_t n, float *y);

struct sq_forward_kernels {
    /* --- bf16 bit patterns ---------------------------------------------------------------------------------------- */
    void (*widen)(const uint16_t *x, int64_t n, float *y);
    void (*narrow)(const float *x, int64_t n, uint16_t *y); /* to nearest even */
    bool (*finite_f32)(const float *x, int64_t n);
    bool (*finite_bf16)(const uint16_t *x, int64_t n);

    /* --- elementwise; y may be x --------------------------------------------------------------------------------- */
    void (*add)(const float *x, int64_t n, float *y);          /* y += x */
    void (*multiply)(const float *x, int64_t n, float *y);     /* y *= x */
    void (*scale)(float factor, int64_t n, float *y);          /* y *= factor */
    void (*cap)(float factor, float cap, int64_t n, float *y); /* y = cap tanh(factor y / cap) */
    void (*ramp)(float factor, float slope, float first, int64_t n,
                 float *y); /* y[i] = factor y[i] + slope (first + i) */
    sq_activation_fn *silu, *relu, *gelu, *gelu_tanh, *clamped;
    void (*multiply_clamped)(const float *x, int64_t n, float *y); /* y *= what a gate counts for SQ_ACT_CLAMPED */

    /* --- norms ---------------------------------------------------------------------------------------------------- */
    float (*sum)(const float *x, int64_t n);
    float (*sum_squares)(const float *x, int64_t n, float shift); /* of x - shift */
    /* y = (x - shift) * factor * weight + bias; bias may be NULL */
    void (*normalize)(const float *x, int64_t n, float shift, float factor, const float *weight, const float *bias,
                      float *y);

    /* --- one row of all heads; cosine and sine are this position's [n_frequencies] ------------------------------- */
    sq_rotate_fn *rotate_halves_f32, *rotate_halves_bf16, *rotate_neighbours_f32, *rotate_neighbours_bf16;

    /* --- softmax -------------------------------------------------------------------------------------------------- */
    float (*max)(const float *x, int64_t n);                         /* -INFINITY for n = 0 */
    float (*exp_sum)(float *x, int64_t n, float scale, float shift); /* x = exp(x * scale - shift); returns their sum */
    /* the same into y; the sum is that of the unrounded values */
    float (*exp_sum_bf16)(const float *x, int64_t n, float scale, float shift, uint16_t *y);
    /* sum of exp(z - shift), and of exp(z - shift) * (z - other) */
    float (*exp_cross)(const float *z, const float *other, int64_t n, float shift, float *cross_p);
    float (*exp_only)(const float *z, int64_t n, float shift); /* sum of exp(z - shift) */
};

#endif
