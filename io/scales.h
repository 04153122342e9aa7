/* Tensors of scales, without which the numbers of other tensors mean nothing: of F8_E4M3 (io/fp8.h) and MXFP4
 * (io/mxfp4.h). */
#ifndef SQ_IO_SCALES_H
#define SQ_IO_SCALES_H

#include <stdbool.h>

#include "base/status.h"
#include "io/checkpoint.h"

/* Finds the scales of every tensor whose type has some: NAME_scale_inv or NAME_scale. SQ_ERR_INPUT naming both where
 * they have another type or shape; a tensor without scales is no error until it is read. No scale is looked at before
 * its weights are: they lie all over the files, and the system would read most of the model for them. Local. */
enum sq_status sq_scales_join(struct sq_checkpoint *checkpoint) SQ_MUST_CHECK;

/* Whether the tensor only says how another one was made of such numbers (scales of weights or inputs): nothing of it is
 * left when that one is written in another type. Local. */
bool sq_scales_is_auxiliary(const struct sq_checkpoint *checkpoint, const struct sq_tensor *tensor);

#endif
