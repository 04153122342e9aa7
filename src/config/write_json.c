/* The configuration as a JSON object; what it says is what the YAML copy says. */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "config/options.h"
#include "config/text.h"

/* text is valid UTF-8. */
static void write_string(const char *text, FILE *file)
{
    fputc('"', file);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            fprintf(file, "\\%c", *text);
        else if ((unsigned char)*text < 0x20 || *text == 0x7f)
            fprintf(file, "\\u%04x", (unsigned)*text);
        else
            fputc(*text, file);
    }
    fputc('"', file);
}

static void write_list(const struct sq_string_list *list, FILE *file)
{
    fputc('[', file);
    for (int i = 0; i < list->count; i++) {
        if (i > 0) fputs(", ", file);
        write_string(list->items[i], file);
    }
    fputc(']', file);
}

static void write_rules(const struct sq_config *config, FILE *file)
{
    fputc('[', file);
    for (int i = 0; i < config->n_rules; i++) {
        const struct sq_rule *rule = &config->rules[i];
        fputs(i > 0 ? ", {\"pattern\": " : "{\"pattern\": ", file);
        write_string(rule->pattern, file);
        if (rule->skip) fputs(", \"skip\": true", file);
        if (rule->bits) fprintf(file, ", \"bits\": %d", rule->bits);
        if (rule->group_size != SQ_GROUP_AUTO) fprintf(file, ", \"group_size\": %" PRId64, rule->group_size);
        fputc('}', file);
    }
    fputc(']', file);
}

/* What YAML writes is a number or true or false in JSON, too, or it is a word. */
static void write_scalar(const struct sq_option *option, const struct sq_config *config, FILE *file)
{
    char text[64] = "";
    FILE *memory = fmemopen(text, sizeof text, "w");
    if (memory) {
        sq_option_write(option, config, memory);
        fclose(memory);
    }
    char *end;
    strtod(text, &end);
    bool is_literal = (end > text && !*end) || option->type == SQ_OPTION_BOOL;
    if (is_literal)
        fputs(text, file);
    else
        write_string(text, file);
}

static void write_value(const struct sq_option *option, const struct sq_config *config, FILE *file)
{
    const void *field = (const char *)config + option->offset;
    if (option->type == SQ_OPTION_STRING)
        write_string(*(char *const *)field, file);
    else if (option->type == SQ_OPTION_LIST)
        write_list(field, file);
    else if (option->type == SQ_OPTION_RULES)
        write_rules(config, file);
    else
        write_scalar(option, config, file);
}

static void write_object(const struct sq_config *config, FILE *file)
{
    int count;
    const char *before = "{";
    const struct sq_option *table = sq_option_table(&count);
    for (int i = 0; i < count; i++) {
        if (table[i].keep < SQ_KEEP_COPY || !sq_option_is_given(&table[i], config)) continue;
        fprintf(file, "%s\"%s\": ", before, table[i].key);
        write_value(&table[i], config, file);
        before = ", ";
    }
    fputc('}', file);
}

enum sq_status sq_config_to_json(const struct sq_config *config, char **json_p)
{
    char *text = NULL;
    size_t bytes = 0;
    enum sq_status status = SQ_ERR_MEMORY;
    FILE *file = open_memstream(&text, &bytes);
    if (file) write_object(config, file);
    if (file && fclose(file) == 0)
        status = sq_string_copy(text, json_p);
    else
        sq_error("cannot write the configuration to memory");
    free(text);
    return status;
}
