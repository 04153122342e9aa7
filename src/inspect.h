/* What `shardq inspect` tells of each kind of thing, as JSON objects; and such an object as text. */
#ifndef SQ_INSPECT_H
#define SQ_INSPECT_H

#include <jansson.h>
#include <stdio.h>

#include "base/status.h"
#include "mpi/comm.h"

/* A model folder or a quantized checkpoint. Local. Objects are released with json_decref(). */
enum sq_status sq_inspect_folder(const char *path, json_t **object_p) SQ_MUST_CHECK;

/* A token file, a store. Collective. */
enum sq_status sq_inspect_tokens(const struct sq_comm *world, const char *path, json_t **object_p) SQ_MUST_CHECK;
enum sq_status sq_inspect_store(const struct sq_comm *world, const char *path, json_t **object_p) SQ_MUST_CHECK;

/* Takes over `object`, which jansson's json_pack_ex() made, and passes it on; NULL: prints error, SQ_ERR_MEMORY. */
enum sq_status sq_inspect_made(json_t *object, const json_error_t *error, json_t **object_p) SQ_MUST_CHECK;

/* "key  value" lines; an object in it is indented, a list of objects becomes a table. Numbers whose key ends in _bytes
 * are written as sizes. */
void sq_inspect_write_text(const json_t *object, FILE *file);

#endif
