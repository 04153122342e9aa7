/* A page for a terminal. */
#include <stdlib.h>
#include <string.h>

#include "help/markdown.h"
#include "help/wrap.h"

struct writer {
    int columns;
    bool is_styled;
    FILE *file;
};

/* One flowing text behind `first` on its first line and as many blanks on the others. */
static void write_flowing(const struct writer *w, const char *first, const char *text, size_t bytes)
{
    char *line = sq_markdown_resolve(text, bytes, SQ_STRONG_MARKS, SQ_CODE_MARKS(w->is_styled));
    int indent = (int)strlen(first);
    bool on = false;
    const char *at = line;
    while (at && *at) {
        const char *rest;
        size_t length = sq_wrap_line(at, w->columns - indent, &rest);
        fprintf(w->file, "%*s", indent, at == line ? first : "");
        sq_write_styled(at, length, w->is_styled, &on, w->file);
        fputc('\n', w->file);
        at = rest;
    }
    free(line);
}

static void write_heading(const struct writer *w, const struct sq_block *block)
{
    bool on = true;
    sq_write_styled(block->text, block->bytes, w->is_styled, &on, w->file);
    fputc('\n', w->file);
    if (w->is_styled || block->level > 2) return;
    for (int i = 0; i < sq_columns_of(block->text, block->bytes); i++)
        fputc(block->level == 1 ? '=' : '-', w->file);
    fputc('\n', w->file);
}

static void write_code(const struct writer *w, const struct sq_block *block)
{
    const char *end = block->text + block->bytes;
    for (const char *line = block->text; line < end;) {
        size_t length = strcspn(line, "\n");
        size_t drop = strspn(line, " ");
        if (drop > (size_t)block->level) drop = (size_t)block->level;
        if (line + length > end) length = (size_t)(end - line);
        if (length > drop) fprintf(w->file, "    %.*s", (int)(length - drop), line + drop);
        fputc('\n', w->file);
        line += length + 1;
    }
}

static void write_item(const struct writer *w, const struct sq_block *block)
{
    char first[32];
    size_t term = sq_markdown_term(block);
    if (term > 0) {
        write_flowing(w, "  ", block->text, term);
        write_flowing(w, "        ", block->text + term + 2, block->bytes - term - 2);
        return;
    }
    snprintf(first, sizeof first, "%*s%.*s ", block->level + 2, "", block->marker_bytes, block->marker);
    write_flowing(w, first, block->text, block->bytes);
}

void sq_markdown_write_terminal(const char *text, int columns, bool is_styled, FILE *file)
{
    struct writer w = {columns, is_styled, file};
    struct sq_block block;
    bool is_first = true, was_item = false;
    while (sq_markdown_next(&text, &block)) {
        bool is_item = block.kind == SQ_BLOCK_ITEM;
        if (!is_first && !(is_item && was_item && sq_markdown_term(&block) == 0)) fputc('\n', file);
        if (block.kind == SQ_BLOCK_HEADING) write_heading(&w, &block);
        if (block.kind == SQ_BLOCK_PARAGRAPH) write_flowing(&w, "", block.text, block.bytes);
        if (block.kind == SQ_BLOCK_ITEM) write_item(&w, &block);
        if (block.kind == SQ_BLOCK_CODE) write_code(&w, &block);
        if (block.kind == SQ_BLOCK_TABLE) sq_markdown_write_table(&block, columns, is_styled, "", file);
        is_first = false;
        was_item = is_item;
    }
}
