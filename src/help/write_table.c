/* A table for a terminal: cells are wrapped within their column. */
#include <stdlib.h>
#include <string.h>

#include "help/markdown.h"
#include "help/wrap.h"

#define COLUMNS_MAX 10
#define GAP 2
#define NARROWEST 10

struct row {
    int n_cells;
    char *cells[COLUMNS_MAX]; /* resolved */
};

/* The end of the cell at `text`: a bar that is not escaped and not in code, or the end. */
static const char *cell_end(const char *text, const char *end)
{
    bool in_code = false;
    for (; text < end && *text != '\n'; text++) {
        if (*text == '`') in_code = !in_code;
        if (*text == '|' && !in_code && text[-1] != '\\') break;
    }
    return text;
}

/* Reads one line "| a | b |". */
static void read_row(const char *line, const char *end, bool is_styled, struct row *row_p)
{
    row_p->n_cells = 0;
    while (line < end && *line == '|' && row_p->n_cells < COLUMNS_MAX) {
        const char *from = ++line, *to = line = cell_end(line, end);
        while (from < to && *from == ' ')
            from++;
        while (to > from && to[-1] == ' ')
            to--;
        if (line == end || *line == '\n') break;
        row_p->cells[row_p->n_cells++] =
            sq_markdown_resolve(from, (size_t)(to - from), SQ_STRONG_MARKS, SQ_CODE_MARKS(is_styled));
    }
}

static void release_row(struct row *row)
{
    for (int c = 0; c < row->n_cells; c++)
        free(row->cells[c]);
}

static const char *cell_of(const struct row *row, int column)
{
    return column < row->n_cells && row->cells[column] ? row->cells[column] : "";
}

/* Natural widths, then narrower by one where it is widest until the table fits. */
static void fit_widths(int *widths, int n_columns, int columns)
{
    int sum = GAP * (n_columns - 1), widest;
    for (int c = 0; c < n_columns; c++)
        sum += widths[c];
    for (; sum > columns; sum--) {
        widest = 0;
        for (int c = 1; c < n_columns; c++)
            if (widths[c] > widths[widest]) widest = c;
        if (widths[widest] <= NARROWEST) return;
        widths[widest]--;
    }
}

static void write_row(const struct row *row, const int *widths, int n_columns, bool is_styled, const char *indent,
                      FILE *file)
{
    const char *rest[COLUMNS_MAX];
    bool on[COLUMNS_MAX] = {false}, any = true;
    for (int c = 0; c < n_columns; c++)
        rest[c] = cell_of(row, c);
    while (any) {
        int pending = 0; /* blanks that are written only when something follows */
        any = false;
        fputs(indent, file);
        for (int c = 0; c < n_columns; c++) {
            const char *at = rest[c];
            size_t length = *at ? sq_wrap_line(at, widths[c], &rest[c]) : 0;
            if (length > 0) fprintf(file, "%*s", pending, "");
            if (length > 0) pending = 0;
            sq_write_styled(at, length, is_styled, &on[c], file);
            pending += widths[c] + GAP - sq_columns_of(at, length);
            any |= *rest[c] != '\0';
        }
        fputc('\n', file);
    }
}

static bool is_rule(const char *line)
{
    return strspn(line, "|-: ") == strcspn(line, "\n");
}

/* Calls for each row: first to measure (widths), then to write. */
static void walk(const struct sq_block *table, bool is_styled, int *widths, int *n_columns, const char *indent,
                 FILE *file)
{
    const char *end = table->text + table->bytes;
    for (const char *line = table->text; line < end; line += strcspn(line, "\n") + 1) {
        struct row row;
        if (is_rule(line)) continue;
        read_row(line, end, is_styled, &row);
        for (int c = 0; c < row.n_cells && !file; c++) {
            int width = sq_columns_of(cell_of(&row, c), strlen(cell_of(&row, c)));
            if (width > widths[c]) widths[c] = width;
        }
        if (row.n_cells > *n_columns) *n_columns = row.n_cells;
        if (file) write_row(&row, widths, *n_columns, is_styled, indent, file);
        release_row(&row);
        if (line + strcspn(line, "\n") >= end) break;
    }
}

void sq_markdown_write_table(const struct sq_block *table, int columns, bool is_styled, const char *indent, FILE *file)
{
    int widths[COLUMNS_MAX] = {0}, n_columns = 0;
    walk(table, is_styled, widths, &n_columns, indent, NULL);
    fit_widths(widths, n_columns, columns - (int)strlen(indent));
    walk(table, is_styled, widths, &n_columns, indent, file);
}
