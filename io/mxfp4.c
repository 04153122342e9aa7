#include "io/mxfp4.h"

#include <math.h>

bool sq_mxfp4_fits(const struct sq_tensor *weight, const struct sq_tensor *scale)
{
    return scale->dtype == SQ_U8 && scale->n_dims == 2 && scale->shape[0] == weight->shape[0] &&
           scale->shape[1] * SQ_MXFP4_BLOCK == weight->shape[1];
}

/* 2^(code - 127) */
static float scale_of(uint8_t code)
{
    return code == 255 ? NAN : ldexpf(1.0f, code - 127);
}

/* Columns [begin, end) of a row of bytes, all of one block. */
static void load_block(const uint8_t *row, int64_t begin, int64_t end, float scale, float *values)
{
    static const float numbers[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                      -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};
    for (int64_t k = begin; k < end; k++)
        values[k - begin] = numbers[row[k / 2] >> k % 2 * 4 & 15] * scale;
}

void sq_mxfp4_load(const struct sq_tensor *tensor, int64_t first, int64_t count, float *values)
{
    const uint8_t *codes = tensor->data, *scales = tensor->scale->data;
    int64_t width = tensor->shape[1];
    for (int64_t i = first, end; i < first + count; i = end) {
        int64_t row = i / width, begin = i % width, left = SQ_MXFP4_BLOCK - begin % SQ_MXFP4_BLOCK;
        end = i + left < first + count ? i + left : first + count;
        uint8_t scale = scales[(row * width + begin) / SQ_MXFP4_BLOCK];
        load_block(codes + row * width / 2, begin, begin + end - i, scale_of(scale), values + (i - first));
    }
}
