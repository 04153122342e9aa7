#include "tensor/kernels/forward.h"

#include <math.h>
#include <string.h>

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#include "base/half.h"
#include "tensor/backend.h"
#include "tensor/kernels/kernels.h"

/* a * b + c, fused where the instruction set has it (contraction is off, so that nothing else fuses) */
#ifdef __FMA__
#define MADD(a, b, c) __builtin_fmaf(a, b, c)
#else
#define MADD(a, b, c) ((a) * (b) + (c))
#endif

/* exp of x <= 0 by x = n ln 2 + r, |r| <= ln 2 / 2, and the polynomial of degree 5 in r with the smallest relative
 * error (1.5e-7 with rounding) that is 1 at 0. Below -87 it stays at exp(-87), the last before the subnormal numbers;
 * NaN stays NaN. */
static inline float exp_one(float x)
{
    const float shift = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer in the low mantissa bits */
    x = -87.0f > x ? -87.0f : x;
    float shifted = MADD(x, 1.44269504f, shift);
    float n = shifted - shift;
    float r = MADD(n, -0.693359375f, x); /* ln 2 in two parts */
    r = MADD(n, 2.12194440e-4f, r);
    float p = MADD(r, 8.29027221e-3f, 4.18981612e-2f);
    p = MADD(p, r, 1.66676387e-1f);
    p = MADD(p, r, 4.99991477e-1f);
    p = MADD(p, r, 9.99999702e-1f);
    p = MADD(p, r, 1.0f);
    return sq_f32_from_bits(sq_f32_bits(p) + (sq_f32_bits(shifted) << 23)); /* times 2^n */
}

static void widen(const uint16_t *restrict x, int64_t n, float *restrict y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = sq_bf16_to_f32(x[i]);
}

static void narrow(const float *restrict x, int64_t n, uint16_t *restrict y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = sq_f32_to_bf16(x[i]);
}

/* An exponent of all ones is infinity or NaN. */
static bool finite_f32(const float *x, int64_t n)
{
    uint32_t bad = 0;
    for (int64_t i = 0; i < n; i++)
        bad |= (sq_f32_bits(x[i]) & 0x7f800000u) == 0x7f800000u;
    return bad == 0;
}

static bool finite_bf16(const uint16_t *x, int64_t n)
{
    uint16_t bad = 0;
    for (int64_t i = 0; i < n; i++)
        bad = (uint16_t)(bad | ((x[i] & 0x7f80u) == 0x7f80u));
    return bad == 0;
}

static void add(const float *restrict x, int64_t n, float *restrict y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += x[i];
}

static void multiply(const float *restrict x, int64_t n, float *restrict y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] *= x[i];
}

static void scale(float factor, int64_t n, float *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] *= factor;
}

/* tanh u by u + u^3 P(u^2) up to 0.625 (Cephes, S. Moshier: 2e-8 relative), by exp beyond. NaN stays NaN. */
static inline float tanh_one(float u)
{
    float size = u < 0.0f ? -u : u, z = u * u;
    float p = MADD(z, -5.70498872745e-3f, 2.06390887954e-2f);
    p = MADD(p, z, -5.37397155531e-2f);
    p = MADD(p, z, 1.33314422036e-1f);
    p = MADD(p, z, -3.33332819422e-1f);
    float small = MADD(p * z, u, u);
    float e = exp_one(-2.0f * size), large = (1.0f - e) / (1.0f + e);
    return size < 0.625f ? small : u < 0.0f ? -large : large;
}

static void cap(float factor, float bound, int64_t n, float *y)
{
    float inner = factor / bound;
    for (int64_t i = 0; i < n; i++)
        y[i] = bound * tanh_one(y[i] * inner);
}

static void ramp(float factor, float slope, float first, int64_t n, float *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = MADD(slope, first + (float)i, y[i] * factor);
}

/* x sigmoid(u), by exp of what is not positive: 1 / (1 + e) or e / (1 + e), e = exp(-|u|) */
static inline float times_sigmoid(float x, float u)
{
    float e = exp_one(u < 0.0f ? u : -u);
    return (u < 0.0f ? x * e : x) / (1.0f + e);
}

static void silu(const float *x, int64_t n, float *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = times_sigmoid(x[i], x[i]);
}

static void relu(const float *x, int64_t n, float *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] < 0.0f ? 0.0f : x[i]; /* NaN stays */
}

/* x / 2 (1 + erf(x / sqrt 2)), erf by Abramowitz and Stegun 7.1.26 (absolute error 1.5e-7) */
static void gelu(const float *x, int64_t n, float *y)
{
    for (int64_t i = 0; i < n; i++) {
        float u = x[i] * 0.70710678f, size = u < 0.0f ? -u : u;
        float t = 1.0f / MADD(size, 0.3275911f, 1.0f);
        float p = MADD(t, 1.061405429f, -1.453152027f);
        p = MADD(p, t, 1.421413741f);
        p = MADD(p, t, -0.284496736f);
        p = MADD(p, t, 0.254829592f);
        float tail = p * t * exp_one(-(u * u)); /* 1 - erf|u| */
        y[i] = 0.5f * x[i] * (u < 0.0f ? tail : 2.0f - tail);
    }
}

/* x / 2 (1 + tanh u) = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3) */
static void gelu_tanh(const float *x, int64_t n, float *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = times_sigmoid(x[i], 1.5957691f * x[i] * MADD(0.044715f * x[i], x[i], 1.0f));
}

static void clamped(const float *x, int64_t n, float *y)
{
    for (int64_t i = 0; i < n; i++) {
        float m = x[i] > SQ_CLAMP ? SQ_CLAMP : x[i]; /* NaN stays */
        y[i] = times_sigmoid(m, SQ_CLAMPED_SLOPE * m);
    }
}

static void multiply_clamped(const float *x, int64_t n, float *y)
{
    for (int64_t i = 0; i < n; i++) {
        float low = x[i] < -SQ_CLAMP ? -SQ_CLAMP : x[i], m = low > SQ_CLAMP ? SQ_CLAMP : low;
        y[i] *= m + 1.0f;
    }
}

static float sum(const float *x, int64_t n)
{
    float total = 0.0f;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < n; i++)
        total += x[i];
    return total;
}

static float sum_squares(const float *x, int64_t n, float shift)
{
    float total = 0.0f;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < n; i++)
        total += (x[i] - shift) * (x[i] - shift);
    return total;
}

static void normalize(const float *x, int64_t n, float shift, float factor, const float *weight, const float *bias,
                      float *y)
{
    if (!bias) {
        for (int64_t i = 0; i < n; i++)
            y[i] = (x[i] - shift) * factor * weight[i];
        return;
    }
    for (int64_t i = 0; i < n; i++)
        y[i] = MADD((x[i] - shift) * factor, weight[i], bias[i]);
}

/* (low, high) turned by the angle; the two halves of a head do not overlap. */
static inline void rotate_head_f32(float *restrict low, float *restrict high, int64_t n, const float *restrict cosine,
                                   const float *restrict sine)
{
    for (int64_t i = 0; i < n; i++) {
        float a = low[i], b = high[i];
        low[i] = a * cosine[i] - b * sine[i];
        high[i] = b * cosine[i] + a * sine[i];
    }
}

static inline void rotate_head_bf16(uint16_t *restrict low, uint16_t *restrict high, int64_t n,
                                    const float *restrict cosine, const float *restrict sine)
{
    for (int64_t i = 0; i < n; i++) {
        float a = sq_bf16_to_f32(low[i]), b = sq_bf16_to_f32(high[i]);
        low[i] = sq_f32_to_bf16(a * cosine[i] - b * sine[i]);
        high[i] = sq_f32_to_bf16(b * cosine[i] + a * sine[i]);
    }
}

/* (x[2 i], x[2 i + 1]) turned by the angle. */
static inline void rotate_neighbours(float *x, int64_t n, const float *restrict cosine, const float *restrict sine)
{
    for (int64_t i = 0; i < n; i++) {
        float a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = a * cosine[i] - b * sine[i];
        x[2 * i + 1] = b * cosine[i] + a * sine[i];
    }
}

static void rotate_neighbours_f32(void *row, int64_t n_heads, int64_t head_dim, int64_t n_frequencies,
                                  const float *cosine, const float *sine)
{
    float *head = row;
    for (int64_t h = 0; h < n_heads; h++, head += head_dim)
        rotate_neighbours(head, n_frequencies, cosine, sine);
}

static void rotate_neighbours_bf16(void *row, int64_t n_heads, int64_t head_dim, int64_t n_frequencies,
                                   const float *cosine, const float *sine)
{
    enum { PAIRS = 64 };
    uint16_t *head = row;
    float values[2 * PAIRS];
    for (int64_t h = 0; h < n_heads; h++, head += head_dim)
        for (int64_t first = 0, n; first < n_frequencies; first += n) {
            n = n_frequencies - first < PAIRS ? n_frequencies - first : PAIRS;
            widen(head + 2 * first, 2 * n, values);
            rotate_neighbours(values, n, cosine + first, sine + first);
            narrow(values, 2 * n, head + 2 * first);
        }
}

static void rotate_halves_f32(void *row, int64_t n_heads, int64_t head_dim, int64_t n_frequencies, const float *cosine,
                              const float *sine)
{
    float *head = row;
    for (int64_t h = 0; h < n_heads; h++, head += head_dim)
        rotate_head_f32(head, head + n_frequencies, n_frequencies, cosine, sine);
}

static void rotate_halves_bf16(void *row, int64_t n_heads, int64_t head_dim, int64_t n_frequencies, const float *cosine,
                               const float *sine)
{
    uint16_t *head = row;
    for (int64_t h = 0; h < n_heads; h++, head += head_dim)
        rotate_head_bf16(head, head + n_frequencies, n_frequencies, cosine, sine);
}

/* By lanes, enough of them to hide the latency of one addition or comparison; and compilers do not reorder a comparison
 * into lanes on their own. */
#define LANES 64

static float max(const float *x, int64_t n)
{
    float lanes[LANES], top = -INFINITY;
    int64_t i = 0;
    for (int j = 0; j < LANES; j++)
        lanes[j] = -INFINITY;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++)
            lanes[j] = x[i + j] > lanes[j] ? x[i + j] : lanes[j];
    for (int j = 0; j < LANES; j++)
        top = lanes[j] > top ? lanes[j] : top;
    for (; i < n; i++)
        top = x[i] > top ? x[i] : top;
    return top;
}

static float exp_sum(float *x, int64_t n, float factor, float shift)
{
    float lanes[LANES] = {0}, total = 0.0f;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) {
            x[i + j] = exp_one(MADD(x[i + j], factor, -shift));
            lanes[j] += x[i + j];
        }
    for (int64_t k = i; k < n; k++)
        x[k] = exp_one(MADD(x[k], factor, -shift));
    for (int64_t k = i; k < n; k++)
        total += x[k];
    for (int j = 0; j < LANES; j++)
        total += lanes[j];
    return total;
}

/* A block of positive normal numbers to bf16. */
static inline void narrow_lanes(const float *restrict x, uint16_t *restrict y)
{
#ifdef __AVX512BF16__
    for (int j = 0; j < LANES; j += 32) {
        __m512bh pair = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + j + 16), _mm512_loadu_ps(x + j));
        memcpy(y + j, &pair, sizeof pair);
    }
#else
    narrow(x, LANES, y);
#endif
}

static float exp_sum_bf16(const float *restrict x, int64_t n, float factor, float shift, uint16_t *restrict y)
{
    float lanes[LANES] = {0}, block[LANES], total = 0.0f;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int j = 0; j < LANES; j++) {
            block[j] = exp_one(MADD(x[i + j], factor, -shift));
            lanes[j] += block[j];
        }
        narrow_lanes(block, y + i);
    }
    for (; i < n; i++) {
        float e = exp_one(MADD(x[i], factor, -shift));
        y[i] = sq_f32_to_bf16(e);
        total += e;
    }
    for (int j = 0; j < LANES; j++)
        total += lanes[j];
    return total;
}

static float exp_cross(const float *z, const float *other, int64_t n, float shift, float *cross_p)
{
    float total = 0.0f, cross = 0.0f;
#pragma omp simd reduction(+ : total, cross)
    for (int64_t i = 0; i < n; i++) {
        float e = exp_one(z[i] - shift);
        total += e;
        cross += e * (z[i] - other[i]);
    }
    *cross_p = cross;
    return total;
}

static float exp_only(const float *z, int64_t n, float shift)
{
    float total = 0.0f;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < n; i++)
        total += exp_one(z[i] - shift);
    return total;
}

const struct sq_forward_kernels SQ_KERNEL(sq_forward_kernels) = {
    .widen = widen,
    .narrow = narrow,
    .finite_f32 = finite_f32,
    .finite_bf16 = finite_bf16,
    .add = add,
    .multiply = multiply,
    .scale = scale,
    .cap = cap,
    .ramp = ramp,
    .silu = silu,
    .relu = relu,
    .gelu = gelu,
    .gelu_tanh = gelu_tanh,
    .clamped = clamped,
    .multiply_clamped = multiply_clamped,
    .sum = sum,
    .sum_squares = sum_squares,
    .normalize = normalize,
    .rotate_halves_f32 = rotate_halves_f32,
    .rotate_halves_bf16 = rotate_halves_bf16,
    .rotate_neighbours_f32 = rotate_neighbours_f32,
    .rotate_neighbours_bf16 = rotate_neighbours_bf16,
    .max = max,
    .exp_sum = exp_sum,
    .exp_sum_bf16 = exp_sum_bf16,
    .exp_cross = exp_cross,
    .exp_only = exp_only,
};
