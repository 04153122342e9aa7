#include "tensor/kernels/gram.h"

#include "base/half.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/words.h"

/* --- packing ------------------------------------------------------------------------------------------------------ */

/* Steps that are packed at a time, over all columns: whole rows are read one after another, as memory likes it, and a
 * strip gets whole cache lines. They are streamed past the caches: there the lines of the inputs before are still with
 * the other workers, and a store would wait until it had them back. */
#define TOGETHER 8

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Columns [j, j + VEC_LANES) of a row, with zeros behind the last. */
INLINE void place_f32(const float *x, int64_t j, int64_t cols, float *words)
{
    if (j + VEC_LANES <= cols)
        vec_stream(words, vec_load(x + j));
    else
        for (int64_t l = 0; l < VEC_LANES; l++)
            words[l] = j + l < cols ? x[j + l] : 0;
}

static void pack_f32(const float *x, int64_t stride, int64_t rows, int64_t cols, int64_t steps, float *words)
{
    for (int64_t first = 0; first < rows; first += TOGETHER)
        for (int64_t j = 0; j < cols; j += VEC_LANES)
            for (int64_t i = first; i < smaller(first + TOGETHER, rows); i++) {
                __builtin_prefetch(x + (i + TOGETHER) * stride + j);
                place_f32(x + i * stride, j, cols, words + j * steps + i * VEC_LANES);
            }
    vec_streamed();
}

#ifdef __AVX512BF16__

/* Two rows of `cols` columns, at most those of two strips; next is NULL behind an odd last row. */
INLINE void pack_pair(const uint16_t *x, const uint16_t *next, int64_t cols, float *words, int64_t next_strip)
{
    static const uint16_t of_both[2 * VEC_LANES] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                                    8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
    const __m512i first = _mm512_loadu_si512(of_both), second = _mm512_add_epi16(first, _mm512_set1_epi16(VEC_LANES));
    const __mmask32 mask = cols < 2 * VEC_LANES ? (1u << cols) - 1 : 0xffffffffu;
    const __m512i low = _mm512_maskz_loadu_epi16(mask, x);
    const __m512i high = next ? _mm512_maskz_loadu_epi16(mask, next) : _mm512_setzero_si512();
    vec_stream(words, (vec)_mm512_permutex2var_epi16(low, first, high));
    if (cols > VEC_LANES) vec_stream(words + next_strip, (vec)_mm512_permutex2var_epi16(low, second, high));
}

static void pack_bf16(const uint16_t *x, int64_t stride, int64_t rows, int64_t cols, int64_t steps, float *words)
{
    const int64_t all = (rows + 1) / 2;
    for (int64_t first = 0; first < all; first += TOGETHER)
        for (int64_t j = 0; j < cols; j += 2 * VEC_LANES)
            for (int64_t step = first; step < smaller(first + TOGETHER, all); step++) {
                const uint16_t *row = x + 2 * step * stride + j, *next = 2 * step + 1 < rows ? row + stride : NULL;
                __builtin_prefetch(row + 2 * TOGETHER * stride);
                __builtin_prefetch(row + (2 * TOGETHER + 1) * stride);
                pack_pair(row, next, cols - j, words + j * steps + step * VEC_LANES, steps * VEC_LANES);
            }
    vec_streamed();
}

#else

static void pack_bf16(const uint16_t *x, int64_t stride, int64_t rows, int64_t cols, int64_t steps, float *words)
{
    for (int64_t first = 0; first < rows; first += TOGETHER)
        for (int64_t j = 0; j < cols; j += VEC_LANES)
            for (int64_t i = first; i < smaller(first + TOGETHER, rows); i++) {
                float *to = words + j * steps + i * VEC_LANES;
                for (int64_t l = 0; l < VEC_LANES; l++)
                    to[l] = j + l < cols ? sq_bf16_to_f32(x[i * stride + j + l]) : 0;
            }
}

#endif

/* --- one tile ----------------------------------------------------------------------------------------------------- */

#define WIDTH (STRIPS * VEC_LANES)

/* Where rows [row, row + rows) and columns [col, col + cols) of x'x go. */
struct target {
    int64_t row, rows, col, cols;
    const float *scale;
    int64_t *sums; /* of the first of them */
    int64_t stride;
    const float *ahead; /* the tile's part of the strips that come next */
    int64_t ahead_step; /* words of it with a step */
};

/* They lie far from each other, and are wanted when the product is done. */
static void fetch_sums(const struct target *t)
{
    for (int64_t i = 0; i < t->rows; i++)
        for (int64_t j = 0; j < t->cols; j += 64 / (int64_t)sizeof *t->sums)
            __builtin_prefetch(t->sums + i * t->stride + j, 1);
}

static void add_tile(const float *tile, int64_t width, const struct target *t)
{
    for (int64_t i = 0; i < t->rows; i++) {
        const float *restrict c = tile + i * width, *restrict scale = t->scale + t->col;
        const float row_scale = t->scale[t->row + i];
        int64_t *restrict sums = t->sums + i * t->stride;
        for (int64_t j = 0; j < t->cols; j++)
            sums[j] += (int64_t)(c[j] * row_scale * scale[j]);
    }
}

INLINE void run_tile(const struct sq_gram_packed *x, const struct target *t, vec (*madd)(vec, vec, vec))
{
    const struct word_factors factors = {.left =
                                             x->words + t->row / VEC_LANES * VEC_LANES * x->steps + t->row % VEC_LANES,
                                         .left_row = 1,
                                         .left_step = VEC_LANES,
                                         .right = x->words + t->col * x->steps,
                                         .right_strip = x->steps * VEC_LANES,
                                         .right_step = VEC_LANES,
                                         .steps = x->steps,
                                         .ahead = t->ahead,
                                         .ahead_step = t->ahead_step};
    const int64_t strips = (t->cols + VEC_LANES - 1) / VEC_LANES;
    float tile[ROWS * WIDTH];
    fetch_sums(t);
    multiply_strips(&factors, strips, madd, tile);
    add_tile(tile, strips * VEC_LANES, t);
}

/* --- a panel of rows ---------------------------------------------------------------------------------------------- */

/* Tiles below each other share the strips to their left: these stay in the cache meanwhile, and together the tiles
 * fetch those of the next columns. */
INLINE void add_panel(const struct sq_gram_packed *x, int64_t row, int64_t rows, const float *scale, int64_t *sums,
                      int64_t stride, vec (*madd)(vec, vec, vec))
{
    const int64_t end = row + rows, ahead_step = (WIDTH * ROWS + rows - 1) / rows;
    for (int64_t col = 0; col < end; col += WIDTH) {
        const float *next = x->words + (col + WIDTH < end ? col + WIDTH : row) * x->steps;
        for (int64_t i = row; i < end; i += ROWS) {
            const int64_t last = smaller(i + ROWS, end), columns = (last - col + VEC_LANES - 1) / VEC_LANES * VEC_LANES;
            if (last <= col) continue;
            const struct target target = {.row = i,
                                          .rows = last - i,
                                          .col = col,
                                          .cols = smaller(smaller(columns, WIDTH), end - col),
                                          .scale = scale,
                                          .sums = sums + (i - row) * stride + col,
                                          .stride = stride,
                                          .ahead = next + (i - row) / ROWS * ahead_step * x->steps,
                                          .ahead_step = ahead_step};
            run_tile(x, &target, madd);
        }
    }
}

static void add_f32(const struct sq_gram_packed *x, int64_t row, int64_t rows, const float *scale, int64_t *sums,
                    int64_t stride)
{
    add_panel(x, row, rows, scale, sums, stride, vec_madd);
}

#ifdef SQ_KERNEL_TILES
#define ADD_BF16 sq_gram_add_tiles_amx
#else
#define ADD_BF16 add_bf16
static void add_bf16(const struct sq_gram_packed *x, int64_t row, int64_t rows, const float *scale, int64_t *sums,
                     int64_t stride)
{
    add_panel(x, row, rows, scale, sums, stride, madd_bf16);
}
#endif

const struct sq_gram_kernels SQ_KERNEL(sq_gram_kernels) = {
    .lanes = VEC_LANES,
    .pair = PAIR,
    .pack_f32 = pack_f32,
    .pack_bf16 = pack_bf16,
    .add_f32 = add_f32,
    .add_bf16 = ADD_BF16,
};
