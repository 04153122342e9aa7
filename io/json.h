/* Reading JSON that comes from outside: UTF-8, no duplicate keys, bounded depth and size. */
#ifndef SQ_IO_JSON_H
#define SQ_IO_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

#define SQ_JSON_MAX_BYTES ((size_t)100 * 1000 * 1000) /* also the safetensors format's bound on its header */

/* Parses a JSON file. SQ_ERR_INPUT in the parser's words with file, line and column; SQ_ERR_IO when it cannot be read.
 * Released with json_decref(). Local. */
enum sq_status sq_json_read(const char *path, json_t **json_p) SQ_MUST_CHECK;

/* The same for text in memory, which need not end in a zero byte; `name` stands for the file in messages. Local. */
enum sq_status sq_json_parse(const char *text, size_t size, const char *name, json_t **json_p) SQ_MUST_CHECK;

/* An object of any size whose member `list` is a long list: `each` gets its elements one after the other, and *object_p
 * has an empty list in its place. Values and elements are bounded as whole files are above. Fails as sq_json_read(), or
 * with the status of `each`. Local. */
typedef enum sq_status sq_json_element_fn(void *context, const json_t *element);
enum sq_status sq_json_read_list(const char *path, const char *list, sq_json_element_fn *each, void *context,
                                 json_t **object_p) SQ_MUST_CHECK;

/* Prints why jansson could not parse `text`, and returns the status. Local. */
enum sq_status sq_json_report(const char *text, size_t size, const char *name, json_error_t *error);

#endif
