/* Products by the processor's tile registers (Intel AMX), in the words of words.h. A register holds 16 rows of 16
 * words; one instruction is sums[16, 16] += left[16 rows, 16 words] right[16 words, 16 columns], all bf16 values of
 * each word.
 *
 * The right factor comes in strips of [words, 16] as kernels/gram.h packs them, the left one by rows, wherever they
 * are. */
#ifndef SQ_TENSOR_KERNELS_AMX_H
#define SQ_TENSOR_KERNELS_AMX_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

#define EDGE 16            /* rows, words and columns of a tile */
#define TILE (EDGE * EDGE) /* words */
#define TILE_ROW 64        /* bytes of a row */
#define BLOCK (2 * EDGE)   /* edge of what is summed up at once: 2 x 2 tiles, as many as registers allow */

/* Registers 0 to 3 are sums, row by row; 4 and 5 left tiles, 6 and 7 right ones. */

/* Not every compiler knows that registers are loaded from memory: this stands between its stores and the loads. */
INLINE void amx_fence(const void *memory)
{
    __asm__ volatile("" : : "r"(memory) : "memory");
}

/* Before the first product; amx_close() after the last, as the registers' contents would be kept for the thread. */
INLINE void amx_open(void)
{
    const struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1,
                .row_bytes = {TILE_ROW, TILE_ROW, TILE_ROW, TILE_ROW, TILE_ROW, TILE_ROW, TILE_ROW, TILE_ROW},
                .rows = {EDGE, EDGE, EDGE, EDGE, EDGE, EDGE, EDGE, EDGE}};
    amx_fence(&config);
    _tile_loadconfig(&config);
}

INLINE void amx_close(void)
{
    _tile_release();
}

/* --- turning a tile ----------------------------------------------------------------------------------------------- */

INLINE int64_t amx_tiles(int64_t words)
{
    return (words + EDGE - 1) / EDGE;
}

INLINE __m512 pick_squares(__m512 a, __m512 b, bool odd)
{
    return odd ? _mm512_shuffle_f32x4(a, b, 0xdd) : _mm512_shuffle_f32x4(a, b, 0x88);
}

/* a [16, 16] transposed into tile [16, 16] */
INLINE void amx_turn(__m512 a[EDGE], float *tile)
{
    __m512 b[EDGE];
    for (int i = 0; i < EDGE; i += 2) {
        b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
    }
    for (int i = 0; i < EDGE; i += 4)
        for (int k = 0; k < 2; k++) {
            const __m512d low = _mm512_castps_pd(b[i + k]), high = _mm512_castps_pd(b[i + 2 + k]);
            a[i + 2 * k] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
            a[i + 2 * k + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
        }
    for (int i = 0; i < 4; i++) /* a[4 g + i]: in each quarter q the words [4 g, 4 g + 4) of column 4 q + i */
        for (int k = 0; k < 2; k++) {
            b[i + 4 * k] = pick_squares(a[i], a[i + 4], k);
            b[i + 4 * k + 8] = pick_squares(a[i + 8], a[i + 12], k);
        }
    for (int i = 0; i < EDGE / 2; i++)
        for (int k = 0; k < 2; k++)
            _mm512_store_ps(tile + (i + 8 * k) * EDGE, pick_squares(b[i], b[i + 8], k));
}

/* --- one block ---------------------------------------------------------------------------------------------------- */

/* Bytes from one row, or strip of 16 columns or rows, to the next, and from a tile to the next along the sum. */
struct amx_side {
    const char *at;
    int64_t row, strip, step;
};

/* Rows of a matrix, `row` bytes apart, as a left side. */
INLINE struct amx_side amx_rows(const void *at, int64_t row)
{
    return (struct amx_side){at, row, EDGE * row, TILE_ROW};
}

/* Tiles one after another along the sum, of strips that are `strip` words apart; the first one is number `first`. */
INLINE struct amx_side amx_strips(const float *at, int64_t strip, int64_t first)
{
    return (struct amx_side){(const char *)(at + first * TILE), TILE_ROW, strip * 4, TILE * 4};
}

/* A block's factors: one or two strips of 16 rows to the left, of 16 columns to the right. Where words are no multiple
 * of 16, the last of them and zeros stand elsewhere. */
struct amx_factors {
    struct amx_side left, right, last_left, last_right;
    int64_t words;
};

/* The last words of `strips` strips, 1 or 2, of a left side as tiles with zeros behind them; last [2, TILE]. */
INLINE struct amx_side amx_last_left(const struct amx_side *left, int64_t words, int strips, float *last)
{
    const int64_t whole = words / EDGE;
    memset(last, 0, (size_t)strips * TILE * sizeof *last);
    for (int64_t i = 0; i < strips * EDGE; i++)
        memcpy(last + i * EDGE, left->at + i / EDGE * left->strip + i % EDGE * left->row + whole * left->step,
               (size_t)(words - whole * EDGE) * sizeof *last);
    return amx_strips(last, TILE, 0);
}

/* Of a right side, whose rows are words. */
INLINE struct amx_side amx_last_right(const struct amx_side *right, int64_t words, int strips, float *last)
{
    const int64_t whole = words / EDGE;
    memset(last, 0, (size_t)strips * TILE * sizeof *last);
    for (int s = 0; s < strips; s++)
        memcpy(last + s * TILE, right->at + s * right->strip + whole * right->step,
               (size_t)((words - whole * EDGE) * EDGE) * sizeof *last);
    return amx_strips(last, TILE, 0);
}

/* The tiles of one step along the sum. */
INLINE void amx_step(struct amx_side left, struct amx_side right, int rows, int cols)
{
    _tile_loadd(4, left.at, left.row);
    _tile_loadd(6, right.at, right.row);
    _tile_dpbf16ps(0, 4, 6);
    if (cols == 2) {
        _tile_loadd(7, right.at + right.strip, right.row);
        _tile_dpbf16ps(1, 4, 7);
    }
    if (rows == 2) {
        _tile_loadd(5, left.at + left.strip, left.row);
        _tile_dpbf16ps(2, 5, 6);
    }
    if (rows == 2 && cols == 2) _tile_dpbf16ps(3, 5, 7);
}

/* What else is done meanwhile: with each step along the sum a part of it. */
typedef void amx_beside(const void *context, int64_t step);

/* Adds rows x cols tiles, 1 or 2 each way, to the sums in the registers; beside may be NULL. */
INLINE void amx_multiply(const struct amx_factors *f, int rows, int cols, amx_beside *beside, const void *context)
{
    const int64_t whole = f->words / EDGE;
    struct amx_side left = f->left, right = f->right;
    amx_fence(f->left.at);
    for (int64_t step = 0; step < whole; step++, left.at += left.step, right.at += right.step) {
        if (beside) beside(context, step);
        amx_step(left, right, rows, cols);
    }
    if (f->words == whole * EDGE) return;
    if (beside) beside(context, whole);
    amx_step(f->last_left, f->last_right, rows, cols);
}

/* --- the sums ----------------------------------------------------------------------------------------------------- */

INLINE void amx_clear(void)
{
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

/* c [16 rows, 16 cols] */
INLINE void amx_load(int rows, int cols, const float *c, int64_t stride)
{
    const int64_t bytes = stride * 4;
    _tile_loadd(0, c, bytes);
    if (cols == 2) _tile_loadd(1, c + EDGE, bytes);
    if (rows == 2) _tile_loadd(2, c + EDGE * stride, bytes);
    if (rows == 2 && cols == 2) _tile_loadd(3, c + EDGE * stride + EDGE, bytes);
}

INLINE void amx_store(int rows, int cols, float *c, int64_t stride)
{
    const int64_t bytes = stride * 4;
    _tile_stored(0, c, bytes);
    if (cols == 2) _tile_stored(1, c + EDGE, bytes);
    if (rows == 2) _tile_stored(2, c + EDGE * stride, bytes);
    if (rows == 2 && cols == 2) _tile_stored(3, c + EDGE * stride + EDGE, bytes);
    amx_fence(c);
}

#endif
