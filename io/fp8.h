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

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "io/checkpoint.h"

/* Finds the scales of every tensor of type F8_E4M3, and those of type MXFP4 (io/mxfp4.h). SQ_ERR_INPUT naming both
 * where they have another type or shape; a tensor without scales is no error until it is read. No scale is looked at
 * before its weights are: they lie all over the files, and the system would read most of the model for them. Local. */
enum sq_status sq_fp8_join_scales(struct sq_checkpoint *checkpoint) SQ_MUST_CHECK;

/* Rows of a block by config.json; 0 where it names none. */
int64_t sq_fp8_block_rows(const struct sq_checkpoint *checkpoint);

/* Multiplies elements [first, first + count) of an F8_E4M3 tensor, in `values`, with their scales. Local. */
void sq_fp8_scale(const struct sq_tensor *tensor, int64_t first, int64_t count, float *values);

/* Whether the tensor only says how another one was made of 8-bit (or MXFP4) numbers (scales of weights or inputs):
 * nothing of it is left when that one is written in another type. Local. */
bool sq_fp8_is_auxiliary(const struct sq_checkpoint *checkpoint, const struct sq_tensor *tensor);

#endif
