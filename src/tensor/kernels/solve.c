/* Column kernels of the solver: a strip of rows at a time, columns in turn. */
#include "tensor/kernels/solve.h"

#include "tensor/kernels/vector.h"

/* sums[row] += factor * x of the row */
static inline void add_rows(strip x, double factor, double *sums)
{
    float rows[STRIP_ROWS];
    strip_store(rows, x);
    for (int64_t i = 0; i < STRIP_ROWS; i++)
        sums[i] += factor * (double)rows[i];
}

/* --- quantize ---------------------------------------------------------------------------------------------------- */

/* w_j + products_j: the column as updated by all columns before the block. */
static inline strip updated_column(const struct sq_column_block *b, int64_t j, int64_t row)
{
    strip weights = strip_load(b->weights + b->index[j] * SQ_SOLVE_ROWS + row);
    return strip_add(weights, strip_load(b->products + j * SQ_SOLVE_ROWS + row));
}

/* loss += variance missed^2 - ridge error^2 */
static inline strip add_loss(const struct sq_column_block *b, int32_t index, strip missed, strip error, strip loss)
{
    strip gross = strip_madd(strip_multiply(strip_all(b->variance[index]), missed), missed, loss);
    return strip_madd(strip_multiply(strip_all(-b->ridge), error), error, gross);
}

/* Rounds column j, whose updated value is x, stores code and error, adds to the loss, and returns the error. */
static inline strip quantize_column(const struct sq_column_block *b, int64_t j, int64_t row, strip x, strip *loss)
{
    int32_t index = b->index[j];
    int64_t group = index / (int32_t)b->group_size * SQ_SOLVE_ROWS + row;
    strip zero = strip_load(b->scales.zero + group), max_code = strip_all((float)b->max_code);
    strip low = strip_subtract(strip_all(0), zero), high = strip_subtract(max_code, zero);
    strip centred = strip_round_between(strip_multiply(x, strip_load(b->scales.inverse + group)), low, high);
    strip rounded = strip_multiply(strip_load(b->scales.scale + group), centred);
    strip error = strip_subtract(strip_load(b->weights + index * SQ_SOLVE_ROWS + row), rounded);
    if (b->loss) *loss = add_loss(b, index, strip_subtract(x, rounded), error, *loss);
    strip_store(b->errors + j * SQ_SOLVE_ROWS + row, error);
    strip_store_u8(b->codes + index * SQ_SOLVE_ROWS + row, strip_add(centred, zero));
    return error;
}

/* x += the errors of columns [0, j) of the block, by row `unit` of M'. */
static inline strip add_errors(const struct sq_column_block *b, int64_t j, int64_t row, const float *unit, strip x)
{
    for (int64_t k = 0; k < j; k++)
        x = strip_scaled(unit[k], strip_load(b->errors + k * SQ_SOLVE_ROWS + row), x);
    return x;
}

/* Four columns at once: what comes from columns before j is summed for all four in one pass over the errors. */
static inline void quantize_four(const struct sq_column_block *b, int64_t j, int64_t row, strip *loss)
{
    const float *m0 = b->unit + j * b->unit_stride, *m1 = m0 + b->unit_stride;
    const float *m2 = m1 + b->unit_stride, *m3 = m2 + b->unit_stride;
    strip x0 = updated_column(b, j, row), x1 = updated_column(b, j + 1, row);
    strip x2 = updated_column(b, j + 2, row), x3 = updated_column(b, j + 3, row);
    for (int64_t k = 0; k < j; k++) {
        strip error = strip_load(b->errors + k * SQ_SOLVE_ROWS + row);
        x0 = strip_scaled(m0[k], error, x0);
        x1 = strip_scaled(m1[k], error, x1);
        x2 = strip_scaled(m2[k], error, x2);
        x3 = strip_scaled(m3[k], error, x3);
    }
    strip e0 = quantize_column(b, j, row, x0, loss);
    strip e1 = quantize_column(b, j + 1, row, strip_scaled(m1[j], e0, x1), loss);
    strip e2 = quantize_column(b, j + 2, row, strip_scaled(m2[j + 1], e1, strip_scaled(m2[j], e0, x2)), loss);
    x3 = strip_scaled(m3[j + 2], e2, strip_scaled(m3[j + 1], e1, strip_scaled(m3[j], e0, x3)));
    quantize_column(b, j + 3, row, x3, loss);
}

static void quantize(const struct sq_column_block *b)
{
    for (int64_t row = 0; row < SQ_SOLVE_ROWS; row += STRIP_ROWS) {
        strip loss = strip_all(0);
        int64_t j = 0;
        for (; j + 4 <= b->columns; j += 4)
            quantize_four(b, j, row, &loss);
        for (; j < b->columns; j++) {
            strip x = add_errors(b, j, row, b->unit + j * b->unit_stride, updated_column(b, j, row));
            quantize_column(b, j, row, x, &loss);
        }
        if (b->loss) add_rows(loss, 1, b->loss + row);
    }
}

static void settle(int64_t columns, const float *unit, int64_t unit_stride, const float *products, const float *weights,
                   float *updated)
{
    const int64_t end = columns * SQ_SOLVE_ROWS;
    for (int64_t row = 0; row < SQ_SOLVE_ROWS; row += STRIP_ROWS) {
        for (int64_t j = 0; j < columns; j++) {
            strip y = strip_load(products + j * SQ_SOLVE_ROWS + row);
            for (int64_t k = 0; k < j; k++)
                y = strip_scaled(-unit[j * unit_stride + k], strip_load(updated + k * SQ_SOLVE_ROWS + row), y);
            strip_store(updated + j * SQ_SOLVE_ROWS + row, y);
        }
        for (int64_t at = row; at < end; at += SQ_SOLVE_ROWS)
            strip_store(updated + at, strip_add(strip_load(updated + at), strip_load(weights + at)));
    }
}

/* --- plain loops ------------------------------------------------------------------------------------------------- */

static void nearest(int64_t columns, const float *weights, struct sq_tile_scales scales, int max_code, uint8_t *codes)
{
    for (int64_t row = 0; row < SQ_SOLVE_ROWS; row += STRIP_ROWS) {
        strip zero = strip_load(scales.zero + row), inverse = strip_load(scales.inverse + row);
        strip low = strip_subtract(strip_all(0), zero), high = strip_add(strip_all((float)max_code), low);
        for (int64_t at = row; at < columns * SQ_SOLVE_ROWS; at += SQ_SOLVE_ROWS) {
            strip centred = strip_round_between(strip_multiply(strip_load(weights + at), inverse), low, high);
            strip_store_u8(codes + at, strip_add(centred, zero));
        }
    }
}

static void residual(int64_t columns, const float *weights, struct sq_tile_scales scales, const uint8_t *codes,
                     float *errors)
{
    for (int64_t row = 0; row < SQ_SOLVE_ROWS; row += STRIP_ROWS) {
        strip zero = strip_load(scales.zero + row), scale = strip_load(scales.scale + row);
        for (int64_t at = row; at < columns * SQ_SOLVE_ROWS; at += SQ_SOLVE_ROWS) {
            strip rounded = strip_multiply(scale, strip_subtract(strip_load_u8(codes + at), zero));
            strip_store(errors + at, strip_subtract(strip_load(weights + at), rounded));
        }
    }
}

static void centre(int64_t columns, const uint8_t *codes, const float *zero, float *centred)
{
    for (int64_t row = 0; row < SQ_SOLVE_ROWS; row += STRIP_ROWS) {
        strip shift = strip_load(zero + row);
        for (int64_t at = row; at < columns * SQ_SOLVE_ROWS; at += SQ_SOLVE_ROWS)
            strip_store(centred + at, strip_subtract(strip_load_u8(codes + at), shift));
    }
}

static void dot(int64_t columns, const float *x, const float *y, double factor, double *sums)
{
    for (int64_t row = 0; row < SQ_SOLVE_ROWS; row += STRIP_ROWS) {
        strip sum = strip_all(0);
        for (int64_t at = row; at < columns * SQ_SOLVE_ROWS; at += SQ_SOLVE_ROWS)
            sum = strip_madd(strip_load(x + at), strip_load(y + at), sum);
        add_rows(sum, factor, sums + row);
    }
}

const struct sq_solve_kernels SQ_KERNEL(sq_solve_kernels) = {
    .multiply = SQ_KERNEL(sq_multiply_tile),
    .find_scales = SQ_KERNEL(sq_find_scales),
    .settle = settle,
    .quantize = quantize,
    .nearest = nearest,
    .residual = residual,
    .centre = centre,
    .dot = dot,
    .descend = SQ_KERNEL(sq_descend),
};
