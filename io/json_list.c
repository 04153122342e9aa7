/* An object whose one long list is never in memory as a whole: the text is mapped, and its values are parsed one by
 * one. */
#include <string.h>

#include "base/log.h"
#include "io/json.h"
#include "io/map.h"

#define VALUE_FLAGS (JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_DISABLE_EOF_CHECK)

struct reader {
    const char *name, *text;
    size_t bytes, at;
};

static void skip_space(struct reader *reader)
{
    while (reader->at < reader->bytes && strchr(" \t\r\n", reader->text[reader->at]) && reader->text[reader->at])
        reader->at++;
}

/* Whether this mark comes next; then it is passed. */
static bool take(struct reader *reader, char mark)
{
    skip_space(reader);
    bool found = reader->at < reader->bytes && reader->text[reader->at] == mark;
    reader->at += found;
    return found;
}

static int line_of(const struct reader *reader)
{
    int line = 1;
    for (size_t i = 0; i < reader->at; i++)
        line += reader->text[i] == '\n';
    return line;
}

static enum sq_status expected(const struct reader *reader, const char *what)
{
    sq_error("%s: line %d: expected %s", reader->name, line_of(reader), what);
    return SQ_ERR_INPUT;
}

static enum sq_status read_value(struct reader *reader, json_t **value_p)
{
    json_error_t error;
    size_t left = reader->bytes - reader->at;
    json_t *value =
        json_loadb(reader->text + reader->at, left < SQ_JSON_MAX_BYTES ? left : SQ_JSON_MAX_BYTES, VALUE_FLAGS, &error);
    if (!value) {
        error.line += line_of(reader) - 1;
        return sq_json_report(reader->text + reader->at, left, reader->name, &error);
    }
    reader->at += (size_t)error.position;
    *value_p = value;
    return SQ_OK;
}

static enum sq_status read_list(struct reader *reader, sq_json_element_fn *each, void *context)
{
    if (!take(reader, '[')) return expected(reader, "a list");
    if (take(reader, ']')) return SQ_OK;
    do {
        json_t *element = NULL;
        SQ_TRY(read_value(reader, &element));
        enum sq_status status = each(context, element);
        json_decref(element);
        SQ_TRY(status);
    } while (take(reader, ','));
    return take(reader, ']') ? SQ_OK : expected(reader, "\",\" or \"]\"");
}

static enum sq_status no_room(const struct reader *reader)
{
    sq_error("cannot read %s: out of memory", reader->name);
    return SQ_ERR_MEMORY;
}

/* One "key": value of the object; of the long list an empty one is kept. */
static enum sq_status read_member(struct reader *reader, const char *list, sq_json_element_fn *each, void *context,
                                  json_t *object)
{
    json_t *key = NULL, *value = NULL;
    skip_space(reader);
    SQ_TRY(read_value(reader, &key));
    enum sq_status status = SQ_OK;
    const char *name = json_string_value(key);
    if (!name || json_object_get(object, name))
        status = expected(reader, "another key");
    else if (!take(reader, ':'))
        status = expected(reader, "\":\"");
    else if (!strcmp(name, list))
        status = (value = json_array()) ? read_list(reader, each, context) : no_room(reader);
    else
        status = read_value(reader, &value);
    if (status == SQ_OK && json_object_set(object, name, value)) status = no_room(reader);
    json_decref(value);
    json_decref(key);
    return status;
}

static enum sq_status read_object(struct reader *reader, const char *list, sq_json_element_fn *each, void *context,
                                  json_t *object)
{
    if (!take(reader, '{')) return expected(reader, "an object");
    if (!take(reader, '}')) {
        do
            SQ_TRY(read_member(reader, list, each, context, object));
        while (take(reader, ','));
        if (!take(reader, '}')) return expected(reader, "\",\" or \"}\"");
    }
    skip_space(reader);
    return reader->at == reader->bytes ? SQ_OK : expected(reader, "nothing more");
}

enum sq_status sq_json_read_list(const char *path, const char *list, sq_json_element_fn *each, void *context,
                                 json_t **object_p)
{
    struct sq_map map;
    SQ_TRY(sq_map_open(path, &map));
    struct reader reader = {.name = path, .text = map.data, .bytes = map.bytes};
    json_t *object = json_object();
    enum sq_status status = object ? read_object(&reader, list, each, context, object) : no_room(&reader);
    sq_map_close(&map);
    if (status == SQ_OK)
        *object_p = object;
    else
        json_decref(object);
    return status;
}
