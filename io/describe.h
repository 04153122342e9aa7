/* What config.json says of a quantized checkpoint, by format. */
#ifndef SQ_IO_DESCRIBE_H
#define SQ_IO_DESCRIBE_H

#include <jansson.h>

#include "base/status.h"
#include "io/assemble.h"
#include "io/assemble_plan.h"
#include "io/format.h"

/* What there is to be described. */
struct sq_description {
    const struct sq_format_writer *format;
    const struct sq_store *store;
    const struct sq_assemble_options *options;
    const struct sq_assemble_plan *plan;
};

/* The setting that most layers have, as readers see it. */
struct sq_setting {
    int bits;
    int64_t group_size; /* -1: one group */
};

/* The first setting that most layers share; an lm_head counts only where it is alone. Local. */
struct sq_setting sq_setting_find_common(const struct sq_store_layer *layers, int n_layers);

/* Whether a reader that goes by the setting reads the layer right. Local. */
bool sq_setting_fits(const struct sq_store_layer *layer, struct sq_setting setting);

bool sq_layer_is_lm_head(const struct sq_store_layer *layer);

/* Where the checkpoint comes from: program, settings that no reader needs, a hash of the store's fingerprint. NULL
 * when there is no memory. Local. */
json_t *sq_describe_origin(const struct sq_description *description);

/* The functions of io/format.h's table. Each adds its keys to `config`, or gives one message. Local. */
enum sq_status sq_describe_gptq(const struct sq_description *description, json_t *config) SQ_MUST_CHECK;
enum sq_status sq_describe_plain(const struct sq_description *description, json_t *config) SQ_MUST_CHECK;

/* 16 digits and a zero byte. Local. */
void sq_describe_fingerprint(const struct sq_store *store, char text[17]);

#endif
