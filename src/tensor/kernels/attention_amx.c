/* The products of attention by tile registers (amx.h). */
#include "tensor/kernels/attention.h"
#include "tensor/kernels/kernels.h"

#ifdef SQ_KERNEL_TILES

#include "tensor/kernels/amx.h"

INLINE void multiply_block(const struct amx_factors *factors, bool accumulate, int rows, int cols, float *c,
                           int64_t stride)
{
    if (accumulate)
        amx_load(rows, cols, c, stride);
    else
        amx_clear();
    amx_multiply(factors, rows, cols, NULL, NULL);
    amx_store(rows, cols, c, stride);
}

static void run_block(const struct sq_word_product *p, int64_t row, int64_t col)
{
    _Alignas(64) float last[4 * TILE];
    const int rows = p->rows - row > EDGE ? 2 : 1, cols = p->cols - col > EDGE ? 2 : 1;
    struct amx_factors f = {.left = amx_rows(p->left + row * p->left_stride, p->left_stride * 4),
                            .right = amx_strips(p->right + col / EDGE * p->right_strip, p->right_strip, 0),
                            .words = p->steps};
    float *c = p->c + row * p->stride + col;
    if (p->steps % EDGE) {
        f.last_left = amx_last_left(&f.left, p->steps, rows, last);
        f.last_right = amx_last_right(&f.right, p->steps, cols, last + 2 * TILE);
    }
    if (rows == 2 && cols == 2)
        multiply_block(&f, p->accumulate, 2, 2, c, p->stride);
    else if (rows == 2)
        multiply_block(&f, p->accumulate, 2, 1, c, p->stride);
    else if (cols == 2)
        multiply_block(&f, p->accumulate, 1, 2, c, p->stride);
    else
        multiply_block(&f, p->accumulate, 1, 1, c, p->stride);
}

void sq_attention_multiply_tiles_amx(const struct sq_word_product *product)
{
    amx_open();
    for (int64_t col = 0; col < product->cols; col += BLOCK)
        for (int64_t row = 0; row < product->rows; row += BLOCK)
            run_block(product, row, col);
    amx_close();
}

#endif
