/* The packed product of the Hessian beside a double-precision loop, in every variant that this processor has. */
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
#include "tensor/kernels/gram.h"
#include "tensor/kernels/kernels.h"

enum { MOST_ROWS = SQ_GRAM_ROWS, MOST_COLS = 152, STRIDE = MOST_COLS + 5, FROM = 32, PART = 26 };

static float inputs[MOST_ROWS * STRIDE], scale[MOST_COLS];
static uint16_t halves[MOST_ROWS * STRIDE];
static _Alignas(64) float packed[MOST_ROWS * (MOST_COLS + 16)];
static _Alignas(64) float room[SQ_GRAM_ROOM_ROWS * SQ_GRAM_ROWS / 2];
static int64_t sums[MOST_COLS * STRIDE];

/* Values that both types hold exactly. */
static void make_inputs(void)
{
    uint32_t state = 1;
    for (int i = 0; i < MOST_ROWS * STRIDE; i++) {
        state = state * 1664525u + 1013904223u;
        halves[i] = sq_f32_to_bf16((float)(state >> 8) / 8388608.0f - 1);
        inputs[i] = sq_bf16_to_f32(halves[i]);
    }
    for (int j = 0; j < MOST_COLS; j++)
        scale[j] = ldexpf(1, 16 + j % 5);
}

static double exact(int64_t rows, int64_t i, int64_t j)
{
    double sum = 0;
    for (int64_t t = 0; t < rows; t++)
        sum += (double)inputs[t * STRIDE + i] * (double)inputs[t * STRIDE + j];
    return sum * (double)scale[i] * (double)scale[j];
}

/* f32 sums of `rows` terms below one; what is beyond the panel stays as it was. */
static void check_panel(int64_t rows, int64_t row, int64_t cols)
{
    for (int64_t i = row; i < cols; i++)
        for (int64_t j = 0; j <= i; j++) {
            double bound = 1 + (double)(rows * rows) * 0x1p-24 * (double)scale[i] * (double)scale[j];
            assert_true(fabs((double)(sums[(i - row) * STRIDE + j] - j) - exact(rows, i, j)) <= bound);
        }
    for (int64_t i = row; i < cols; i++)
        for (int64_t j = cols; j < STRIDE; j++)
            assert_int_equal(sums[(i - row) * STRIDE + j], j);
    for (int64_t j = 0; j < STRIDE; j++)
        assert_int_equal(sums[(cols - row) * STRIDE + j], j);
}

/* In parts, as several workers would. */
static void pack(const struct sq_gram_kernels *kernels, bool is_bf16, int64_t rows, int64_t cols, int64_t steps)
{
    for (int64_t row = 0; row < rows; row += PART) {
        int64_t count = rows - row < PART ? rows - row : PART;
        float *words = packed + row / (is_bf16 ? kernels->pair : 1) * kernels->lanes;
        if (is_bf16)
            kernels->pack_bf16(halves + row * STRIDE, STRIDE, count, cols, steps, words);
        else
            kernels->pack_f32(inputs + row * STRIDE, STRIDE, count, cols, steps, words);
    }
}

static void check(const struct sq_gram_kernels *kernels, bool is_bf16, int64_t rows, int64_t cols)
{
    int64_t pair = is_bf16 ? kernels->pair : 1;
    const struct sq_gram_packed words = {packed, (rows + pair - 1) / pair, room};
    memset(packed, 0xff, sizeof packed);
    for (int i = 0; i < MOST_COLS * STRIDE; i++)
        sums[i] = i % STRIDE;
    pack(kernels, is_bf16, rows, cols, words.steps);
    const int64_t row = cols > FROM ? FROM : 0;
    (is_bf16 ? kernels->add_bf16 : kernels->add_f32)(&words, row, cols - row, scale, sums, STRIDE);
    check_panel(rows, row, cols);
}

static void check_variant(const struct sq_gram_kernels *kernels)
{
    static const int64_t rows[] = {0, 1, 2, 7, 27, 64, 100}, cols[] = {1, 5, 16, 33, 49, 95, 112, 150};
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
        for (size_t c = 0; c < sizeof cols / sizeof *cols; c++)
            for (int is_bf16 = 0; is_bf16 < 2; is_bf16++)
                check(kernels, is_bf16, rows[r], cols[c]);
    for (int is_bf16 = 0; is_bf16 < 2; is_bf16++)
        check(kernels, is_bf16, MOST_ROWS, MOST_COLS); /* as much as the room holds */
}

static void test_every_variant(void **state)
{
    (void)state;
    make_inputs();
    check_variant(&sq_gram_kernels_generic);
#if defined(__x86_64__)
    if (sq_cpu_has(SQ_ISA_AVX2)) check_variant(&sq_gram_kernels_avx2);
    if (sq_cpu_has(SQ_ISA_AVX512)) check_variant(&sq_gram_kernels_avx512);
    if (sq_cpu_has(SQ_ISA_AVX512BF16)) check_variant(&sq_gram_kernels_avx512bf16);
    if (sq_cpu_has(SQ_ISA_AMX)) check_variant(&sq_gram_kernels_amx);
#endif
}

int main(void)
{
    static const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_variant)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
