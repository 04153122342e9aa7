/* shardq help: the pages, and what a command's help leaves out. */
#define _DEFAULT_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/log.h"
#include "command.h"
#include "command_page.h"
#include "config/text.h"
#include "help/markdown.h"
#include "help/pages.h"

#define COLUMNS_MAX 100

static int terminal_columns(void)
{
    struct winsize size;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 40) return COLUMNS_MAX;
    return size.ws_col < COLUMNS_MAX ? size.ws_col : COLUMNS_MAX;
}

static bool is_styled(void)
{
    const char *off = getenv("NO_COLOR");
    return isatty(STDOUT_FILENO) && !(off && *off);
}

static void write_topics(void)
{
    int count;
    const struct sq_page *pages = sq_page_table(&count);
    puts("usage: shardq help TOPIC\n\nPages");
    for (int i = 0; i < count; i++)
        printf("  %-16s %s\n", pages[i].name, pages[i].summary);
    puts("\nCommands");
    for (const struct sq_command *const *c = sq_commands; *c; c++)
        printf("  %-16s %s\n", (*c)->name, (*c)->summary);
}

static enum sq_status refuse_topic(const char *topic)
{
    char hint[96];
    struct sq_nearest nearest = {.word = topic};
    int count;
    const struct sq_page *pages = sq_page_table(&count);
    for (int i = 0; i < count; i++)
        sq_nearest_try(&nearest, pages[i].name);
    for (const struct sq_command *const *c = sq_commands; *c; c++)
        sq_nearest_try(&nearest, (*c)->name);
    sq_error("shardq help has no page %s%s", topic, sq_nearest_hint(&nearest, hint));
    return SQ_ERR_USAGE;
}

static enum sq_status run(const struct sq_config *config, const struct sq_comm *world)
{
    (void)world;
    const char *topic = config->topic ? config->topic : "shardq";
    const struct sq_command *command = sq_command_find(topic);
    const struct sq_page *page = sq_page_find(topic);
    bool is_program = !strcmp(topic, "shardq");
    if (!command && !page && !is_program) return refuse_topic(topic);
    if (config->as_man && page)
        sq_page_write_man(page, stdout);
    else if (config->as_man)
        sq_command_page_write_man(command, stdout);
    else if (page)
        sq_markdown_write_terminal(page->text, terminal_columns(), is_styled(), stdout);
    else if (command || config->topic)
        sq_command_page_write_terminal(command, terminal_columns(), is_styled(), stdout);
    else
        write_topics();
    return SQ_OK;
}

const struct sq_command sq_command_help = {
    .name = "help",
    .summary = "Shows a page of the manual: of a command, or on a subject.",
    .mask = SQ_COMMAND_HELP,
    .run = run,
};
