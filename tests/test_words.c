/* The products of attention beside a double-precision loop, in every variant that this processor has. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/half.h"
#include "tensor/cpu_isa.h"
#include "tensor/kernels/attention.h"
#include "tensor/kernels/gram.h"
#include "tensor/kernels/kernels.h"

enum { MOST = 80, LANES = 16, ROWS = 3 * SQ_WORD_ROWS, STRIDE = MOST + 7 };

/* left [ROWS, MOST], keys [MOST, MOST] (transposed right factor), values [MOST, MOST] (right factor as it is) */
static float left[ROWS * STRIDE], right[MOST * STRIDE];
static uint16_t left_halves[ROWS * STRIDE], right_halves[MOST * STRIDE];
static float words[ROWS * MOST], c[ROWS * STRIDE];
static _Alignas(64) float packed[(MOST + LANES) * (MOST + LANES)];

struct variant {
    const struct sq_attention_kernels *attention;
    const struct sq_gram_kernels *gram;
};

/* Values that both types hold exactly. */
static void fill(int64_t count, float *values, uint16_t *halves)
{
    static uint32_t state = 1;
    for (int64_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        halves[i] = sq_f32_to_bf16((float)(state >> 8) / 8388608.0f - 1);
        values[i] = sq_bf16_to_f32(halves[i]);
    }
}

/* Sum over `terms` of left[i] with column j of the right factor. */
static double exact(bool transposed, int64_t terms, int64_t i, int64_t j)
{
    double sum = 0;
    for (int64_t k = 0; k < terms; k++)
        sum += (double)left[i * STRIDE + k] * (double)(transposed ? right[j * STRIDE + k] : right[k * STRIDE + j]);
    return sum;
}

static void pack(const struct variant *v, bool is_bf16, bool transposed, int64_t terms, int64_t cols)
{
    const int64_t steps = is_bf16 ? (terms + v->gram->pair - 1) / v->gram->pair : terms;
    memset(packed, 0xff, sizeof packed);
    if (transposed && is_bf16)
        v->attention->pack_keys_bf16(right_halves, STRIDE, cols, terms, packed);
    else if (transposed)
        v->attention->pack_keys_f32(right, STRIDE, cols, terms, packed);
    else if (is_bf16)
        v->gram->pack_bf16(right_halves, STRIDE, terms, cols, steps, packed);
    else
        v->gram->pack_f32(right, STRIDE, terms, cols, steps, packed);
}

static void check(const struct variant *v, bool is_bf16, bool transposed, int64_t terms, int64_t cols)
{
    int64_t lanes = v->gram->lanes, pair = is_bf16 ? v->gram->pair : 1, steps = (terms + pair - 1) / pair;
    int64_t whole = (cols + lanes - 1) / lanes * lanes;
    const struct sq_word_product product = {words, steps, packed, steps * lanes, ROWS, steps, whole, false, c, STRIDE};
    struct sq_word_product more = product;
    more.accumulate = true;
    memset(words, 0xff, sizeof words);
    for (int64_t i = 0; i < ROWS; i++)
        if (is_bf16)
            v->attention->words_bf16(left_halves + i * STRIDE, terms, words + i * steps);
        else
            v->attention->words_f32(left + i * STRIDE, terms, words + i * steps);
    pack(v, is_bf16, transposed, terms, cols);
    for (int i = 0; i < ROWS * STRIDE; i++)
        c[i] = -5;
    (is_bf16 ? v->attention->multiply_bf16 : v->attention->multiply_f32)(&product);
    (is_bf16 ? v->attention->multiply_bf16 : v->attention->multiply_f32)(&more);
    for (int64_t i = 0; i < ROWS; i++) {
        /* f32 sums of `terms` terms below one, twice */
        for (int64_t j = 0; j < cols; j++)
            assert_true(fabs((double)c[i * STRIDE + j] - 2 * exact(transposed, terms, i, j)) <=
                        (double)(terms * terms) * 0x1p-23);
        for (int64_t j = cols; j < whole; j++)
            assert_true(c[i * STRIDE + j] == 0);
        for (int64_t j = whole; j < STRIDE; j++)
            assert_true(c[i * STRIDE + j] == -5);
    }
}

static void check_variant(const struct variant *v)
{
    static const int64_t counts[] = {1, 2, 5, 16, 31, 32, 49, 64, 79};
    enum { N = sizeof counts / sizeof *counts };
    for (int t = 0; t < N; t++)
        for (int n = 0; n < N; n++)
            for (int kind = 0; kind < 4; kind++)
                check(v, kind & 1, kind & 2, counts[t], counts[n]);
}

#define VARIANT(isa)                                                                                                   \
    (const struct variant)                                                                                             \
    {                                                                                                                  \
        &sq_attention_kernels_##isa, &sq_gram_kernels_##isa                                                            \
    }

static void test_products(void **state)
{
    (void)state;
    fill(ROWS * STRIDE, left, left_halves);
    fill(MOST * STRIDE, right, right_halves);
    check_variant(&VARIANT(generic));
#if defined(__x86_64__)
    if (sq_cpu_has(SQ_ISA_AVX2)) check_variant(&VARIANT(avx2));
    if (sq_cpu_has(SQ_ISA_AVX512)) check_variant(&VARIANT(avx512));
    if (sq_cpu_has(SQ_ISA_AVX512BF16)) check_variant(&VARIANT(avx512bf16));
    if (sq_cpu_has(SQ_ISA_AMX)) check_variant(&VARIANT(amx));
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_products)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
