/* The page: its parts are files in page/, which the build makes part of the program (cmake/Embed.cmake). */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "report/report_private.h"

extern const char sq_embedded_page_html[];
extern const char sq_embedded_page_style[];
extern const char sq_embedded_page_base[];
extern const char sq_embedded_page_charts[];
extern const char sq_embedded_page_table[];
extern const char sq_embedded_page_layers[];
extern const char sq_embedded_page_runs[];
extern const char sq_embedded_page_times[];
extern const char sq_embedded_page_start[];

/* In page.html a line @NAME@ stands for a part. */
static const struct {
    const char *mark, *text;
} parts[] = {
    {"@style@", sq_embedded_page_style}, {"@base@", sq_embedded_page_base},     {"@charts@", sq_embedded_page_charts},
    {"@table@", sq_embedded_page_table}, {"@layers@", sq_embedded_page_layers}, {"@runs@", sq_embedded_page_runs},
    {"@times@", sq_embedded_page_times}, {"@start@", sq_embedded_page_start},
};

static int write_escaped(const char *text, size_t bytes, void *context)
{
    FILE *file = context;
    for (size_t i = 0; i < bytes; i++)
        if ((text[i] == '<' ? fputs("\\u003c", file) : fputc(text[i], file)) == EOF) return -1;
    return 0;
}

bool sq_report_write_json(const json_t *data, FILE *file)
{
    return json_dump_callback(data, write_escaped, file, JSON_COMPACT | JSON_REAL_PRECISION(7)) == 0;
}

static bool write_part(const char *mark, size_t length, const json_t *data, FILE *file)
{
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strlen(parts[i].mark) == length && !strncmp(parts[i].mark, mark, length))
            return fputs(parts[i].text, file) != EOF;
    return sq_report_write_json(data, file); /* @data@ */
}

static bool write_page(const json_t *data, FILE *file)
{
    bool good = true;
    for (const char *line = sq_embedded_page_html; *line && good;) {
        size_t length = strcspn(line, "\n");
        if (length > 2 && line[0] == '@' && line[length - 1] == '@')
            good = write_part(line, length, data, file) && fputc('\n', file) != EOF;
        else
            good = fprintf(file, "%.*s\n", (int)length, line) >= 0;
        line += length + (line[length] == '\n');
    }
    return good;
}

static enum sq_status cannot(const char *what, const char *path)
{
    sq_error("cannot %s report %s: %s", what, path, strerror(errno));
    return SQ_ERR_IO;
}

enum sq_status sq_report_page_write(const json_t *data, const char *out)
{
    char *tmp = NULL;
    SQ_TRY(sq_string_format(&tmp, "%s.tmp", out));
    enum sq_status status = SQ_OK;
    FILE *file = fopen(tmp, "w");
    if (!file) {
        status = cannot("open", tmp);
        goto out_name;
    }
    bool good = write_page(data, file);
    good = fflush(file) == 0 && fsync(fileno(file)) == 0 && good;
    if (!good) status = cannot("write", tmp);
    fclose(file);
    if (status == SQ_OK && rename(tmp, out)) status = cannot("rename", tmp);
    if (status != SQ_OK) unlink(tmp);
out_name:
    sq_free(tmp);
    return status;
}
