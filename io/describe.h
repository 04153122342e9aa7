/* What config.json says of a checkpoint, by format. */
#ifndef SQ_IO_DESCRIBE_H
#define SQ_IO_DESCRIBE_H

#include <jansson.h>

#include "base/status.h"
#include "io/assemble.h"
#include "io/assemble_plan.h"
#include "io/format.h"
#include "io/modules.h"

/* What there is to be described. */
struct sq_description {
    const struct sq_format_writer *format;
    const struct sq_store *store;
    const struct sq_assemble_options *options;
    const struct sq_assemble_plan *plan;
};

/* The functions of io/format.h's table. Each adds its keys to `config`, or gives one message. Local. */
enum sq_status sq_describe_gptq(const struct sq_description *description, json_t *config) SQ_MUST_CHECK;
enum sq_status sq_describe_packed(const struct sq_description *description, json_t *config) SQ_MUST_CHECK;
enum sq_status sq_describe_plain(const struct sq_description *description, json_t *config) SQ_MUST_CHECK;

/* Where the checkpoint comes from: program, settings that no reader needs, a hash of the store's fingerprint. NULL
 * when there is no memory. Local. */
json_t *sq_describe_origin(const struct sq_description *description);

/* Puts `value` (taken over, NULL when there was no memory for it) under `key`. Local. */
enum sq_status sq_describe_set(json_t *config, const char *key, json_t *value) SQ_MUST_CHECK;

/* Whether all layers are symmetric. Local. */
bool sq_describe_is_symmetric(const struct sq_store *store);

/* A hash of the store's fingerprint: 16 digits and a zero byte. Local. */
void sq_describe_fingerprint(const struct sq_store *store, char text[17]);

#endif
