/* Products with a tile of the solver on the right. The tile is as it has to be: its rows side by side are the vectors,
 * so nothing is packed, where a library packs both factors anew for each of the many small products. */
#include "tensor/kernels/solve.h"
#include "tensor/kernels/words.h"

/* DEPTH of the tile at a time: what stays in the first-level cache for all rows of a. Wide vectors ask for so few bytes
 * to an operation that the second level does, and then the parts of a's rows are long enough for a processor to foresee
 * them; short ones it does not: FETCH. */
#if VEC_LANES == 16
#define DEPTH 512
#define FETCH false
#else
#define DEPTH 128
#define FETCH true
#endif
#define WIDTH (2 * VEC_LANES)

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Rows [skip, ROWS) of a tile of sums to c. */
INLINE void put_sums(const float *sums, int64_t skip, bool accumulate, float *c)
{
    for (int64_t i = skip; i < ROWS; i++)
        for (int64_t j = 0; j < WIDTH; j += VEC_LANES) {
            float *place = c + i * SQ_SOLVE_ROWS + j;
            const vec before = accumulate ? vec_load(place) : vec_all(0);
            vec_store(place, before + vec_load(sums + i * WIDTH + j));
        }
}

/* ROWS rows of a from `row` on, of which the first `skip` are done. */
INLINE void multiply_rows(const struct sq_tile_factors *f, int64_t row, int64_t skip, int64_t step, int64_t col)
{
    float sums[ROWS * WIDTH];
    const struct word_factors factors = {.left = f->a + row * f->stride + step,
                                         .left_row = f->stride,
                                         .left_step = 1,
                                         .right = f->b + step * SQ_SOLVE_ROWS + col,
                                         .right_strip = VEC_LANES,
                                         .right_step = SQ_SOLVE_ROWS,
                                         .steps = smaller(f->depth - step, DEPTH)};
    multiply_tile(&factors, 2, vec_madd, sums);
    put_sums(sums, skip, f->accumulate || step > 0, f->c + row * SQ_SOLVE_ROWS + col);
}

/* The part of ROWS rows of a that is multiplied next. */
INLINE void fetch_rows(const struct sq_tile_factors *f, int64_t row, int64_t step)
{
    for (int64_t i = row; i < smaller(row + ROWS, f->rows); i++)
        for (int64_t k = step; k < smaller(step + DEPTH, f->depth); k += 64 / (int64_t)sizeof *f->a)
            __builtin_prefetch(f->a + i * f->stride + k);
}

/* One row, for matrices of fewer than ROWS. */
static void multiply_row(const struct sq_tile_factors *f, int64_t row, int64_t step, int64_t col)
{
    const float *a = f->a + row * f->stride, *b = f->b + col;
    float *c = f->c + row * SQ_SOLVE_ROWS + col;
    const int64_t end = smaller(f->depth, step + DEPTH);
    for (int64_t s = 0; s < WIDTH; s += VEC_LANES) {
        vec sum = vec_all(0);
        for (int64_t k = step; k < end; k++)
            sum = vec_madd(vec_all(a[k]), vec_load(b + k * SQ_SOLVE_ROWS + s), sum);
        const vec before = f->accumulate || step > 0 ? vec_load(c + s) : vec_all(0);
        vec_store(c + s, before + sum);
    }
}

void SQ_KERNEL(sq_multiply_tile)(const struct sq_tile_factors *f)
{
    for (int64_t step = 0; step < f->depth; step += DEPTH) {
        for (int64_t row = 0; f->rows < ROWS && row < f->rows; row++)
            for (int64_t col = 0; col < SQ_SOLVE_ROWS; col += WIDTH)
                multiply_row(f, row, step, col);
        for (int64_t row = 0, skip; f->rows >= ROWS && row < f->rows; row += ROWS) {
            skip = row + ROWS > f->rows ? row + ROWS - f->rows : 0; /* the last ROWS rows: some once more */
            if (FETCH) fetch_rows(f, row + ROWS, step);
            for (int64_t col = 0; col < SQ_SOLVE_ROWS; col += WIDTH)
                multiply_rows(f, row - skip, skip, step, col);
        }
    }
}
