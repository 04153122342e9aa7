/* The two products of attention, scores = q k' and sums = weights v, over packed keys and values. Words and strips are
 * those of kernels/words.h; values are packed as kernels/gram.h packs its inputs, keys transposed. */
#ifndef SQ_TENSOR_KERNELS_ATTENTION_H
#define SQ_TENSOR_KERNELS_ATTENTION_H

#include <stdbool.h>
#include <stdint.h>

#define SQ_WORD_ROWS 16 /* rows of the left factor and of c come in multiples of these */

/* c = left right, or c += left right */
struct sq_word_product {
    const float *left; /* [rows, steps] */
    int64_t left_stride;
    const float *right; /* strips of [steps, lanes]; `right_strip` words from one to the next */
    int64_t right_strip;
    int64_t rows, steps;
    int64_t cols; /* a multiple of the lanes of a strip */
    bool accumulate;
    float *c;
    int64_t stride;
};

struct sq_attention_kernels {
    /* A row of n elements as words: n f32, or (n + pair - 1) / pair words with zeros behind the last element. */
    void (*words_f32)(const float *x, int64_t n, float *words);
    void (*words_bf16)(const uint16_t *x, int64_t n, float *words);
    /* Keys x [rows, n] into strips of [words of a row, lanes]; lanes beyond the last key are zero. */
    void (*pack_keys_f32)(const float *x, int64_t stride, int64_t rows, int64_t n, float *words);
    void (*pack_keys_bf16)(const uint16_t *x, int64_t stride, int64_t rows, int64_t n, float *words);
    void (*multiply_f32)(const struct sq_word_product *product);
    void (*multiply_bf16)(const struct sq_word_product *product);
};

/* multiply_bf16() of the variant amx (attention_amx.c) */
void sq_attention_multiply_tiles_amx(const struct sq_word_product *product);

#endif
