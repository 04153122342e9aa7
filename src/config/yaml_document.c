#include "config/yaml_document.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"

#define NESTING_MAX 8 /* a rule of `rules` is at 3 */

static enum sq_status refuse_syntax(const char *name, const yaml_parser_t *parser)
{
    const char *problem = parser->problem ? parser->problem : "not YAML";
    if (parser->error == YAML_MEMORY_ERROR) {
        sq_error("%s: out of memory while parsing", name);
        return SQ_ERR_MEMORY;
    }
    if (parser->error == YAML_READER_ERROR)
        sq_error("%s: %s at byte %zu", name, problem, parser->problem_offset);
    else
        sq_error("%s:%zu: %s%s%s", name, parser->problem_mark.line + 1, parser->context ? parser->context : "",
                 parser->context ? ", " : "", problem);
    return SQ_ERR_USAGE;
}

static const yaml_char_t *anchor_of(const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return event->data.alias.anchor;
    case YAML_SCALAR_EVENT:
        return event->data.scalar.anchor;
    case YAML_SEQUENCE_START_EVENT:
        return event->data.sequence_start.anchor;
    case YAML_MAPPING_START_EVENT:
        return event->data.mapping_start.anchor;
    default:
        return NULL;
    }
}

static enum sq_status check_event(const char *name, const yaml_event_t *event, int *depth)
{
    size_t line = event->start_mark.line + 1;
    if (event->type == YAML_SEQUENCE_START_EVENT || event->type == YAML_MAPPING_START_EVENT) ++*depth;
    if (event->type == YAML_SEQUENCE_END_EVENT || event->type == YAML_MAPPING_END_EVENT) --*depth;
    if (*depth > NESTING_MAX) {
        sq_error("%s:%zu: nested deeper than %d", name, line, NESTING_MAX);
        return SQ_ERR_USAGE;
    }
    if (!anchor_of(event)) return SQ_OK;
    sq_error("%s:%zu: anchors and aliases are not supported", name, line);
    return SQ_ERR_USAGE;
}

/* A walk over the syntax before the tree is built: libyaml's time grows with the square of nesting and of anchors. */
static enum sq_status check_syntax(const char *name, yaml_parser_t *parser)
{
    int depth = 0;
    for (bool at_end = false; !at_end;) {
        yaml_event_t event;
        if (!yaml_parser_parse(parser, &event)) return refuse_syntax(name, parser);
        enum sq_status status = check_event(name, &event, &depth);
        at_end = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
        if (status != SQ_OK) return status;
    }
    return SQ_OK;
}

static enum sq_status open_parser(const char *name, const char *text, size_t bytes, yaml_parser_t *parser_p)
{
    if (!yaml_parser_initialize(parser_p)) {
        sq_error("%s: cannot set up the YAML parser", name);
        return SQ_ERR_MEMORY;
    }
    yaml_parser_set_input_string(parser_p, (const unsigned char *)text, bytes);
    return SQ_OK;
}

static enum sq_status check_text(const char *name, const char *text, size_t bytes)
{
    yaml_parser_t parser;
    if (bytes > SQ_YAML_TEXT_MAX) {
        sq_error("%s: %zu bytes, more than the %d that a configuration may have", name, bytes, SQ_YAML_TEXT_MAX);
        return SQ_ERR_USAGE;
    }
    SQ_TRY(open_parser(name, text, bytes, &parser));
    enum sq_status status = check_syntax(name, &parser);
    yaml_parser_delete(&parser);
    return status;
}

enum sq_status sq_yaml_with_document(const char *name, const char *text, size_t bytes, sq_yaml_apply_fn *apply,
                                     void *context)
{
    yaml_parser_t parser;
    yaml_document_t document, next;
    SQ_TRY(check_text(name, text, bytes));
    SQ_TRY(open_parser(name, text, bytes, &parser));
    enum sq_status status = SQ_OK;
    if (!yaml_parser_load(&parser, &document)) {
        status = refuse_syntax(name, &parser);
        goto out_parser;
    }
    const yaml_node_t *root = yaml_document_get_root_node(&document);
    status = root ? apply(context, &document, root) : SQ_OK;
    if (status != SQ_OK || !root) goto out_document;
    if (!yaml_parser_load(&parser, &next)) {
        status = refuse_syntax(name, &parser);
        goto out_document;
    }
    root = yaml_document_get_root_node(&next);
    if (root) {
        sq_error("%s:%zu: a second document; one is all there may be", name, root->start_mark.line + 1);
        status = SQ_ERR_USAGE;
    }
    yaml_document_delete(&next);

out_document:
    yaml_document_delete(&document);
out_parser:
    yaml_parser_delete(&parser);
    return status;
}

/* What an open file holds. */
static enum sq_status with_stream(const char *what, const char *path, FILE *file, sq_yaml_apply_fn *apply,
                                  void *context)
{
    void *text;
    SQ_TRY(sq_alloc(what, SQ_YAML_TEXT_MAX + 1, 1, &text)); /* one more: too long is seen */
    size_t bytes = fread(text, 1, SQ_YAML_TEXT_MAX + 1, file);
    enum sq_status status = SQ_ERR_IO;
    if (ferror(file))
        sq_error("cannot read %s %s: %s", what, path, strerror(errno));
    else
        status = sq_yaml_with_document(path, text, bytes, apply, context);
    sq_free(text);
    return status;
}

enum sq_status sq_yaml_with_file(const char *what, const char *path, sq_yaml_apply_fn *apply, void *context)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        sq_error("cannot open %s %s: %s", what, path, strerror(errno));
        return SQ_ERR_USAGE;
    }
    enum sq_status status = with_stream(what, path, file, apply, context);
    fclose(file);
    return status;
}
