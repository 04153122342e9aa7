/* A page is put together as Markdown and written by what writes the pages of docs/. */
#define _POSIX_C_SOURCE 200809L
#include "command_page.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "config/describe.h"
#include "help/markdown.h"

static void add_synopsis(const struct sq_command *command, FILE *file)
{
    fputs("## Synopsis\n\n    ", file);
    if (command)
        sq_config_write_usage(command->name, command->mask, file);
    else
        fputs("shardq COMMAND [options]\n    shardq COMMAND --help\n    shardq --version\n", file);
}

static void add_option(const struct sq_option *option, FILE *file)
{
    fputs("- `", file);
    sq_option_write_flags(option, file);
    fputs("`: ", file);
    sq_option_write_text(option, true, file);
    fputc('\n', file);
}

static void add_options(unsigned command, FILE *file)
{
    int count;
    const char *section = NULL;
    const struct sq_option *table = sq_option_table_of(command, &count);
    fputs("\n## Options\n", file);
    for (int i = 0; i < count; i++) {
        if (!sq_option_is_for(&table[i], command)) continue;
        if (sq_option_section(table, i) != section)
            fprintf(file, "\n### %s\n\n", section = sq_option_section(table, i));
        add_option(&table[i], file);
    }
    fputs("\n### Of every command\n\n", file);
    table = sq_common_option_table(&count);
    for (int i = 0; i < count; i++)
        if (sq_option_is_for(&table[i], command)) add_option(&table[i], file);
}

/* What there is beside this page. */
static void add_lists(FILE *file)
{
    int count;
    const struct sq_page *pages = sq_page_table(&count);
    fputs("\n## Commands\n\n", file);
    for (const struct sq_command *const *c = sq_commands; *c; c++)
        fprintf(file, "- `%s`: %s\n", (*c)->name, (*c)->summary);
    fputs("\n## Pages of shardq help\n\n", file);
    for (int i = 0; i < count; i++)
        fprintf(file, "- `%s`: %s\n", pages[i].name, pages[i].summary);
}

static void add_exit_codes(FILE *file)
{
    fputs("\n## Exit status\n\n", file);
#define X(code, text) fprintf(file, "- `%d`: %s\n", code, text);
    SQ_EXIT_LIST(X)
#undef X
}

/* All but title and summary; NULL after a message. The caller frees it. */
static char *put_together(const struct sq_command *command)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    if (file) {
        const char *body = sq_page_of_command(command ? command->name : "shardq");
        add_synopsis(command, file);
        fprintf(file, "\n## Description\n\n%s", body ? body : "");
        if (command)
            add_options(command->mask, file);
        else
            add_lists(file);
        add_exit_codes(file);
        if (fclose(file) == 0) return text;
    }
    sq_error("cannot put the page together: no memory");
    free(text);
    return NULL;
}

void sq_command_page_write_terminal(const struct sq_command *command, int columns, bool is_styled, FILE *file)
{
    char title[256];
    char *text = put_together(command);
    if (!text) return;
    snprintf(title, sizeof title, "# shardq%s%s\n\n%s\n\n", command ? " " : "", command ? command->name : "",
             command ? command->summary : SQ_PROGRAM_SUMMARY);
    sq_markdown_write_terminal(title, columns, is_styled, file);
    fputc('\n', file);
    sq_markdown_write_terminal(text, columns, is_styled, file);
    free(text);
}

/* .TH and NAME. The summary loses its full stop and its capital, as names have them. */
static void write_man_head(const char *name, int section, const char *summary, FILE *file)
{
    size_t length = strlen(summary);
    char first = (char)tolower((unsigned char)summary[0]);
    if (summary[length - 1] == '.') length--;
    fputs(".TH SHARDQ", file);
    for (const char *c = name; *c; c++)
        fputc(toupper((unsigned char)*c), file);
    fprintf(file, " %d %s \"shardq %s\"\n.SH NAME\n", section, SHARDQ_DATE, SHARDQ_VERSION);
    fputs("shardq", file);
    sq_man_write_text(name, strlen(name), false, file);
    fputs(" \\- ", file);
    sq_man_write_text(&first, 1, false, file);
    sq_man_write_text(summary + 1, length - 1, false, file);
    fputc('\n', file);
}

static void write_see_also(const char *name, FILE *file)
{
    fputs(".SH SEE ALSO\n", file);
    if (*name) fputs(".BR shardq (1),\n", file);
    fputs("\\fBshardq help\\fR lists all pages.\n", file);
}

void sq_command_page_write_man(const struct sq_command *command, FILE *file)
{
    char name[64];
    char *text = put_together(command);
    if (!text) return;
    snprintf(name, sizeof name, "%s%s", command ? "-" : "", command ? command->name : "");
    write_man_head(name, 1, command ? command->summary : SQ_PROGRAM_SUMMARY, file);
    sq_markdown_write_man(text, file);
    write_see_also(name, file);
    free(text);
}

void sq_page_write_man(const struct sq_page *page, FILE *file)
{
    char name[64];
    const char *text = page->text;
    struct sq_block title;
    snprintf(name, sizeof name, "-%s", page->name);
    write_man_head(name, 7, page->summary, file);
    if (sq_markdown_next(&text, &title)) sq_markdown_write_man(text, file);
    write_see_also(name, file);
}
