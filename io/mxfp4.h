/* Weights in MXFP4 (Open Compute Project, "Microscaling Formats (MX) Specification"), as GPT-OSS is published:
 *
 *   NAME.weight        MXFP4 [N, K]      two numbers of 4 bits (E2M1) in a byte, the first in the low half
 *   NAME.weight_scale  U8 [N, K / 32]    for each block of 32 numbers of a row the exponent of a power of two (E8M0)
 *
 *   W[n, k] = weight[n, k] * 2^(scale[n, k / 32] - 127)       a scale of 255 is no number
 *
 * The names are those that parts of fused experts get (io/fused.h); all numbers are exact in BF16 but for the largest
 * and smallest scales. */
#ifndef SQ_IO_MXFP4_H
#define SQ_IO_MXFP4_H

#include <stdbool.h>
#include <stdint.h>

#include "io/checkpoint.h"

#define SQ_MXFP4_BLOCK 32

/* Whether the tensor has the type and shape of the weight's scales. */
bool sq_mxfp4_fits(const struct sq_tensor *weight, const struct sq_tensor *scale);

/* Elements [first, first + count) of a tensor with scales, in the order of rows, as float; those of a scale that is no
 * number are NaN. Local. */
void sq_mxfp4_load(const struct sq_tensor *tensor, int64_t first, int64_t count, float *values);

#endif
