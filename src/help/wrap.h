/* Words of a resolved line, wrapped for a terminal. */
#ifndef SQ_HELP_WRAP_H
#define SQ_HELP_WRAP_H

#include <stdbool.h>
#include <stdio.h>

/* Bytes that stand for a change of style in a line; they take no column. */
#define SQ_STYLE_ON '\1'
#define SQ_STYLE_OFF '\2'

/* Marks for sq_markdown_resolve(): styles where there are some; else what is strong is plain, and code is quoted. */
#define SQ_STRONG_MARKS "\1\2"
#define SQ_CODE_MARKS(is_styled) ((is_styled) ? "\1\2" : "``")

/* Columns that the first `bytes` bytes of UTF-8 take. */
int sq_columns_of(const char *text, size_t bytes);

/* Bytes of the longest start of `text` in whole words that fits into `columns`, at least one word; *rest_p: the word
 * after it. */
size_t sq_wrap_line(const char *text, int columns, const char **rest_p);

/* Writes a line with its styles as escape sequences, or without any. *on_p: whether a style is on, across lines. */
void sq_write_styled(const char *text, size_t bytes, bool is_styled, bool *on_p, FILE *file);

#endif
