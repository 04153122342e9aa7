/* The JSON files of an assembled checkpoint. */
#ifndef SQ_IO_ASSEMBLE_CONFIG_H
#define SQ_IO_ASSEMBLE_CONFIG_H

#include <jansson.h>

#include "base/status.h"
#include "io/assemble.h"
#include "io/assemble_plan.h"

/* What is written: config.json, and quantize_config.json and the index where the checkpoint has them, else NULL. */
struct sq_assemble_texts {
    char *config, *quantize_config, *index;
};

/* Makes the texts. config.json is the source's, with quantization_config added (the same object as in
 * quantize_config.json), or with "shardq" for a dequantized checkpoint, which says where it comes from.
 * Released with sq_assemble_texts_release(). Local. */
enum sq_status sq_assemble_texts_make(const struct sq_checkpoint *checkpoint, const struct sq_store *store,
                                      const struct sq_assemble_options *options, const struct sq_assemble_plan *plan,
                                      struct sq_assemble_texts *texts_p) SQ_MUST_CHECK;
void sq_assemble_texts_release(struct sq_assemble_texts *texts);

/* Whether the config.json of a finished folder says that it was assembled from a store with the same fingerprint. */
bool sq_assemble_is_from(const json_t *config, const struct sq_store *store);

/* Whether it says that it was assembled with the same format, dequantized or not, and shard size. */
bool sq_assemble_has_form(const json_t *config, const struct sq_assemble_options *options);

#endif
