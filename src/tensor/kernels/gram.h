/* The lower triangle of x'x, added in fixed point, by a product of our own.
 *
 * A library that is given x row by row transposes it anew for every part of x'x. Here x is packed once: into strips of
 * `lanes` columns, strip after strip; a strip is [steps, lanes] words of four bytes. A word is an f32, one row of x to
 * a step, or, where the processor multiplies bf16, the values of two neighbouring rows. One strip then serves as either
 * factor: as the right one by vectors, as the left one word by word. */
#ifndef SQ_TENSOR_KERNELS_GRAM_H
#define SQ_TENSOR_KERNELS_GRAM_H

#include <stdint.h>

#define SQ_GRAM_ROWS 1024    /* of x, at most */
#define SQ_GRAM_ROOM_ROWS 96 /* of x'x that are in hand at once, where they are packed in another form, too */

/* Packed x: all of its columns, those of the last strip filled up with zeros. */
struct sq_gram_packed {
    const float *words;
    int64_t steps; /* words of a column */
    float *room;   /* the worker's own, of SQ_GRAM_ROOM_ROWS * SQ_GRAM_ROWS bf16 values, at a multiple of 64 bytes */
};

struct sq_gram_kernels {
    int64_t lanes; /* columns of a strip; divides 16 */
    int64_t pair;  /* rows of x in a word of bf16: 1 (as f32) or 2 */
    /* x [rows, cols] into strips of `steps` steps, from the step at `words` on; the first step of all is at a multiple
     * of 64 bytes */
    void (*pack_f32)(const float *x, int64_t stride, int64_t rows, int64_t cols, int64_t steps, float *words);
    void (*pack_bf16)(const uint16_t *x, int64_t stride, int64_t rows, int64_t cols, int64_t steps, float *words);
    /* sums[i - row, j] += trunc((x'x)[i, j] scale[i] scale[j]) for i in [row, row + rows), j <= i and a few more that
     * are below row + rows; row is a multiple of SQ_GRAM_COLUMNS */
    void (*add_f32)(const struct sq_gram_packed *x, int64_t row, int64_t rows, const float *scale, int64_t *sums,
                    int64_t stride);
    void (*add_bf16)(const struct sq_gram_packed *x, int64_t row, int64_t rows, const float *scale, int64_t *sums,
                     int64_t stride);
};

/* add_bf16() of the variant amx (gram_amx.c) */
void sq_gram_add_tiles_amx(const struct sq_gram_packed *x, int64_t row, int64_t rows, const float *scale, int64_t *sums,
                           int64_t stride);

#endif
