/* A page in the macros of man(7). */
#define _POSIX_C_SOURCE 200809L
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "help/markdown.h"

#define MAN_COLUMNS 76

void sq_man_write_text(const char *text, size_t bytes, bool at_start, FILE *file)
{
    for (size_t i = 0; i < bytes; i++) {
        char c = text[i];
        if (at_start && (c == '.' || c == '\'')) fputs("\\&", file);
        at_start = c == '\n';
        if (c == '\\')
            fputs("\\e", file);
        else if (c == '-')
            fputs("\\-", file);
        else if (c == '\'')
            fputs("\\(aq", file);
        else if (c == '`')
            fputs("\\(ga", file);
        else if (c == '^')
            fputs("\\(ha", file);
        else if (c == '~')
            fputs("\\(ti", file);
        else if (c == '\1')
            fputs("\\fB", file);
        else if (c == '\2')
            fputs("\\fR", file);
        else
            fputc(c, file);
    }
}

/* Sentences go to lines of their own, as man(7) wants it. */
static void write_flowing(const char *text, size_t bytes, FILE *file)
{
    char *line = sq_markdown_resolve(text, bytes, "\1\2", "\1\2");
    for (const char *at = line; at && *at;) {
        const char *end = at;
        while (*end && !(strchr(".?!", *end) && end[1] == ' ' && !islower((unsigned char)end[2])))
            end++;
        if (*end) end++;
        sq_man_write_text(at, (size_t)(end - at), true, file);
        fputc('\n', file);
        at = end + strspn(end, " ");
    }
    free(line);
}

static void write_verbatim(const char *text, size_t bytes, int drop, FILE *file)
{
    const char *end = text + bytes;
    fputs(".RS 4\n.nf\n", file);
    for (const char *line = text; line < end;) {
        size_t length = strcspn(line, "\n"), blanks = strspn(line, " ");
        if (line + length > end) length = (size_t)(end - line);
        if (blanks > (size_t)drop) blanks = (size_t)drop;
        if (blanks > length) blanks = length;
        if (length == blanks) fputs("\\&", file);
        sq_man_write_text(line + blanks, length - blanks, true, file);
        fputc('\n', file);
        line += length + 1;
    }
    fputs(".fi\n.RE\n", file);
}

static void write_table(const struct sq_block *block, FILE *file)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *memory = open_memstream(&text, &bytes);
    if (memory) sq_markdown_write_table(block, MAN_COLUMNS, false, "", memory);
    if (memory && fclose(memory) == 0) {
        fputs(".PP\n", file);
        write_verbatim(text, bytes, 0, file);
    }
    free(text);
}

static void write_item(const struct sq_block *block, FILE *file)
{
    size_t term = sq_markdown_term(block);
    if (term > 0) {
        fputs(".TP\n", file);
        write_flowing(block->text, term, file);
        write_flowing(block->text + term + 2, block->bytes - term - 2, file);
        return;
    }
    bool is_bullet = *block->marker == '-';
    fprintf(file, ".IP %.*s 4\n", is_bullet ? 4 : block->marker_bytes, is_bullet ? "\\(bu" : block->marker);
    write_flowing(block->text, block->bytes, file);
}

static void write_heading(const struct sq_block *block, FILE *file)
{
    fputs(block->level <= 2 ? ".SH " : ".SS ", file);
    for (size_t i = 0; i < block->bytes; i++) {
        char c = block->level <= 2 ? (char)toupper((unsigned char)block->text[i]) : block->text[i];
        sq_man_write_text(&c, 1, false, file);
    }
    fputc('\n', file);
}

void sq_markdown_write_man(const char *text, FILE *file)
{
    struct sq_block block;
    bool after_heading = true; /* where .PP would be one too many */
    while (sq_markdown_next(&text, &block)) {
        if (block.kind == SQ_BLOCK_HEADING) write_heading(&block, file);
        if (block.kind == SQ_BLOCK_PARAGRAPH) {
            if (!after_heading) fputs(".PP\n", file);
            write_flowing(block.text, block.bytes, file);
        }
        if (block.kind == SQ_BLOCK_ITEM) write_item(&block, file);
        if (block.kind == SQ_BLOCK_CODE) {
            if (!after_heading) fputs(".PP\n", file);
            write_verbatim(block.text, block.bytes, block.level, file);
        }
        if (block.kind == SQ_BLOCK_TABLE) write_table(&block, file);
        after_heading = block.kind == SQ_BLOCK_HEADING;
    }
}
