/* The tree of a YAML text, bounded in size and depth; libyaml's errors as ours. */
#ifndef SQ_CONFIG_YAML_DOCUMENT_H
#define SQ_CONFIG_YAML_DOCUMENT_H

#include <stddef.h>
#include <yaml.h>

#include "base/status.h"

#define SQ_YAML_TEXT_MAX (1 << 26) /* bytes of a configuration; the record of 200,000 layers has as many */

typedef enum sq_status sq_yaml_apply_fn(void *context, yaml_document_t *document, const yaml_node_t *root);

/* Parses the text and gives the root of its only document to `apply`, which returns the status; nothing is done when
 * the text is empty. name: stands in messages. SQ_ERR_USAGE with the line: not YAML, nested deeper than makes sense,
 * anchors. */
enum sq_status sq_yaml_with_document(const char *name, const char *text, size_t bytes, sq_yaml_apply_fn *apply,
                                     void *context) SQ_MUST_CHECK;

/* The same of a file. what: "configuration", for messages. SQ_ERR_USAGE when it cannot be opened, SQ_ERR_IO when it
 * cannot be read. Local. */
enum sq_status sq_yaml_with_file(const char *what, const char *path, sq_yaml_apply_fn *apply,
                                 void *context) SQ_MUST_CHECK;

#endif
