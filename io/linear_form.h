/* The forms in which checkpoints hold the weights of a linear layer, one row of a table each (io/linear_read.c). */
#ifndef SQ_IO_LINEAR_FORM_H
#define SQ_IO_LINEAR_FORM_H

#include <stdint.h>

#include "base/status.h"
#include "io/checkpoint.h"
#include "io/quantization.h"

#define SQ_FORM_MAX_PARTS 3

/* A layer that is looked for in a checkpoint. */
struct sq_linear_place {
    const struct sq_checkpoint *checkpoint;
    const char *prefix;
    int64_t out_features, in_features;
    bool is_transposed; /* where it is plain */
};

struct sq_linear_form {
    /* The tensors that hold the weights; a layer that has the first is of this form. NULL behind the last. */
    const char *parts[SQ_FORM_MAX_PARTS + 1];
    /* Whether all tensors are there with the right shapes. */
    enum sq_status (*check)(const struct sq_linear_place *place);
    /* Rows [row, row + rows), which the layer has, as float [rows, in_features]. */
    enum sq_status (*read)(const struct sq_linear_place *place, int64_t row, int64_t rows, float *weights);
};

enum sq_status sq_gptq_check(const struct sq_linear_place *place) SQ_MUST_CHECK;
enum sq_status sq_gptq_read(const struct sq_linear_place *place, int64_t row, int64_t rows,
                            float *weights) SQ_MUST_CHECK;
enum sq_status sq_packed_check(const struct sq_linear_place *place) SQ_MUST_CHECK;
enum sq_status sq_packed_read(const struct sq_linear_place *place, int64_t row, int64_t rows,
                              float *weights) SQ_MUST_CHECK;

/* What the folder says of its quantized layers, when its quant_method is `method`, and the rule for this one (NULL:
 * none). SQ_ERR_INPUT with a message naming the layer when it says nothing, has another method, or leaves the layer as
 * it is. Local. */
enum sq_status sq_linear_settings(const struct sq_linear_place *place, const char *method,
                                  const struct sq_quantization **quantization_p,
                                  const struct sq_layer_rule **rule_p) SQ_MUST_CHECK;

/* "PREFIX.part ... does not fit a layer of N outputs and K inputs", or that the layer has no such part (tensor NULL).
 * Returns SQ_ERR_INPUT. */
enum sq_status sq_linear_report_part(const struct sq_linear_place *place, const char *part,
                                     const struct sq_tensor *tensor);

#endif
