/* Completion for bash, without the package bash-completion. */
#include <string.h>

#include "command.h"
#include "completion.h"
#include "config/options.h"
#include "help/pages.h"

enum sq_value_kind sq_value_kind_of(const struct sq_option *option)
{
    if (!option->value_name) return SQ_VALUE_NONE;
    if (option->words) return SQ_VALUE_WORDS;
    if (!strncmp(option->value_name, "DIR", 3)) return SQ_VALUE_FOLDER;
    if (!strncmp(option->value_name, "FILE", 4) || !strncmp(option->value_name, "PATH", 4)) return SQ_VALUE_FILE;
    return SQ_VALUE_ANY;
}

void sq_completion_write_topics(FILE *file)
{
    int count;
    const struct sq_page *pages = sq_page_table(&count);
    for (int i = 0; i < count; i++)
        fprintf(file, "%s ", pages[i].name);
    for (const struct sq_command *const *c = sq_commands; *c; c++)
        fprintf(file, "%s%s", (*c)->name, c[1] ? " " : "");
}

static void write_words(const struct sq_option *option, FILE *file)
{
    for (const struct sq_word *word = option->words; word->text; word++)
        fprintf(file, "%s%s", word > option->words ? " " : "", word->text);
}

static void write_flags(const struct sq_option *table, int count, unsigned command, FILE *file)
{
    for (int i = 0; i < count; i++) {
        if (!table[i].flag || !sq_option_is_for(&table[i], command)) continue;
        fprintf(file, " %s", table[i].flag);
        if (table[i].off_flag) fprintf(file, " %s", table[i].off_flag);
    }
}

/* What completes a word after the option, as a line of a `case`. */
static void write_value(const struct sq_command *command, const struct sq_option *option, FILE *file)
{
    enum sq_value_kind kind = sq_value_kind_of(option);
    if (kind == SQ_VALUE_NONE) return;
    fprintf(file, "    %s:%s) ", command->name, option->flag);
    if (kind == SQ_VALUE_FOLDER) fputs("_shardq_files -d; return", file);
    if (kind == SQ_VALUE_FILE) fputs("_shardq_files -f; return", file);
    if (kind == SQ_VALUE_ANY) fputs("return", file);
    if (kind == SQ_VALUE_WORDS) {
        fputs("words=\"", file);
        write_words(option, file);
        fputs("\"", file);
    }
    fputs(" ;;\n", file);
}

static void write_values(const struct sq_command *command, const struct sq_option *table, int count, FILE *file)
{
    for (int i = 0; i < count; i++)
        if (table[i].flag && sq_option_is_for(&table[i], command->mask)) write_value(command, &table[i], file);
}

/* The flags of a command, and what may stand without one. */
static void write_command(const struct sq_command *command, FILE *file)
{
    int count, n_common;
    const struct sq_option *table = sq_option_table_of(command->mask, &count);
    const struct sq_option *common = sq_common_option_table(&n_common);
    fprintf(file, "    %s)\n      words=\"", command->name);
    write_flags(table, count, command->mask, file);
    write_flags(common, n_common, command->mask, file);
    fputs("\"\n", file);
    for (int i = 0; i < count; i++) {
        if (table[i].flag || !sq_option_is_for(&table[i], command->mask)) continue;
        fputs("      case $word in -*) ;; *) ", file);
        if (table[i].words) {
            fputs("words=\"", file);
            write_words(&table[i], file);
            fputs("\"", file);
        } else if (command->mask == SQ_COMMAND_HELP) {
            fputs("words=\"", file);
            sq_completion_write_topics(file);
            fputs("\"", file);
        } else {
            fputs("_shardq_files -f; return", file);
        }
        fputs(" ;; esac\n", file);
    }
    fputs("      ;;\n", file);
}

static const char head[] = "# Completion of shardq in bash; made by `shardq completion bash`.\n"
                           "_shardq_files() {\n"
                           "  compopt -o filenames 2>/dev/null\n"
                           "  local IFS=$'\\n'\n"
                           "  COMPREPLY=($(compgen \"$1\" -- \"$word\"))\n"
                           "}\n"
                           "_shardq() {\n"
                           "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} words\n"
                           "  COMPREPLY=()\n"
                           "  if [ \"$word\" = = ]; then word=; fi # --bits=: three words, the second a sign\n"
                           "  if [ \"$before\" = = ]; then before=${COMP_WORDS[COMP_CWORD-2]}; fi\n"
                           "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
                           "    words=\"";

void sq_completion_write_bash(FILE *file)
{
    int count, n_common;
    const struct sq_option *common = sq_common_option_table(&n_common);
    fputs(head, file);
    for (const struct sq_command *const *c = sq_commands; *c; c++)
        fprintf(file, "%s ", (*c)->name);
    fputs("--help --version\"\n"
          "    COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
          "    return\n"
          "  fi\n"
          "  case ${COMP_WORDS[1]} in\n",
          file);
    for (const struct sq_command *const *c = sq_commands; *c; c++)
        write_command(*c, file);
    fputs("  esac\n  case ${COMP_WORDS[1]}:$before in\n", file);
    for (const struct sq_command *const *c = sq_commands; *c; c++) {
        const struct sq_option *table = sq_option_table_of((*c)->mask, &count);
        write_values(*c, table, count, file);
        write_values(*c, common, n_common, file);
    }
    fputs("  esac\n"
          "  COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
          "}\n"
          "complete -F _shardq shardq\n",
          file);
}
