/* Option values from text. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "config/options.h"
#include "config/text.h"

/* Choices are enums of different types, all read and written as int. */
_Static_assert(sizeof(enum sq_grid_kind) == sizeof(int) && sizeof(enum sq_dtype) == sizeof(int), "enums are ints");

static const struct sq_word *find_word(const struct sq_word *words, const char *text)
{
    for (; words && words->text; words++)
        if (!strcmp(words->text, text)) return words;
    return NULL;
}

enum sq_status sq_option_read_integer(const struct sq_option *option, const char *where, const char *text,
                                      int64_t *value_p)
{
    const struct sq_word *word = find_word(option->words, text);
    if (word) {
        *value_p = word->value;
        return SQ_OK;
    }
    if (option->type == SQ_OPTION_CHOICE) return sq_option_refuse(option, where, text);
    int64_t value = 0;
    if (option->type == SQ_OPTION_SIZE) {
        if (sq_size_parse(text, &value)) return sq_option_refuse(option, where, text);
    } else {
        char *end = NULL;
        errno = 0;
        value = strtoll(text, &end, 10);
        if (!*text || *end || errno || !strchr("-0123456789", *text)) return sq_option_refuse(option, where, text);
    }
    if ((double)value < option->min || (double)value > option->max) return sq_option_refuse(option, where, text);
    *value_p = value;
    return SQ_OK;
}

enum sq_status sq_option_read_bool(const char *where, const char *text, bool *value_p)
{
    if (strcmp(text, "true") && strcmp(text, "false")) {
        sq_error("%s %s: must be true or false", where, text);
        return SQ_ERR_USAGE;
    }
    *value_p = !strcmp(text, "true");
    return SQ_OK;
}

static enum sq_status read_double(const struct sq_option *option, const char *where, const char *text, double *value_p)
{
    char *end = NULL;
    double value = strtod(text, &end);
    bool is_number = *text && !*end && !text[strspn(text, "0123456789.eE+-")];
    if (!is_number || !isfinite(value) || value < option->min || value > option->max)
        return sq_option_refuse(option, where, text);
    *value_p = value;
    return SQ_OK;
}

static enum sq_status check_text(const char *where, const char *text)
{
    if (*text && sq_utf8_is_valid(text)) return SQ_OK;
    sq_error("%s: %s", where, *text ? "the value is not valid UTF-8" : "the value is empty");
    return SQ_ERR_USAGE;
}

static enum sq_status set_string(char **string, const char *where, const char *text)
{
    SQ_TRY(check_text(where, text));
    char *copy = NULL;
    SQ_TRY(sq_string_copy(text, &copy));
    sq_free(*string);
    *string = copy;
    return SQ_OK;
}

enum sq_status sq_list_append(struct sq_string_list *list, const char *where, const char *text, size_t length)
{
    enum { LIST_MAX = 1024 };
    if (list->count == LIST_MAX) {
        sq_error("%s: more than %d values", where, LIST_MAX);
        return SQ_ERR_USAGE;
    }
    void *items = NULL;
    char *item = NULL;
    SQ_TRY(sq_alloc("a list of values", list->count + 1, sizeof *list->items, &items));
    enum sq_status status = sq_string_format(&item, "%.*s", (int)length, text);
    if (status == SQ_OK) status = check_text(where, item);
    if (status != SQ_OK) goto out_item;
    if (list->count > 0) memcpy(items, list->items, (size_t)list->count * sizeof *list->items);
    sq_free(list->items);
    list->items = items;
    list->items[list->count++] = item;
    return SQ_OK;

out_item:
    sq_free(item);
    sq_free(items);
    return status;
}

enum sq_status sq_option_append(const struct sq_option *option, const char *where, const char *text, size_t length,
                                struct sq_config *config)
{
    struct sq_string_list *list = (void *)((char *)config + option->offset);
    int64_t value;
    SQ_TRY(sq_list_append(list, where, text, length));
    return option->max > 0 ? sq_option_read_integer(option, where, list->items[list->count - 1], &value) : SQ_OK;
}

void sq_list_clear(struct sq_string_list *list)
{
    for (int i = 0; i < list->count; i++)
        sq_free(list->items[i]);
    sq_free(list->items);
    *list = (struct sq_string_list){0};
}

static enum sq_status set_list(const struct sq_option *option, const char *where, const char *text,
                               struct sq_config *config)
{
    sq_option_clear(option, config);
    for (;;) {
        size_t length = strcspn(text, ",");
        SQ_TRY(sq_option_append(option, where, text, length, config));
        if (!text[length]) return SQ_OK;
        text += length + 1;
    }
}

enum sq_status sq_option_set(const struct sq_option *option, const char *where, const char *text,
                             struct sq_config *config)
{
    void *field = (char *)config + option->offset;
    int64_t value = 0;
    switch (option->type) {
    case SQ_OPTION_BOOL:
        return sq_option_read_bool(where, text, field);
    case SQ_OPTION_INT:
    case SQ_OPTION_CHOICE:
        SQ_TRY(sq_option_read_integer(option, where, text, &value));
        *(int *)field = (int)value;
        return SQ_OK;
    case SQ_OPTION_INT64:
    case SQ_OPTION_SIZE:
        return sq_option_read_integer(option, where, text, field);
    case SQ_OPTION_DOUBLE:
        return read_double(option, where, text, field);
    case SQ_OPTION_STRING:
        if (option->words && !find_word(option->words, text)) return sq_option_refuse(option, where, text);
        return set_string(field, where, text);
    case SQ_OPTION_LIST:
        return set_list(option, where, text, config);
    case SQ_OPTION_RULES:
        break;
    }
    sq_error("%s: a list of {pattern, skip, bits, group_size} is needed", where);
    return SQ_ERR_USAGE;
}

void sq_option_clear(const struct sq_option *option, struct sq_config *config)
{
    void *field = (char *)config + option->offset;
    if (option->type == SQ_OPTION_STRING) {
        sq_free(*(char **)field);
        *(char **)field = NULL;
    } else if (option->type == SQ_OPTION_LIST) {
        sq_list_clear(field);
    } else if (option->type == SQ_OPTION_RULES) {
        sq_rules_clear(config);
    }
}

enum sq_status sq_config_set_defaults(struct sq_config *config_p)
{
    int count;
    const struct sq_option *table = sq_option_table(&count);
    memset(config_p, 0, sizeof *config_p);
    enum sq_status status = SQ_OK;
    for (int i = 0; i < count && status == SQ_OK; i++)
        if (table[i].default_text) status = sq_option_set(&table[i], table[i].key, table[i].default_text, config_p);
    if (status != SQ_OK) sq_config_release(config_p);
    return status;
}

void sq_config_release(struct sq_config *config)
{
    int count;
    const struct sq_option *table = sq_option_table(&count);
    for (int i = 0; i < count; i++)
        sq_option_clear(&table[i], config);
    sq_list_clear(&config->config_files);
    sq_record_release(&config->record);
}
