#include "tensor/kernels/attention.h"

#include "base/half.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/words.h"

/* --- words of a row ----------------------------------------------------------------------------------------------- */

static void words_f32(const float *x, int64_t n, float *words)
{
    memcpy(words, x, (size_t)n * sizeof *words);
}

static void words_bf16(const uint16_t *x, int64_t n, float *words)
{
#if PAIR == 2
    if (n % 2) words[n / 2] = 0;
    memcpy(words, x, (size_t)n * sizeof *x);
#else
    for (int64_t i = 0; i < n; i++)
        words[i] = sq_bf16_to_f32(x[i]);
#endif
}

/* --- keys --------------------------------------------------------------------------------------------------------- */

#define PIECE 64 /* words of a row that are turned at a time */

/* Words of one key, into lane `words` of its strip. */
INLINE void place_key(const float *key, int64_t steps, float *words)
{
    for (int64_t step = 0; step < steps; step++)
        words[step * VEC_LANES] = key[step];
}

static void clear_lanes(int64_t rows, int64_t steps, float *words)
{
    if (rows % VEC_LANES == 0) return;
    float *last = words + rows / VEC_LANES * VEC_LANES * steps;
    memset(last, 0, (size_t)(steps * VEC_LANES) * sizeof *last);
}

static void pack_keys_f32(const float *x, int64_t stride, int64_t rows, int64_t n, float *words)
{
    clear_lanes(rows, n, words);
    for (int64_t j = 0; j < rows; j++)
        place_key(x + j * stride, n, words + j / VEC_LANES * VEC_LANES * n + j % VEC_LANES);
}

static void pack_keys_bf16(const uint16_t *x, int64_t stride, int64_t rows, int64_t n, float *words)
{
    const int64_t steps = (n + PAIR - 1) / PAIR;
    float key[PIECE];
    clear_lanes(rows, steps, words);
    for (int64_t j = 0; j < rows; j++)
        for (int64_t step = 0, count; step < steps; step += count) {
            count = steps - step < PIECE ? steps - step : PIECE;
            const int64_t first = step * PAIR, left = n - first;
            words_bf16(x + j * stride + first, left < count * PAIR ? left : count * PAIR, key);
            place_key(key, count, words + (j / VEC_LANES * steps + step) * VEC_LANES + j % VEC_LANES);
        }
}

/* --- products ----------------------------------------------------------------------------------------------------- */

INLINE void put_tile(const float *tile, int64_t width, const struct sq_word_product *p, int64_t row, int64_t col)
{
    for (int64_t i = 0; i < ROWS; i++)
        for (int64_t j = 0; j < width; j += VEC_LANES) {
            float *c = p->c + (row + i) * p->stride + col + j;
            const vec before = p->accumulate ? vec_load(c) : vec_all(0);
            vec_store(c, before + vec_load(tile + i * width + j));
        }
}

/* Strips of the next tiles; two and two where one would be left over. */
static int64_t next_strips(int64_t left)
{
    return left <= STRIPS ? left : left == STRIPS + 1 ? 2 : STRIPS;
}

INLINE void multiply(const struct sq_word_product *p, vec (*madd)(vec, vec, vec))
{
    float tile[ROWS * STRIPS * VEC_LANES];
    const int64_t all = p->cols / VEC_LANES;
    for (int64_t first = 0, strips; first < all; first += strips) {
        strips = next_strips(all - first);
        for (int64_t row = 0; row < p->rows; row += ROWS) {
            const struct word_factors factors = {.left = p->left + row * p->left_stride,
                                                 .left_row = p->left_stride,
                                                 .left_step = 1,
                                                 .right = p->right + first * p->right_strip,
                                                 .right_strip = p->right_strip,
                                                 .right_step = VEC_LANES,
                                                 .steps = p->steps};
            multiply_strips(&factors, strips, madd, tile);
            put_tile(tile, strips * VEC_LANES, p, row, first * VEC_LANES);
        }
    }
}

static void multiply_f32(const struct sq_word_product *product)
{
    multiply(product, vec_madd);
}

#ifdef SQ_KERNEL_TILES
#define MULTIPLY_BF16 sq_attention_multiply_tiles_amx
#else
#define MULTIPLY_BF16 multiply_bf16
static void multiply_bf16(const struct sq_word_product *product)
{
    multiply(product, madd_bf16);
}
#endif

const struct sq_attention_kernels SQ_KERNEL(sq_attention_kernels) = {
    .words_f32 = words_f32,
    .words_bf16 = words_bf16,
    .pack_keys_f32 = pack_keys_f32,
    .pack_keys_bf16 = pack_keys_bf16,
    .multiply_f32 = multiply_f32,
    .multiply_bf16 = MULTIPLY_BF16,
};
