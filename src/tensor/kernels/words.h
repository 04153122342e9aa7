/* Products of words, the core of the kernels that multiply matrices. A word is four bytes: an f32, or, where the
 * processor multiplies bf16, two bf16 values that stand next to each other along the sum. The left factor comes word by
 * word, the right one by strips: `VEC_LANES` columns, a vector of words to a step. */
#ifndef SQ_TENSOR_KERNELS_WORDS_H
#define SQ_TENSOR_KERNELS_WORDS_H

#include <stdint.h>

#include "tensor/kernels/vector.h"

#define INLINE static inline __attribute__((always_inline))

/* A tile's sums stay in registers: ROWS x STRIPS vectors of them, STRIPS of the right factor and one word. */
#if VEC_LANES == 16
#define ROWS 8
#else
#define ROWS 4
#endif
#define STRIPS 3

/* --- sum + a b, all values of each word --------------------------------------------------------------------------- */

#ifdef __AVX512BF16__

#define PAIR 2 /* bf16 values of a word */

INLINE vec madd_bf16(vec a, vec b, vec sum)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
}

#else

#define PAIR 1 /* widened */

INLINE vec madd_bf16(vec a, vec b, vec sum)
{
    return vec_madd(a, b, sum);
}

#endif

/* --- one tile ----------------------------------------------------------------------------------------------------- */

struct word_factors {
    const float *left; /* word of the tile's first row and step */
    int64_t left_row, left_step;
    const float *right; /* the first of the tile's strips */
    int64_t right_strip, right_step;
    int64_t steps;
    const float *ahead; /* or NULL: what is wanted after the tile, fetched meanwhile, */
    int64_t ahead_step; /* so many words of it with a step */
};

INLINE float word_at(const float *place)
{
    float word; /* perhaps not written as a float */
    memcpy(&word, place, sizeof word);
    return word;
}

/* tile [ROWS, strips * VEC_LANES] */
INLINE void multiply_tile(const struct word_factors *f, int strips, vec (*madd)(vec, vec, vec), float *tile)
{
    const float *left = f->left, *right = f->right;
    const int64_t left_row = f->left_row, left_step = f->left_step;
    const int64_t right_strip = f->right_strip, right_step = f->right_step;
    vec sums[ROWS][STRIPS];
    for (int i = 0; i < ROWS; i++)
        for (int s = 0; s < strips; s++)
            sums[i][s] = vec_all(0);
    for (int64_t step = 0; step < f->steps; step++, left += left_step, right += right_step) {
        vec columns[STRIPS];
        if (f->ahead) __builtin_prefetch(f->ahead + step * f->ahead_step, 0, 2);
        for (int s = 0; s < strips; s++)
            columns[s] = vec_load(right + s * right_strip);
        for (int i = 0; i < ROWS; i++) {
            const vec word = vec_all(word_at(left + i * left_row));
            for (int s = 0; s < strips; s++)
                sums[i][s] = madd(word, columns[s], sums[i][s]);
        }
    }
    for (int i = 0; i < ROWS; i++)
        for (int s = 0; s < strips; s++)
            vec_store(tile + (i * strips + s) * VEC_LANES, sums[i][s]);
}

/* The same for a number of strips, at most STRIPS, that is known only when it runs. */
INLINE void multiply_strips(const struct word_factors *f, int64_t strips, vec (*madd)(vec, vec, vec), float *tile)
{
    switch (strips) {
    case 1:
        multiply_tile(f, 1, madd, tile);
        break;
    case 2:
        multiply_tile(f, 2, madd, tile);
        break;
    default:
        multiply_tile(f, STRIPS, madd, tile);
    }
}

#endif
