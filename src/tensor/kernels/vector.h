/* The few vector operations that the solver's kernels use, in the words of each instruction set. A `vec` holds
 * VEC_LANES floats; + - * work on it as on a float. Compilers fuse nothing by themselves (contraction is off):
 * vec_madd() says where a fused multiply-add is wanted. */
#ifndef SQ_TENSOR_KERNELS_VECTOR_H
#define SQ_TENSOR_KERNELS_VECTOR_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__) && defined(__AVX512BW__)
#include <immintrin.h>

typedef __m512 vec;
#define VEC_LANES 16

static inline vec vec_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

static inline void vec_store(float *p, vec a)
{
    _mm512_storeu_ps(p, a);
}

/* Past the caches; p is aligned as a vec. */
static inline void vec_stream(float *p, vec a)
{
    _mm512_stream_ps(p, a);
}

/* After the last one: other threads then see them as they see other stores. */
static inline void vec_streamed(void)
{
    _mm_sfence();
}

static inline vec vec_all(float a)
{
    return _mm512_set1_ps(a);
}

static inline vec vec_madd(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}

static inline vec vec_min(vec a, vec b)
{
    return _mm512_min_ps(a, b);
}

static inline vec vec_max(vec a, vec b)
{
    return _mm512_max_ps(a, b);
}

static inline vec vec_divide(vec a, vec b)
{
    return _mm512_div_ps(a, b);
}

/* To the nearest integer, ties to even. */
static inline vec vec_round(vec a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* Lane by lane: a < b ? yes : no. */
static inline vec vec_select_less(vec a, vec b, vec yes, vec no)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
}

static inline bool vec_any(vec a)
{
    return _mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_NEQ_UQ) != 0;
}

/* Small non-negative integers to bytes, and back. */
static inline void vec_store_u8(uint8_t *p, vec a)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a)));
}

static inline vec vec_load_u8(const uint8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}

#elif defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>

typedef __m256 vec;
#define VEC_LANES 8

static inline vec vec_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

static inline void vec_store(float *p, vec a)
{
    _mm256_storeu_ps(p, a);
}

static inline void vec_stream(float *p, vec a)
{
    _mm256_stream_ps(p, a);
}

static inline void vec_streamed(void)
{
    _mm_sfence();
}

static inline vec vec_all(float a)
{
    return _mm256_set1_ps(a);
}

static inline vec vec_madd(vec a, vec b, vec c)
{
    return _mm256_fmadd_ps(a, b, c);
}

static inline vec vec_min(vec a, vec b)
{
    return _mm256_min_ps(a, b);
}

static inline vec vec_max(vec a, vec b)
{
    return _mm256_max_ps(a, b);
}

static inline vec vec_divide(vec a, vec b)
{
    return _mm256_div_ps(a, b);
}

static inline vec vec_round(vec a)
{
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline vec vec_select_less(vec a, vec b, vec yes, vec no)
{
    return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}

static inline bool vec_any(vec a)
{
    return _mm256_movemask_ps(_mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_NEQ_UQ)) != 0;
}

static inline void vec_store_u8(uint8_t *p, vec a)
{
    __m256i words = _mm256_cvtps_epi32(a);
    __m128i halves = _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storel_epi64((__m128i *)(void *)p, _mm_packus_epi16(halves, halves));
}

static inline vec vec_load_u8(const uint8_t *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)));
}

#else

typedef float vec __attribute__((vector_size(16)));
typedef int32_t vec_bits __attribute__((vector_size(16)));
#define VEC_LANES 4

static inline vec vec_load(const float *p)
{
    vec a;
    memcpy(&a, p, sizeof a);
    return a;
}

static inline void vec_store(float *p, vec a)
{
    memcpy(p, &a, sizeof a);
}

static inline void vec_stream(float *p, vec a)
{
    vec_store(p, a);
}

static inline void vec_streamed(void)
{
}

static inline vec vec_all(float a)
{
    return (vec){a, a, a, a};
}

static inline vec vec_madd(vec a, vec b, vec c)
{
    return a * b + c;
}

static inline vec vec_select_less(vec a, vec b, vec yes, vec no)
{
    vec_bits mask = (vec_bits)(a < b);
    return (vec)((mask & (vec_bits)yes) | (~mask & (vec_bits)no));
}

static inline vec vec_min(vec a, vec b)
{
    return vec_select_less(a, b, a, b);
}

static inline vec vec_max(vec a, vec b)
{
    return vec_select_less(b, a, a, b);
}

static inline vec vec_divide(vec a, vec b)
{
    return a / b;
}

static inline vec vec_round(vec a)
{
    const vec shift = vec_all(12582912.0f); /* 1.5 * 2^23: what is below 1 in the sum is rounded away */
    const vec limit = vec_all(4194304.0f);  /* beyond 2^22 the result only has to stay large */
    a = vec_min(vec_max(a, -limit), limit);
    return (a + shift) - shift;
}

static inline bool vec_any(vec a)
{
    vec_bits equal = (vec_bits)(a == vec_all(0));
    return (equal[0] & equal[1] & equal[2] & equal[3]) == 0;
}

static inline void vec_store_u8(uint8_t *p, vec a)
{
    for (int i = 0; i < VEC_LANES; i++)
        p[i] = (uint8_t)a[i];
}

static inline vec vec_load_u8(const uint8_t *p)
{
    return (vec){(float)p[0], (float)p[1], (float)p[2], (float)p[3]};
}

#endif

/* A strip: one column's values in two vectors of rows; the sums of four columns then fit in eight registers. */
typedef struct {
    vec a, b;
} strip;
#define STRIP_ROWS (2 * VEC_LANES)

static inline strip strip_load(const float *p)
{
    return (strip){vec_load(p), vec_load(p + VEC_LANES)};
}

static inline void strip_store(float *p, strip x)
{
    vec_store(p, x.a);
    vec_store(p + VEC_LANES, x.b);
}

static inline strip strip_all(float value)
{
    vec v = vec_all(value);
    return (strip){v, v};
}

static inline strip strip_add(strip x, strip y)
{
    return (strip){x.a + y.a, x.b + y.b};
}

static inline strip strip_subtract(strip x, strip y)
{
    return (strip){x.a - y.a, x.b - y.b};
}

static inline strip strip_multiply(strip x, strip y)
{
    return (strip){x.a * y.a, x.b * y.b};
}

static inline strip strip_divide(strip x, strip y)
{
    return (strip){vec_divide(x.a, y.a), vec_divide(x.b, y.b)};
}

/* x * y + z */
static inline strip strip_madd(strip x, strip y, strip z)
{
    return (strip){vec_madd(x.a, y.a, z.a), vec_madd(x.b, y.b, z.b)};
}

/* factor * x + z */
static inline strip strip_scaled(float factor, strip x, strip z)
{
    vec f = vec_all(factor);
    return (strip){vec_madd(f, x.a, z.a), vec_madd(f, x.b, z.b)};
}

static inline strip strip_min(strip x, strip y)
{
    return (strip){vec_min(x.a, y.a), vec_min(x.b, y.b)};
}

static inline strip strip_max(strip x, strip y)
{
    return (strip){vec_max(x.a, y.a), vec_max(x.b, y.b)};
}

/* round(x), held to [low, high] */
static inline strip strip_round_between(strip x, strip low, strip high)
{
    strip r = {vec_round(x.a), vec_round(x.b)};
    return strip_min(strip_max(r, low), high);
}

static inline strip strip_select_less(strip x, strip y, strip yes, strip no)
{
    return (strip){vec_select_less(x.a, y.a, yes.a, no.a), vec_select_less(x.b, y.b, yes.b, no.b)};
}

static inline bool strip_any(strip x)
{
    return vec_any(x.a) || vec_any(x.b);
}

static inline void strip_store_u8(uint8_t *p, strip x)
{
    vec_store_u8(p, x.a);
    vec_store_u8(p + VEC_LANES, x.b);
}

static inline strip strip_load_u8(const uint8_t *p)
{
    return (strip){vec_load_u8(p), vec_load_u8(p + VEC_LANES)};
}

#endif
