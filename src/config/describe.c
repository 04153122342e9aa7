#define _POSIX_C_SOURCE 200809L
#include "config/describe.h"

#include <stdlib.h>
#include <string.h>

#define LINE_COLUMNS 100
#define HELP_COLUMN 32 /* where the help of a flag begins */

int sq_option_write_flags(const struct sq_option *option, FILE *file)
{
    if (!option->flag) return fprintf(file, "%s", option->value_name);
    if (option->off_flag) return fprintf(file, "%s | %s", option->flag, option->off_flag);
    if (!option->value_name) return fprintf(file, "%s", option->flag);
    return fprintf(file, "%s %s", option->flag, option->value_name);
}

static void write_wrapped(const char *text, const char *indent, int column, FILE *file)
{
    bool first_on_line = true;
    if (column == 0) column = fprintf(file, "%s", indent);
    while (*text) {
        int length = (int)strcspn(text, " ");
        if (!first_on_line && column + 1 + length > LINE_COLUMNS) {
            column = fprintf(file, "\n%s", indent) - 1;
            first_on_line = true;
        }
        column += fprintf(file, "%s%.*s", first_on_line ? "" : " ", length, text);
        first_on_line = false;
        text += length;
        text += strspn(text, " ");
    }
    fputc('\n', file);
}

void sq_option_write_text(const struct sq_option *option, bool with_default, FILE *file)
{
    bool has_range = option->words || option->max > option->min;
    fputs(option->help, file);
    if (has_range) {
        fputs(" Values: ", file);
        sq_option_write_range(option, file);
        fputc('.', file);
    }
    if (with_default && option->default_text) fprintf(file, " Default: %s.", option->default_text);
}

void sq_option_describe(const struct sq_option *option, bool with_default, const char *indent, int column, FILE *file)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *memory = open_memstream(&text, &bytes);
    if (memory) sq_option_write_text(option, with_default, memory);
    if (memory && fclose(memory) == 0) write_wrapped(text, indent, column, file);
    free(text);
}

static void write_help_row(const struct sq_option *option, FILE *file)
{
    char indent[HELP_COLUMN + 1];
    memset(indent, ' ', HELP_COLUMN);
    indent[HELP_COLUMN] = '\0';
    fputs("  ", file);
    int column = 2 + sq_option_write_flags(option, file);
    if (column + 2 > HELP_COLUMN) {
        fputc('\n', file);
        column = 0;
    } else {
        fprintf(file, "%*s", HELP_COLUMN - column, "");
        column = HELP_COLUMN;
    }
    sq_option_describe(option, true, indent, column, file);
}

void sq_config_write_usage(const char *name, unsigned command, FILE *file)
{
    int count;
    const struct sq_option *table = sq_option_table_of(command, &count);
    fprintf(file, "shardq %s", name);
    for (int i = 0; i < count; i++) {
        bool is_required = table[i].required & command;
        if (!is_required && (table[i].flag || !sq_option_is_for(&table[i], command))) continue;
        fputs(is_required ? " " : " [", file);
        sq_option_write_flags(&table[i], file);
        if (!is_required) fputc(']', file);
    }
    fputs(" [options]\n", file);
}

const char *sq_option_section(const struct sq_option *table, int index)
{
    while (index > 0 && !table[index].section)
        index--;
    return table[index].section;
}

void sq_config_write_options(unsigned command, FILE *file)
{
    int count;
    const struct sq_option *table = sq_option_table_of(command, &count);
    const char *section = NULL;
    for (int i = 0; i < count; i++) {
        if (!sq_option_is_for(&table[i], command)) continue;
        if (sq_option_section(table, i) != section) fprintf(file, "\n%s\n", section = sq_option_section(table, i));
        write_help_row(&table[i], file);
    }
    fputs("\nOf every command\n", file);
    table = sq_common_option_table(&count);
    for (int i = 0; i < count; i++)
        if (sq_option_is_for(&table[i], command)) write_help_row(&table[i], file);
}

void sq_config_write_help(const char *name, const char *summary, unsigned command, FILE *file)
{
    fputs("usage: ", file);
    sq_config_write_usage(name, command, file);
    fprintf(file, "\n%s\n", summary);
    sq_config_write_options(command, file);
    fprintf(file, "\n`shardq help %s` says more.\n", name);
}
