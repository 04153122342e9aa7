/* Blocks of a page, and the marks in their text. */
#define _POSIX_C_SOURCE 200809L
#include "help/markdown.h"

#include <stdlib.h>
#include <string.h>

static const char *line_end(const char *line)
{
    return line + strcspn(line, "\n");
}

static const char *next_line(const char *line)
{
    const char *end = line_end(line);
    return *end ? end + 1 : end;
}

static int indent_of(const char *line)
{
    return (int)strspn(line, " ");
}

static bool is_blank(const char *line)
{
    return line + indent_of(line) == line_end(line);
}

/* Bytes of "- " or "12. " after the indent; 0: no item begins here. */
static int marker_bytes(const char *line)
{
    const char *at = line + indent_of(line);
    int digits = (int)strspn(at, "0123456789");
    if (*at == '-' && at[1] == ' ') return 2;
    return digits > 0 && at[digits] == '.' && at[digits + 1] == ' ' ? digits + 2 : 0;
}

static bool is_fence(const char *line)
{
    return !strncmp(line, "```", 3);
}

/* Whether a line begins a block of its own kind, so that a paragraph ends before it. */
static bool begins_block(const char *line)
{
    return is_blank(line) || *line == '#' || *line == '|' || is_fence(line) || marker_bytes(line) > 0;
}

/* The block's text ends at `end`, less the line break before. */
static void end_block(struct sq_block *block, const char *end)
{
    block->bytes = (size_t)(end - block->text);
    while (block->bytes > 0 && block->text[block->bytes - 1] == '\n')
        block->bytes--;
}

static const char *read_fenced(const char *line, struct sq_block *block)
{
    block->kind = SQ_BLOCK_CODE;
    block->text = line = next_line(line);
    while (*line && !is_fence(line))
        line = next_line(line);
    end_block(block, line);
    return next_line(line);
}

/* Blank lines inside belong to it. */
static const char *read_indented(const char *line, struct sq_block *block)
{
    const char *end = line;
    block->kind = SQ_BLOCK_CODE;
    block->level = 4;
    for (; *line && (is_blank(line) || indent_of(line) >= 4); line = next_line(line))
        if (!is_blank(line)) end = next_line(line);
    end_block(block, end);
    return end;
}

static const char *read_flowing(const char *line, struct sq_block *block)
{
    int marker = marker_bytes(line);
    block->kind = marker ? SQ_BLOCK_ITEM : SQ_BLOCK_PARAGRAPH;
    block->level = marker ? indent_of(line) : 0;
    block->marker = line + block->level;
    block->marker_bytes = marker ? marker - 1 : 0;
    block->text = line + block->level + marker;
    line = next_line(line);
    while (*line && !begins_block(line))
        line = next_line(line);
    end_block(block, line);
    return line;
}

static const char *read_table(const char *line, struct sq_block *block)
{
    block->kind = SQ_BLOCK_TABLE;
    while (*line == '|')
        line = next_line(line);
    end_block(block, line);
    return line;
}

bool sq_markdown_next(const char **text_p, struct sq_block *block_p)
{
    const char *line = *text_p;
    while (*line && is_blank(line))
        line = next_line(line);
    if (!*line) return false;
    *block_p = (struct sq_block){.text = line};
    if (is_fence(line)) {
        *text_p = read_fenced(line, block_p);
    } else if (*line == '|') {
        *text_p = read_table(line, block_p);
    } else if (*line == '#') {
        block_p->level = (int)strspn(line, "#");
        block_p->text += block_p->level + indent_of(line + block_p->level);
        *text_p = next_line(line);
        end_block(block_p, *text_p);
    } else if (indent_of(line) >= 4 && !marker_bytes(line)) {
        *text_p = read_indented(line, block_p);
    } else {
        *text_p = read_flowing(line, block_p);
    }
    return true;
}

size_t sq_markdown_term(const struct sq_block *item)
{
    const char *end = item->text + item->bytes;
    if (item->kind != SQ_BLOCK_ITEM || *item->text != '`') return 0;
    for (const char *at = item->text + 1; at + 2 < end && *at != '\n'; at++)
        if (at[0] == '`' && at[1] == ':') return (size_t)(at + 1 - item->text);
    return 0;
}

/* --- marks ----------------------------------------------------------------------------------------------------------
 */

struct marks {
    const char *at, *end;
    const char *strong, *code;
    bool in_strong, in_code;
    FILE *file;
};

/* [text](target): the text, and where to read on; a link without brackets behind it is plain text. */
static bool write_link(struct marks *m)
{
    const char *close = memchr(m->at, ']', (size_t)(m->end - m->at));
    if (!close || close + 1 >= m->end || close[1] != '(') return false;
    const char *target = close + 2, *target_end = memchr(target, ')', (size_t)(m->end - target));
    if (!target_end) return false;
    for (const char *c = m->at + 1; c < close; c++)
        if (*c != '`') fputc(*c == '\n' ? ' ' : *c, m->file);
    const char *name = target_end;
    while (name > target && name[-1] != '/')
        name--;
    if (target_end - name > 3 && !strncmp(target_end - 3, ".md", 3))
        fprintf(m->file, " (%cshardq help %.*s%c)", m->code[0], (int)(target_end - 3 - name), name, m->code[1]);
    else if (!strncmp(target, "http", 4))
        fprintf(m->file, " (%.*s)", (int)(target_end - target), target);
    m->at = target_end + 1;
    return true;
}

static void write_space(struct marks *m)
{
    while (m->at < m->end && (*m->at == ' ' || *m->at == '\n'))
        m->at++;
    fputc(' ', m->file);
}

static void write_one(struct marks *m)
{
    if (*m->at == ' ' || *m->at == '\n') {
        write_space(m);
    } else if (*m->at == '`') {
        fputc(m->code[m->in_code], m->file);
        m->in_code = !m->in_code;
        m->at++;
    } else if (!m->in_code && m->at + 1 < m->end && m->at[0] == '*' && m->at[1] == '*') {
        fputc(m->strong[m->in_strong], m->file);
        m->in_strong = !m->in_strong;
        m->at += 2;
    } else if (m->in_code || *m->at != '[' || !write_link(m)) {
        if (*m->at == '\\' && m->at + 1 < m->end && strchr("|*_`", m->at[1])) m->at++;
        fputc(*m->at++, m->file);
    }
}

char *sq_markdown_resolve(const char *text, size_t bytes, const char *strong, const char *code)
{
    char *line = NULL;
    size_t size = 0;
    struct marks m = {.at = text, .end = text + bytes, .strong = strong, .code = code};
    m.file = open_memstream(&line, &size);
    if (!m.file) return NULL;
    while (m.at < m.end)
        write_one(&m);
    if (fclose(m.file) == 0) return line;
    free(line);
    return NULL;
}
