/* Option values to text. */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "config/options.h"
#include "config/text.h"

bool sq_option_is_given(const struct sq_option *option, const struct sq_config *config)
{
    const void *field = (const char *)config + option->offset;
    if (option->type == SQ_OPTION_STRING) return *(char *const *)field != NULL;
    if (option->type == SQ_OPTION_RULES) return config->n_rules > 0;
    if (option->type == SQ_OPTION_LIST) return ((const struct sq_string_list *)field)->count > 0;
    return true;
}

/* 5368709120 -> 5G; always exact. */
static void write_size(int64_t bytes, FILE *file)
{
    int unit = 0;
    while (unit < 4 && bytes > 0 && bytes % 1024 == 0) {
        bytes /= 1024;
        unit++;
    }
    fprintf(file, "%" PRId64 "%.*s", bytes, unit > 0, unit > 0 ? &"KMGT"[unit - 1] : "");
}

/* The shortest decimal that reads back as the same double. */
static void write_double(double value, FILE *file)
{
    char text[40];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    fputs(text, file);
}

static void write_integer(const struct sq_option *option, int64_t value, FILE *file)
{
    for (const struct sq_word *word = option->words; word && word->text; word++) {
        if (word->value != value) continue;
        fputs(word->text, file);
        return;
    }
    if (option->type == SQ_OPTION_SIZE)
        write_size(value, file);
    else
        fprintf(file, "%" PRId64, value);
}

static void write_list(const struct sq_string_list *list, FILE *file)
{
    fputc('[', file);
    for (int i = 0; i < list->count; i++) {
        if (i > 0) fputs(", ", file);
        sq_yaml_write_string(list->items[i], file);
    }
    fputc(']', file);
}

static void write_rules(const struct sq_config *config, FILE *file)
{
    fputc('[', file);
    for (int i = 0; i < config->n_rules; i++) {
        const struct sq_rule *rule = &config->rules[i];
        fputs(i > 0 ? ", {pattern: " : "{pattern: ", file);
        sq_yaml_write_string(rule->pattern, file);
        if (rule->skip) fputs(", skip: true", file);
        if (rule->bits) fprintf(file, ", bits: %d", rule->bits);
        if (rule->group_size != SQ_GROUP_AUTO) fprintf(file, ", group_size: %" PRId64, rule->group_size);
        fputc('}', file);
    }
    fputc(']', file);
}

void sq_option_write(const struct sq_option *option, const struct sq_config *config, FILE *file)
{
    const void *field = (const char *)config + option->offset;
    switch (option->type) {
    case SQ_OPTION_BOOL:
        fputs(*(const bool *)field ? "true" : "false", file);
        return;
    case SQ_OPTION_INT:
    case SQ_OPTION_CHOICE:
        write_integer(option, *(const int *)field, file);
        return;
    case SQ_OPTION_INT64:
    case SQ_OPTION_SIZE:
        write_integer(option, *(const int64_t *)field, file);
        return;
    case SQ_OPTION_DOUBLE:
        write_double(*(const double *)field, file);
        return;
    case SQ_OPTION_STRING:
        sq_yaml_write_string(*(char *const *)field, file);
        return;
    case SQ_OPTION_LIST:
        write_list(field, file);
        return;
    case SQ_OPTION_RULES:
        write_rules(config, file);
        return;
    }
}

void sq_option_write_range(const struct sq_option *option, FILE *file)
{
    bool has_numbers = option->max > option->min && option->type != SQ_OPTION_CHOICE;
    for (const struct sq_word *word = option->words; word && word->text; word++) {
        bool is_last = !word[1].text && !has_numbers;
        if (word > option->words) fputs(is_last ? " or " : ", ", file);
        fputs(word->text, file);
    }
    if (!has_numbers) return;
    if (option->words) fputs(" or ", file);
    if (option->type == SQ_OPTION_SIZE) {
        write_size((int64_t)option->min, file);
        fputs(" to ", file);
        write_size((int64_t)option->max, file);
    } else {
        fprintf(file, "%.10g to %.10g", option->min, option->max);
    }
}

enum sq_status sq_option_refuse(const struct sq_option *option, const char *where, const char *text)
{
    char range[160] = "";
    FILE *file = fmemopen(range, sizeof range, "w");
    if (file) {
        sq_option_write_range(option, file);
        fclose(file);
    }
    if (*text)
        sq_error("%s %s: must be %s", where, text, range);
    else
        sq_error("%s: the value is empty; must be %s", where, range);
    return SQ_ERR_USAGE;
}
