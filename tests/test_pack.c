/* Packing of codes into words, against a plain reference that moves one bit at a time, and known words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/pack.h"

#define N(array) (sizeof(array) / sizeof *(array))
#define MARK 0xdeadbeefu

static const int all_bits[] = {2, 3, 4, 8};

static uint8_t make_code(int bits, int64_t column, int64_t index)
{
    uint32_t x = (uint32_t)(column * 7919 + index * 104729 + bits);
    x = (x ^ x >> 15) * 0x2c1b3c6du;
    return (uint8_t)((x ^ x >> 12) & ((1u << bits) - 1));
}

/* codes [columns, count] */
static uint8_t *make_codes(int bits, int64_t columns, int64_t count)
{
    uint8_t *codes = malloc((size_t)(columns * count));
    for (int64_t c = 0; c < columns; c++)
        for (int64_t i = 0; i < count; i++)
            codes[c * count + i] = make_code(bits, c, i);
    return codes;
}

/* Bit b of code i is bit i * bits + b of the stream. */
static uint32_t reference_word(int bits, const uint8_t *codes, int64_t count, int64_t word)
{
    uint32_t value = 0;
    for (int64_t position = 32 * word; position < 32 * (word + 1) && position < count * bits; position++)
        value |= (uint32_t)(codes[position / bits] >> position % bits & 1) << position % 32;
    return value;
}

static void check_pack(int bits, int64_t columns, int64_t count, int64_t stride)
{
    int64_t words = sq_pack_words(count, bits);
    uint8_t *codes = make_codes(bits, columns, count);
    uint32_t *packed = malloc((size_t)(words * stride) * sizeof *packed);
    for (int64_t i = 0; i < words * stride; i++)
        packed[i] = MARK;
    sq_pack_codes(bits, columns, count, codes, packed, stride);
    for (int64_t w = 0; w < words; w++)
        for (int64_t c = 0; c < stride; c++)
            assert_int_equal(packed[w * stride + c],
                             c < columns ? reference_word(bits, codes + c * count, count, w) : MARK);
    free(packed);
    free(codes);
}

static void test_pack(void **state)
{
    (void)state;
    static const int64_t counts[] = {1, 10, 11, 22, 31, 32, 33, 64, 172, 300};
    for (size_t b = 0; b < N(all_bits); b++)
        for (size_t n = 0; n < N(counts); n++) {
            check_pack(all_bits[b], 1, counts[n], 1);
            check_pack(all_bits[b], 3, counts[n], 5);
            check_pack(all_bits[b], 37, counts[n], 37);
        }
}

/* Any range of codes, from words at an odd address. */
static void check_unpack(int bits, int64_t columns, int64_t count, int64_t first, int64_t wanted)
{
    int64_t words = sq_pack_words(count, bits), stride = columns + 2;
    uint8_t *codes = make_codes(bits, columns, count), *found = malloc((size_t)(wanted * columns + 1));
    uint32_t *packed = calloc((size_t)(words * stride), sizeof *packed);
    unsigned char *odd = malloc((size_t)(words * stride) * 4 + 1);
    sq_pack_codes(bits, columns, count, codes, packed, stride);
    memcpy(odd + 1, packed, (size_t)(words * stride) * 4);
    found[wanted * columns] = 0xee;
    sq_unpack_codes(bits, columns, first, wanted, odd + 1, stride, found);
    for (int64_t i = 0; i < wanted; i++)
        for (int64_t c = 0; c < columns; c++)
            assert_int_equal(found[i * columns + c], codes[c * count + first + i]);
    assert_int_equal(found[wanted * columns], 0xee);
    free(odd);
    free(packed);
    free(found);
    free(codes);
}

static void test_unpack(void **state)
{
    (void)state;
    for (size_t b = 0; b < N(all_bits); b++) {
        check_unpack(all_bits[b], 1, 64, 0, 64);
        check_unpack(all_bits[b], 20, 172, 0, 172);
        check_unpack(all_bits[b], 20, 172, 9, 40);
        check_unpack(all_bits[b], 3, 45, 44, 1);
        check_unpack(all_bits[b], 3, 45, 45, 0);
    }
}

/* Words that other programs write for symmetric zero points, and those words less one in each field. */
static void test_zero_words(void **state)
{
    (void)state;
    static const struct {
        int bits;
        uint8_t zero;
        uint32_t word;
    } cases[] = {{4, 8, 0x88888888u}, {8, 128, 0x80808080u}, {2, 2, 0xaaaaaaaau}, {3, 4, 0x24924924u},
                 {4, 7, 0x77777777u}, {8, 127, 0x7f7f7f7fu}, {2, 1, 0x55555555u}, {3, 3, 0xdb6db6dbu}};
    for (size_t i = 0; i < N(cases); i++) {
        uint8_t zeros[32];
        uint32_t words[8];
        memset(zeros, cases[i].zero, sizeof zeros);
        sq_pack_codes(cases[i].bits, 1, 32, zeros, words, 1);
        assert_int_equal(words[0], cases[i].word);
    }
}

/* Codes 10 and 21 of 32 lie in two words: the low two bits of code 10 end word 0, the low bit of code 21 ends word 1.
 */
static void test_three_bits_straddle(void **state)
{
    (void)state;
    uint8_t codes[32];
    uint32_t words[3], wanted[3] = {0};
    for (int i = 0; i < 32; i++)
        codes[i] = make_code(3, 1, i);
    for (int i = 0; i < 10; i++)
        wanted[0] |= (uint32_t)codes[i] << 3 * i;
    wanted[0] |= (uint32_t)(codes[10] & 3) << 30;
    wanted[1] |= (uint32_t)codes[10] >> 2;
    for (int i = 11; i < 21; i++)
        wanted[1] |= (uint32_t)codes[i] << (1 + 3 * (i - 11));
    wanted[1] |= (uint32_t)(codes[21] & 1) << 31;
    wanted[2] |= (uint32_t)codes[21] >> 1;
    for (int i = 22; i < 32; i++)
        wanted[2] |= (uint32_t)codes[i] << (2 + 3 * (i - 22));
    sq_pack_codes(3, 1, 32, codes, words, 1);
    assert_memory_equal(words, wanted, sizeof words);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pack),
        cmocka_unit_test(test_unpack),
        cmocka_unit_test(test_zero_words),
        cmocka_unit_test(test_three_bits_straddle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
