/* A uniform quantization grid: q = scale * (code - zero), code in [0, 2^bits - 1].
 * Symmetric grids have zero = 2^(bits - 1) everywhere. */
#ifndef SQ_TENSOR_GRID_H
#define SQ_TENSOR_GRID_H

#include <stdbool.h>
#include <stdint.h>

#include "base/half.h"
#include "tensor/dtype.h"

struct sq_grid {
    int bits; /* 2, 3, 4 or 8 */
    bool symmetric;
    int64_t group_size;        /* columns that share a scale; resolved: in_features for per-channel */
    enum sq_dtype scale_dtype; /* SQ_F16 or SQ_BF16: every scale is rounded to it before it is used */
};

/* Groups of a row, for a size that a file states and that may be any number: ceil(in_features / group_size), and one
 * where it is not positive. */
SQ_ANYWHERE static inline int64_t sq_group_count(int64_t in_features, int64_t group_size)
{
    return group_size > 0 && group_size < in_features ? (in_features + group_size - 1) / group_size : 1;
}

/* Groups of a row of this grid. */
SQ_ANYWHERE static inline int64_t sq_grid_n_groups(const struct sq_grid *grid, int64_t in_features)
{
    return sq_group_count(in_features, grid->group_size);
}

SQ_ANYWHERE static inline int sq_grid_max_code(const struct sq_grid *grid)
{
    return (1 << grid->bits) - 1;
}

/* The stored value nearest to a scale, held to the positive finite numbers of the type: a scale that vanished would
 * make its whole group zero, one that overflowed would make it infinite. */
SQ_ANYWHERE static inline float sq_grid_round_scale(enum sq_dtype scale_dtype, float scale)
{
    const float lowest = scale_dtype == SQ_F16 ? 0x1p-24f : 0x1p-126f;
    const float highest = scale_dtype == SQ_F16 ? 65504.0f : 0x1.fep127f;
    scale = scale > lowest ? scale : lowest;
    scale = scale < highest ? scale : highest;
    return scale_dtype == SQ_F16 ? sq_f16_to_f32(sq_f32_to_f16(scale)) : sq_bf16_to_f32(sq_f32_to_bf16(scale));
}

/* Whether a stored scale stands where its type ends: at the largest number, or below the smallest with all its digits.
 * Every scale that sq_grid_round_scale() had to hold back does. */
static inline bool sq_grid_is_scale_limited(enum sq_dtype scale_dtype, float scale)
{
    if (scale_dtype == SQ_F16) return scale >= 65504.0f || scale < 0x1p-14f;
    return scale >= 0x1.fep127f || scale <= 0x1p-126f;
}

/* Dequantization of `rows` rows; the one function that turns codes into weights anywhere in the program.
 * codes u8 [rows, in_features]; scales f32 [rows, groups] (values of the stored type); zeros u8 [rows, groups];
 * weights f32 [rows, in_features] out: scale * (code - zero) in f32. */
void sq_grid_dequantize(const struct sq_grid *grid, int64_t rows, int64_t in_features, const uint8_t *codes,
                        const float *scales, const uint8_t *zeros, float *weights);

#endif
