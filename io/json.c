#include "io/json.h"

#include <stdio.h>

#include "base/log.h"
#include "io/map.h"

/* Control characters of the input would break the message's line. */
static void make_printable(char *text)
{
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
}

/* The parser stops just behind a duplicate key but names only short ones: finds the key in the text, into key[]. */
static void copy_key_before(const char *text, size_t position, char *key, size_t room)
{
    size_t start = position;
    while (start > 0 && text[start - 1] != '"')
        start--;
    size_t end = start > 0 ? start - 1 : 0; /* the closing quote */
    start = end;
    while (start > 0 && (text[start - 1] != '"' || (start > 1 && text[start - 2] == '\\')))
        start--;
    snprintf(key, room, "%.*s", (int)(end - start < room ? end - start : room - 1), text + start);
    make_printable(key);
}

enum sq_status sq_json_report(const char *text, size_t size, const char *name, json_error_t *error)
{
    enum sq_status status = json_error_code(error) == json_error_out_of_memory ? SQ_ERR_MEMORY : SQ_ERR_INPUT;
    make_printable(error->text);
    if (json_error_code(error) == json_error_duplicate_key && error->position > 0 && (size_t)error->position <= size) {
        char key[512];
        copy_key_before(text, (size_t)error->position, key, sizeof key);
        sq_error("%s: line %d, column %d: duplicate key \"%s\"", name, error->line, error->column, key);
        return status;
    }
    sq_error("%s: line %d, column %d: %s", name, error->line, error->column, error->text);
    return status;
}

enum sq_status sq_json_parse(const char *text, size_t size, const char *name, json_t **json_p)
{
    if (size > SQ_JSON_MAX_BYTES) {
        sq_error("%s: %zu bytes of JSON, more than the limit of %zu", name, size, SQ_JSON_MAX_BYTES);
        return SQ_ERR_INPUT;
    }
    json_error_t error;
    json_t *json = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    if (!json) return sq_json_report(text, size, name, &error);
    *json_p = json;
    return SQ_OK;
}

enum sq_status sq_json_read(const char *path, json_t **json_p)
{
    struct sq_map map;
    SQ_TRY(sq_map_open(path, &map));
    enum sq_status status = sq_json_parse(map.data, map.bytes, path, json_p);
    sq_map_close(&map);
    return status;
}
