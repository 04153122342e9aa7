/* What a checkpoint says of the job that made it: the file shardq.json in its folder.
 *
 *   shardq            the program's version
 *   config            the resolved settings: `shardq quantize --config FOLDER/shardq.json` makes the same bytes again
 *   fingerprint       everything that decides the bytes, hashes of model and tokens among it
 *   versions          of program and libraries, when the store was made
 *   source_bytes      tensors of the model
 *   checkpoint_bytes  safetensors files of this folder
 *   layers            one object per quantized layer: shape, grid, errors, damping, what was warned of
 *
 * Nothing in it depends on time or on the number of ranks. */
#ifndef SQ_IO_JOB_RECORD_H
#define SQ_IO_JOB_RECORD_H

#include <jansson.h>

#include "base/status.h"
#include "io/assemble.h"
#include "io/checkpoint.h"
#include "io/store.h"

#define SQ_JOB_RECORD_NAME "shardq.json"

/* The layers of a store as a list of objects; figures of those that are not complete are null. Released with
 * json_decref(), like all objects here. Local. */
enum sq_status sq_job_record_layers(const struct sq_store *store, json_t **layers_p) SQ_MUST_CHECK;

/* Lines "key: value" as an object of strings; lines as a list. NULL when there is no memory. Local. */
json_t *sq_job_record_pairs(const char *lines);
json_t *sq_job_record_lines(const char *lines);

/* Bytes of all tensors of a folder. Local. */
int64_t sq_job_record_tensor_bytes(const struct sq_checkpoint *checkpoint);

/* The settings a store was made with, as JSON of typed values; options not NULL: with the form of that checkpoint.
 * Local. */
enum sq_status sq_job_record_config(const struct sq_store *store, const struct sq_assemble_options *options,
                                    json_t **config_p) SQ_MUST_CHECK;

/* The text of the file, released with sq_free(). Local. */
enum sq_status sq_job_record_make(const struct sq_checkpoint *source, const struct sq_store *store,
                                  const struct sq_assemble_options *options, int64_t checkpoint_bytes,
                                  char **text_p) SQ_MUST_CHECK;

#endif
