/* A JSON object as text for people. */
#include <stdbool.h>
#include <string.h>

#include "base/text.h"
#include "inspect.h"

#define CELL 160
#define KEY_COLUMNS 20

static bool is_size(const char *key)
{
    size_t length = strlen(key);
    return length > 6 && !strcmp(key + length - 6, "_bytes");
}

/* "weight_bytes" -> "weight bytes" */
static const char *write_key(const char *key, char text[CELL])
{
    snprintf(text, CELL, "%s", key);
    for (char *c = text; *c; c++)
        if (*c == '_') *c = ' ';
    return text;
}

static const char *write_cell(const char *key, const json_t *value, char text[CELL])
{
    snprintf(text, CELL, "-"); /* null */
    if (json_is_string(value)) snprintf(text, CELL, "%s", json_string_value(value));
    if (json_is_boolean(value)) snprintf(text, CELL, "%s", json_is_true(value) ? "yes" : "no");
    if (json_is_real(value)) snprintf(text, CELL, "%.5g", json_real_value(value));
    if (json_is_integer(value)) {
        if (is_size(key))
            sq_size_format((double)json_integer_value(value), text);
        else
            snprintf(text, CELL, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    }
    return text;
}

static void write_lines(const char *text, FILE *file)
{
    while (*text) {
        int length = (int)strcspn(text, "\n");
        fprintf(file, "    %.*s\n", length, text);
        text += length;
        if (*text) text++;
    }
}

static int column_width(const json_t *rows, const char *key)
{
    char text[CELL];
    size_t index;
    const json_t *row;
    int width = (int)strlen(write_key(key, text));
    json_array_foreach(rows, index, row)
    {
        int length = (int)strlen(write_cell(key, json_object_get(row, key), text));
        if (length > width) width = length;
    }
    return width;
}

/* All rows have the keys of the first one. */
static void write_table(const json_t *rows, FILE *file)
{
    enum { COLUMNS = 16 };
    int widths[COLUMNS] = {0}, column = 0;
    const char *key;
    json_t *value;
    char text[CELL];
    json_t *first = json_array_get(rows, 0);
    fputs("   ", file);
    json_object_foreach(first, key, value)
    {
        if (column == COLUMNS) break;
        widths[column] = column_width(rows, key);
        fprintf(file, " %*s", column ? widths[column] + 1 : -widths[0], write_key(key, text));
        column++;
    }
    for (size_t i = 0; i < json_array_size(rows); i++) {
        fputs("\n   ", file);
        column = 0;
        json_object_foreach(json_array_get(rows, i), key, value)
        {
            if (column == COLUMNS) break;
            fprintf(file, " %*s", column ? widths[column] + 1 : -widths[0], write_cell(key, value, text));
            column++;
        }
    }
    fputc('\n', file);
}

static void write_object(const json_t *object, const char *indent, FILE *file)
{
    const char *key;
    json_t *value;
    char text[CELL];
    json_object_foreach((json_t *)object, key, value)
    {
        if (json_is_object(value) || json_is_array(value) ||
            (json_is_string(value) && strchr(json_string_value(value), '\n')))
            continue;
        fprintf(file, "%s%-*s ", indent, KEY_COLUMNS, write_key(key, text));
        if (json_is_string(value))
            fprintf(file, "%s\n", json_string_value(value));
        else
            fprintf(file, "%s\n", write_cell(key, value, text));
    }
}

static void write_section(const char *key, const json_t *value, FILE *file)
{
    char text[CELL];
    fprintf(file, "%s\n", write_key(key, text));
    if (json_is_object(value)) write_object(value, "    ", file);
    if (json_is_array(value) && json_array_size(value) > 0) write_table(value, file);
    if (json_is_string(value)) write_lines(json_string_value(value), file);
}

void sq_inspect_write_text(const json_t *object, FILE *file)
{
    const char *key;
    json_t *value;
    write_object(object, "", file);
    json_object_foreach((json_t *)object, key, value)
    {
        bool is_lines = json_is_string(value) && strchr(json_string_value(value), '\n');
        if (json_is_object(value) || json_is_array(value) || is_lines) write_section(key, value, file);
    }
}
