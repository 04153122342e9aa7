/* Scripts that complete the words of a command line, made from the tables of commands, options and pages. */
#ifndef SQ_COMPLETION_H
#define SQ_COMPLETION_H

#include <stdio.h>

void sq_completion_write_bash(FILE *file);
void sq_completion_write_zsh(FILE *file);

/* What stands for a value: its words, a folder, a file, or anything. */
enum sq_value_kind { SQ_VALUE_NONE, SQ_VALUE_WORDS, SQ_VALUE_FOLDER, SQ_VALUE_FILE, SQ_VALUE_ANY };

struct sq_option;
enum sq_value_kind sq_value_kind_of(const struct sq_option *option);

/* Writes the topics of `shardq help`, separated by blanks. */
void sq_completion_write_topics(FILE *file);

#endif
