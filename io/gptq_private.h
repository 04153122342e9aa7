/* What the files that read GPTQ layers share. */
#ifndef SQ_IO_GPTQ_PRIVATE_H
#define SQ_IO_GPTQ_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "io/linear_form.h"

/* What is said of a layer. The shapes of its tensors tell its bits and its number of groups; so these decide only where
 * the shapes leave a choice. */
struct sq_gptq_settings {
    const struct sq_quantization *quantization;
    const struct sq_layer_rule *rule; /* of `dynamic`; NULL: none */
    struct sq_stated stated;          /* of the rule or, what that does not say, of all layers */
    bool zeros_less_one;
};

/* A layer as its tensors are. */
struct sq_gptq_layer {
    struct sq_gptq_settings settings;
    const char *folder, *prefix;
    const struct sq_tensor *qweight, *qzeros, *scales, *g_idx; /* g_idx may be NULL */
    int64_t out_features, in_features, n_groups, group_size;
    int bits;
};

/* --- gptq_settings.c --------------------------------------------------------------------------------------------- */

/* SQ_ERR_INPUT when the folder is of another method, or leaves the layer as it is. Local. */
enum sq_status sq_gptq_settings_find(const struct sq_linear_place *place,
                                     struct sq_gptq_settings *settings_p) SQ_MUST_CHECK;

/* SQ_ERR_INPUT naming the first key that is not what the tensors are: readers that go by it would take them for other
 * weights. Reads g_idx, and the zero points of the first group. Local. */
enum sq_status sq_gptq_settings_compare(const struct sq_gptq_layer *layer) SQ_MUST_CHECK;

/* --- gptq_read.c ------------------------------------------------------------------------------------------------- */

/* Output rows and input columns that are unpacked together; 32 codes are always whole words. */
#define SQ_GPTQ_TILE 32

/* Zero points of rows [row, row + rows) of a group, which do not cross a multiple of SQ_GPTQ_TILE. Local. */
void sq_gptq_read_zeros(const struct sq_gptq_layer *layer, int64_t group, int64_t row, int64_t rows, uint8_t *zeros);

#endif
