/* Completion for zsh. */
#include <string.h>

#include "command.h"
#include "completion.h"
#include "config/options.h"

/* Text inside '...[text]...': what is special to the shell or to _arguments is escaped or left out. */
static void write_escaped(const char *text, FILE *file)
{
    for (; *text; text++) {
        if (*text == '\'' || *text == '`') continue;
        if (strchr("[]:\\", *text)) fputc('\\', file);
        fputc(*text, file);
    }
}

static void write_value(const struct sq_option *option, FILE *file)
{
    enum sq_value_kind kind = sq_value_kind_of(option);
    if (kind == SQ_VALUE_NONE) return;
    fputc(':', file);
    write_escaped(option->value_name, file);
    fputc(':', file);
    if (kind == SQ_VALUE_FOLDER) fputs("_files -/", file);
    if (kind == SQ_VALUE_FILE) fputs("_files", file);
    if (kind != SQ_VALUE_WORDS) return;
    fputc('(', file);
    for (const struct sq_word *word = option->words; word->text; word++)
        fprintf(file, "%s%s", word > option->words ? " " : "", word->text);
    fputc(')', file);
}

/* One line for _arguments: '--bits=[Bits per weight.]:N:(2 3 4 8)'. */
static void write_flag(const struct sq_option *option, const char *flag, FILE *file)
{
    fprintf(file, "        '*%s%s[", flag, option->value_name ? "=" : "");
    write_escaped(option->help, file);
    fputc(']', file);
    write_value(option, file);
    fputs("' \\\n", file);
}

static void write_positional(const struct sq_command *command, const struct sq_option *option, FILE *file)
{
    fprintf(file, "        '%s", option->type == SQ_OPTION_LIST ? "*" : "1");
    if (command->mask != SQ_COMMAND_HELP) {
        write_value(option, file);
    } else {
        fputs(":TOPIC:(", file);
        sq_completion_write_topics(file);
        fputc(')', file);
    }
    fputs("' \\\n", file);
}

static void write_options(const struct sq_command *command, const struct sq_option *table, int count, FILE *file)
{
    for (int i = 0; i < count; i++) {
        if (!sq_option_is_for(&table[i], command->mask)) continue;
        if (!table[i].flag) write_positional(command, &table[i], file);
        if (table[i].flag) write_flag(&table[i], table[i].flag, file);
        if (table[i].off_flag) write_flag(&table[i], table[i].off_flag, file);
    }
}

static void write_command(const struct sq_command *command, FILE *file)
{
    int count;
    const struct sq_option *table = sq_option_table_of(command->mask, &count);
    fprintf(file, "    %s)\n      _arguments \\\n", command->name);
    write_options(command, table, count, file);
    table = sq_common_option_table(&count);
    write_options(command, table, count, file);
    fputs("        && return ;;\n", file);
}

void sq_completion_write_zsh(FILE *file)
{
    fputs("#compdef shardq\n"
          "# Completion of shardq in zsh; made by `shardq completion zsh`.\n"
          "_shardq() {\n"
          "  local -a commands=(\n",
          file);
    for (const struct sq_command *const *c = sq_commands; *c; c++) {
        fprintf(file, "    '%s:", (*c)->name);
        write_escaped((*c)->summary, file);
        fputs("'\n", file);
    }
    fputs("  )\n"
          "  if ((CURRENT == 2)); then\n"
          "    _describe command commands\n"
          "    compadd -- --help --version\n"
          "    return\n"
          "  fi\n"
          "  local command=$words[2]\n"
          "  shift words\n" /* _arguments sees the command as if it were the program */
          "  ((CURRENT--))\n"
          "  case $command in\n",
          file);
    for (const struct sq_command *const *c = sq_commands; *c; c++)
        write_command(*c, file);
    fputs("  esac\n"
          "}\n"
          "if [ \"$funcstack[1]\" = _shardq ]; then _shardq \"$@\"; else compdef _shardq shardq; fi\n",
          file);
}
