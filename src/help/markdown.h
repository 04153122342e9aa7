/* The part of Markdown that the pages of docs/ use, and two ways to write it: for a terminal, and for man(1). Headings
 * with #, paragraphs, lists with - or 1., tables, code indented by four or between fences; in them **strong**, `code`
 * and [links](page.md). */
#ifndef SQ_HELP_MARKDOWN_H
#define SQ_HELP_MARKDOWN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum sq_block_kind { SQ_BLOCK_HEADING, SQ_BLOCK_PARAGRAPH, SQ_BLOCK_ITEM, SQ_BLOCK_CODE, SQ_BLOCK_TABLE };

/* One block: a part of the page's text. */
struct sq_block {
    enum sq_block_kind kind;
    int level;          /* heading: 1 ... 6; item: columns before its marker; code: columns to drop from each line */
    const char *text;   /* without the marker, with line breaks as they are */
    size_t bytes;       /* of text */
    const char *marker; /* item: "-" or "1." */
    int marker_bytes;
};

/* The block at *text_p, which moves behind it; false at the end. */
bool sq_markdown_next(const char **text_p, struct sq_block *block_p);

/* Bytes of the term of an item "`term`: what it means", with its marks and without the colon; 0: it is no such item. */
size_t sq_markdown_term(const struct sq_block *item);

/* The text of a block that is no code with its marks resolved, as one line: what is strong or code stands between the
 * two bytes of `strong` and of `code`, such as "\1\2"; a link to PAGE.md is followed by how to read it. A new string
 * for free(), or NULL without memory. */
char *sq_markdown_resolve(const char *text, size_t bytes, const char *strong, const char *code);

/* Writes the page, wrapped at `columns`; strong parts and code in bold when is_styled. Local. */
void sq_markdown_write_terminal(const char *text, int columns, bool is_styled, FILE *file);

/* Writes a table alone, as above, each line behind `indent`. */
void sq_markdown_write_table(const struct sq_block *table, int columns, bool is_styled, const char *indent, FILE *file);

/* Writes the page in the macros of man(7): headings become sections (##) and subsections (###). Local. */
void sq_markdown_write_man(const char *text, FILE *file);

/* Writes text for man(7) with what is special to it escaped; at_start: at the beginning of a line. */
void sq_man_write_text(const char *text, size_t bytes, bool at_start, FILE *file);

#endif
