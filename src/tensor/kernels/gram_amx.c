/* The lower triangle of x'x by tile registers (amx.h). A panel's rows are packed once more, as left tiles, in groups
 * that stay in the second-level cache. The tiles do the products of a block while the other units add the block before
 * to the sums and fetch what comes next. */
#include "tensor/kernels/gram.h"
#include "tensor/kernels/kernels.h"

#ifdef SQ_KERNEL_TILES

#include "tensor/kernels/amx.h"

#define LANES 8 /* of 64 bits */
#define LINE (64 / (int64_t)sizeof(float))

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* --- sums --------------------------------------------------------------------------------------------------------- */

/* What a block of at most BLOCK x BLOCK products is added to. */
struct block {
    int64_t rows, cols;
    const float *row_scale, *scale;
    int64_t *sums;
    int64_t stride;
};

/* LANES sums from column j of row i on, of which mask says those of the block. */
INLINE void add_sums(const float *products, const struct block *b, int64_t i, int64_t j, __mmask8 mask)
{
    int64_t *sums = b->sums + i * b->stride + j;
    const __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(products + i * BLOCK + j), _mm256_set1_ps(b->row_scale[i]));
    const __m512i steps = _mm512_cvttps_epi64(_mm256_mul_ps(scaled, _mm256_maskz_loadu_ps(mask, b->scale + j)));
    _mm512_mask_storeu_epi64(sums, mask, _mm512_add_epi64(_mm512_maskz_loadu_epi64(mask, sums), steps));
}

/* Row i of the block. */
INLINE void add_row(const float *products, const struct block *b, int64_t i)
{
    int64_t j = 0;
    for (; j + LANES <= b->cols; j += LANES)
        add_sums(products, b, i, j, 0xff);
    if (j < b->cols) add_sums(products, b, i, j, (__mmask8)((1 << (b->cols - j)) - 1));
}

/* --- meanwhile ---------------------------------------------------------------------------------------------------- */

struct meanwhile {
    const float *products; /* of the block before, */
    struct block before;   /* which has no rows ahead of the first */
    struct block now;
    const float *ahead;  /* what is fetched */
    int64_t rows, lines; /* of a block and of that, with each step */
};

static void do_meanwhile(const void *context, int64_t step)
{
    const struct meanwhile *m = context;
    for (int64_t i = step * m->rows; i < smaller((step + 1) * m->rows, m->before.rows); i++)
        add_row(m->products, &m->before, i);
    for (int64_t i = step * m->rows; i < smaller((step + 1) * m->rows, m->now.rows); i++)
        for (int64_t j = 0; j < m->now.cols; j += LANES)
            __builtin_prefetch(m->now.sums + i * m->now.stride + j, 1);
    for (int64_t i = step * m->lines; i < (step + 1) * m->lines; i++)
        __builtin_prefetch(m->ahead + i * LINE, 0, 2);
}

/* --- a group of rows ---------------------------------------------------------------------------------------------- */

struct group {
    const struct sq_gram_packed *x;
    int64_t row, rows;
    const float *scale;
    int64_t *sums; /* of its first row */
    int64_t stride;
    struct meanwhile meanwhile;
    _Alignas(64) float products[2][BLOCK * BLOCK]; /* of the block in hand and of the one before */
    int in_hand;
    _Alignas(64) float last[2 * TILE];
};

/* `words` words of a strip, at most a tile's. */
static void turn_words(const float *strip, int64_t words, float *tile)
{
    __m512 rows[EDGE];
    for (int i = 0; i < EDGE; i++)
        rows[i] = i < words ? _mm512_loadu_ps(strip + i * EDGE) : _mm512_setzero_ps();
    amx_turn(rows, tile);
}

static void pack_left(const struct group *g)
{
    const int64_t steps = g->x->steps, tiles = amx_tiles(steps);
    for (int64_t i = 0; i < g->rows; i += EDGE)
        for (int64_t t = 0; t < tiles; t++)
            turn_words(g->x->words + (g->row + i) * steps + t * TILE, smaller(steps - t * EDGE, EDGE),
                       g->x->room + (i / EDGE * tiles + t) * TILE);
}

INLINE void multiply_block(struct group *g, const struct amx_factors *factors, int rows, int cols)
{
    amx_clear();
    amx_multiply(factors, rows, cols, do_meanwhile, &g->meanwhile);
    amx_store(rows, cols, g->products[g->in_hand], BLOCK);
}

/* The block of rows from `row` of the group on. */
static void run_block(struct group *g, int64_t row, int64_t col, int64_t ahead_lines)
{
    const int64_t end = g->row + g->rows, steps = g->x->steps, tiles = amx_tiles(steps);
    const int64_t last = smaller(g->row + row + BLOCK, end); /* columns behind are above the diagonal */
    const float *left = g->x->room + row / EDGE * tiles * TILE;
    const struct amx_factors factors = {.left = amx_strips(left, tiles * TILE, 0),
                                        .right = amx_strips(g->x->words + col * steps, steps * EDGE, 0),
                                        .last_left = amx_strips(left, tiles * TILE, tiles - 1),
                                        .last_right = amx_strips(g->last, TILE, 0),
                                        .words = steps};
    struct meanwhile *m = &g->meanwhile;
    m->now = (struct block){.rows = smaller(g->rows - row, BLOCK),
                            .cols = smaller(last - col, BLOCK),
                            .row_scale = g->scale + g->row + row,
                            .scale = g->scale + col,
                            .sums = g->sums + row * g->stride + col,
                            .stride = g->stride};
    m->rows = (BLOCK + tiles - 1) / tiles;
    m->lines = (ahead_lines + tiles - 1) / tiles;
    if (m->now.rows > EDGE && m->now.cols > EDGE)
        multiply_block(g, &factors, 2, 2);
    else if (m->now.rows > EDGE)
        multiply_block(g, &factors, 2, 1);
    else if (m->now.cols > EDGE)
        multiply_block(g, &factors, 1, 2);
    else
        multiply_block(g, &factors, 1, 1);
    m->products = g->products[g->in_hand];
    m->before = m->now;
    m->ahead += ahead_lines * LINE;
    g->in_hand = !g->in_hand;
}

/* The blocks of BLOCK columns below the diagonal. */
static void run_columns(struct group *g, int64_t col)
{
    const int64_t end = g->row + g->rows, steps = g->x->steps;
    const int64_t n_blocks = (g->rows + BLOCK - 1) / BLOCK, next = col + BLOCK < end ? col + BLOCK : g->row;
    const struct amx_side right = amx_strips(g->x->words + col * steps, steps * EDGE, 0);
    if (steps % EDGE) amx_last_right(&right, steps, end - col > EDGE ? 2 : 1, g->last);
    g->meanwhile.ahead = g->x->words + next * steps;
    for (int64_t row = 0; row < g->rows; row += BLOCK)
        if (g->row + row + BLOCK > col) run_block(g, row, col, 2 * steps / n_blocks);
}

static void run_group(struct group *g)
{
    pack_left(g);
    g->meanwhile.before.rows = 0;
    for (int64_t col = 0; col < g->row + g->rows; col += BLOCK)
        run_columns(g, col);
    for (int64_t i = 0; i < g->meanwhile.before.rows; i++)
        add_row(g->meanwhile.products, &g->meanwhile.before, i);
}

void sq_gram_add_tiles_amx(const struct sq_gram_packed *x, int64_t row, int64_t rows, const float *scale, int64_t *sums,
                           int64_t stride)
{
    if (x->steps == 0) return;
    amx_open();
    for (int64_t i = 0; i < rows; i += SQ_GRAM_ROOM_ROWS) {
        struct group group = {.x = x,
                              .row = row + i,
                              .rows = smaller(rows - i, SQ_GRAM_ROOM_ROWS),
                              .scale = scale,
                              .sums = sums + i * stride,
                              .stride = stride};
        run_group(&group);
    }
    amx_close();
}

#endif
