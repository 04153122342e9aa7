/* 16-bit floats, and the element types. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/half.h"
#include "tensor/dtype.h"

/* --- 16-bit floats ------------------------------------------------------------------------------------------------ */

struct half_format {
    int exponent_bits, mantissa_bits;
    float (*to_f32)(uint16_t bits);
    uint16_t (*from_f32)(float value);
};

static const struct half_format f16 = {5, 10, sq_f16_to_f32, sq_f32_to_f16};
static const struct half_format bf16 = {8, 7, sq_bf16_to_f32, sq_f32_to_bf16};

/* The definition: (-1)^s 2^(e - bias) (1 + m / 2^M), or without the 1 and with e = 1 when e is 0. */
static double reference_decode(const struct half_format *format, uint16_t bits)
{
    int M = format->mantissa_bits, e_max = (1 << format->exponent_bits) - 1, bias = e_max / 2;
    int mantissa = bits & ((1 << M) - 1), exponent = (bits >> M) & e_max;
    double sign = bits & 0x8000 ? -1 : 1;
    if (exponent == e_max) return mantissa ? NAN : sign * INFINITY;
    if (exponent == 0) return sign * ldexp(mantissa, 1 - bias - M);
    return sign * ldexp((1 << M) + mantissa, exponent - bias - M);
}

/* Nearest value of the format by its definition: round |x| / ulp to even, in double, which is exact here. */
static double reference_round(const struct half_format *format, double value)
{
    int M = format->mantissa_bits, bias = (1 << format->exponent_bits) / 2 - 1, exponent;
    if (isnan(value) || isinf(value) || value == 0) return value;
    frexp(value, &exponent); /* |value| in [2^(exponent - 1), 2^exponent) */
    double ulp = ldexp(1, (exponent - 1 < 1 - bias ? 1 - bias : exponent - 1) - M);
    double rounded = nearbyint(value / ulp) * ulp;
    return fabs(rounded) >= ldexp(1, bias + 1) ? copysign(INFINITY, value) : rounded;
}

static int is_same(double a, double b)
{
    return isnan(a) ? isnan(b) : a == b && !signbit(a) == !signbit(b);
}

static void check_decode(const struct half_format *format)
{
    for (int bits = 0; bits < 65536; bits++) {
        float value = format->to_f32((uint16_t)bits);
        assert_true(is_same(value, reference_decode(format, (uint16_t)bits)));
        if (!isnan(value)) assert_int_equal(format->from_f32(value), bits);
        if (isnan(value)) assert_true(isnan(format->to_f32(format->from_f32(value))));
    }
}

static void check_encode(const struct half_format *format, float value)
{
    double rounded = reference_round(format, value);
    if (!is_same(format->to_f32(format->from_f32(value)), rounded))
        fail_msg("%a became %a, not %a", (double)value, (double)format->to_f32(format->from_f32(value)), rounded);
}

/* Every value of the format, the points half-way to its neighbours, and their next floats on both sides. */
static void check_boundaries(const struct half_format *format)
{
    for (int bits = 0; bits < 65536; bits++) {
        double low = reference_decode(format, (uint16_t)bits), high = reference_decode(format, (uint16_t)(bits + 1));
        if (isnan(low) || isnan(high)) continue;
        if (isinf(low)) continue;
        if (isinf(high)) high = low + (low - reference_decode(format, (uint16_t)(bits - 1)));
        float half_way = (float)((low + high) / 2);
        check_encode(format, half_way);
        check_encode(format, nextafterf(half_way, -INFINITY));
        check_encode(format, nextafterf(half_way, INFINITY));
    }
}

static void check_random(const struct half_format *format)
{
    uint32_t bits = 1;
    for (int i = 0; i < 1000000; i++) {
        bits = bits * 1664525u + 1013904223u;
        check_encode(format, sq_f32_from_bits(bits));
    }
}

static void test_half_formats(void **state)
{
    (void)state;
    const struct half_format *formats[] = {&f16, &bf16};
    for (int i = 0; i < 2; i++) {
        check_decode(formats[i]);
        check_boundaries(formats[i]);
        check_random(formats[i]);
    }
}

/* A NaN whose upper mantissa bits are zero must not round to infinity. */
static void test_half_nan(void **state)
{
    (void)state;
    static const uint32_t nans[] = {0x7f800001u, 0xff800001u, 0x7fffffffu, 0xffffffffu, 0x7fc00000u};
    for (size_t i = 0; i < sizeof nans / sizeof *nans; i++) {
        float value = sq_f32_from_bits(nans[i]);
        assert_true(isnan(sq_f16_to_f32(sq_f32_to_f16(value))));
        assert_true(isnan(sq_bf16_to_f32(sq_f32_to_bf16(value))));
        assert_int_equal(sq_f32_to_f16(value) >> 15, nans[i] >> 31);
        assert_int_equal(sq_f32_to_bf16(value) >> 15, nans[i] >> 31);
    }
}

/* --- element types ------------------------------------------------------------------------------------------------ */

static void test_dtype_names(void **state)
{
    (void)state;
    for (int i = SQ_F32; i <= SQ_BOOL; i++) {
        assert_int_equal(sq_dtype_parse(sq_dtype_name((enum sq_dtype)i)), i);
        assert_in_range(sq_dtype_size((enum sq_dtype)i), 1, 8);
    }
    assert_int_equal(sq_dtype_size(SQ_BF16), 2);
    assert_int_equal(sq_dtype_parse("bf16"), -1);
    assert_int_equal(sq_dtype_parse(""), -1);
}

/* The vector loops give what the single conversions give: every length up to 40, every address. */
static void test_dtype_arrays(void **state)
{
    (void)state;
    enum { N = 65536 };
    uint16_t *source = malloc(N * sizeof *source), *back = malloc(N * sizeof *back);
    float *values = malloc(N * sizeof *values);
    for (int i = 0; i < N; i++)
        source[i] = (uint16_t)(i * 40503u);
    for (int format = 0; format < 2; format++) {
        enum sq_dtype dtype = format ? SQ_BF16 : SQ_F16;
        const struct half_format *reference = format ? &bf16 : &f16;
        sq_dtype_to_f32(dtype, source, N, values);
        sq_dtype_from_f32(values, N, dtype, back);
        for (int i = 0; i < N; i++) {
            assert_true(is_same(values[i], reference_decode(reference, source[i])));
            if (!isnan(values[i])) assert_int_equal(back[i], source[i]);
        }
        for (int shift = 0; shift < 8; shift++) {
            unsigned char bytes[100];
            int count = 40 - shift;
            memcpy(bytes + shift, source, (size_t)count * 2);
            values[count] = 7;
            sq_dtype_to_f32(dtype, bytes + shift, count, values);
            for (int i = 0; i < count; i++)
                assert_true(is_same(values[i], reference_decode(reference, source[i])));
            assert_true(values[count] == 7);
        }
    }
    free(values);
    free(back);
    free(source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_half_formats),
        cmocka_unit_test(test_half_nan),
        cmocka_unit_test(test_dtype_names),
        cmocka_unit_test(test_dtype_arrays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
