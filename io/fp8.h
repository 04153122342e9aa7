/* 8-bit floating point weights with scales, as DeepSeek-V3 (one for each block of 128 x 128 weights, in
 * NAME.weight_scale_inv) and compressed-tensors or ModelOpt (one for the tensor, for each row or block, in
 * NAME.weight_scale) publish them:
 *
 *   NAME.weight            F8_E4M3 [N, K]
 *   NAME.weight_scale_inv  F32, F16 or BF16 [ceil(N / rows), ceil(K / columns)], [N, 1], [N], [1] or []
 *
 *   W[n, k] = weight[n, k] * scale[n / rows, k / columns]     "inv": the inverse of what the weights were divided by
 *
 * rows x columns come from quantization_config: weight_block_size, or block_structure of a group of config_groups. */
#ifndef SQ_IO_FP8_H
#define SQ_IO_FP8_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "io/checkpoint.h"

/* Rows and columns of the weights that a scale is for, by config.json; both 0 where it names none. */
struct sq_fp8_block {
    int64_t rows, columns;
};
struct sq_fp8_block sq_fp8_find_block(const json_t *config);

/* Gives an F8_E4M3 tensor its scales; false: their type or shape is not as above. Local. */
bool sq_fp8_join(struct sq_tensor *tensor, const struct sq_tensor *scale, struct sq_fp8_block block) SQ_MUST_CHECK;

/* Multiplies elements [first, first + count) of an F8_E4M3 tensor, in `values`, with their scales. Local. */
void sq_fp8_scale(const struct sq_tensor *tensor, int64_t first, int64_t count, float *values);

#endif
