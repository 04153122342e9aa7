/* What the files that read compressed-tensors layers share. */
#ifndef SQ_IO_PACKED_PRIVATE_H
#define SQ_IO_PACKED_PRIVATE_H

#include <stdint.h>

#include "base/status.h"
#include "io/linear_form.h"
#include "tensor/grid.h"

/* A layer as its tensors are. */
struct sq_packed_layer {
    const struct sq_linear_place *place;
    const struct sq_quantization *quantization;
    const struct sq_layer_rule *rule;                            /* of config_groups; NULL: none */
    const struct sq_tensor *packed, *scale, *shape, *zero_point; /* zero_point: NULL when symmetric */
    struct sq_grid grid;
    int64_t n_groups;
};

/* SQ_ERR_INPUT naming the first key that is not what the tensors are, or that there is none for the layer: readers that
 * go by config_groups would take them for other weights. Local. */
enum sq_status sq_packed_settings_compare(const struct sq_packed_layer *layer) SQ_MUST_CHECK;

#endif
