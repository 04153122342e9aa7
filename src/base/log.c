#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/terminal.h"

/* The one piece of process-wide state: who is speaking, and where to. */
static struct {
    int rank;
    int n_ranks;
    int64_t n_warnings;
    bool progress_shown;
    bool is_looked_at, has_terminal, has_colors; /* the last two once the first is set */
    FILE *events;
} log_state = {.rank = 0, .n_ranks = 1};

void sq_log_set_rank(int rank, int n_ranks)
{
    log_state.rank = rank;
    log_state.n_ranks = n_ranks;
}

int sq_log_rank(void)
{
    return log_state.rank;
}

enum sq_status sq_log_open_events(const char *path)
{
    if (log_state.rank != 0) return SQ_OK;
    log_state.events = fopen(path, "a");
    if (!log_state.events) {
        sq_error("cannot open log file %s: %s", path, strerror(errno));
        return SQ_ERR_IO;
    }
    return SQ_OK;
}

void sq_log_close(void)
{
    if (log_state.events) fclose(log_state.events);
    log_state.events = NULL;
}

static bool has_terminal(void)
{
    if (!log_state.is_looked_at) {
        log_state.has_terminal = sq_terminal_is_there();
        log_state.has_colors = sq_terminal_has_colors();
        log_state.is_looked_at = true;
    }
    return log_state.has_terminal;
}

/* Before a line: takes the live line away. Only rank 0 knows whether there is one. */
static bool must_clear(void)
{
    return has_terminal() && (log_state.progress_shown || (log_state.rank != 0 && log_state.n_ranks > 1));
}

static void write_line(const char *kind, const char *color, const char *format, va_list args)
{
    char line[4096];
    size_t used = 0;
    if (must_clear()) used += (size_t)snprintf(line, sizeof line, "\r\033[K");
    log_state.progress_shown = false;
    bool is_colored = color && has_terminal() && log_state.has_colors;
    if (kind)
        used += (size_t)snprintf(line + used, sizeof line - used, "shardq: %s%s:%s ", is_colored ? color : "", kind,
                                 is_colored ? "\033[0m" : "");
    if (kind && log_state.n_ranks > 1)
        used += (size_t)snprintf(line + used, sizeof line - used, "[rank %d] ", log_state.rank);
    size_t start = used;
    vsnprintf(line + used, sizeof line - used - 1, format, args);
    for (char *c = line + start; *c; c++) /* names from files may hold anything: a message stays one line */
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
    strcat(line, "\n");
    fputs(line, stderr); /* one call, so that lines of several ranks do not mix */
    fflush(stderr);
}

void sq_error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    write_line("error", "\033[1;31m", format, args);
    va_end(args);
}

void sq_warning(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log_state.n_warnings++;
    write_line("warning", "\033[1;33m", format, args);
    va_end(args);
}

int64_t sq_log_n_warnings(void)
{
    return log_state.n_warnings;
}

void sq_info(const char *format, ...)
{
    if (log_state.rank != 0) return;
    va_list args;
    va_start(args, format);
    write_line(NULL, NULL, format, args);
    va_end(args);
}

void sq_progress(const char *format, ...)
{
    char line[512], whole[544];
    if (log_state.rank != 0 || !has_terminal()) return;
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    snprintf(whole, sizeof whole, "\r\033[K%.*s", sq_terminal_columns() - 1, line); /* a line that wraps would stay */
    fputs(whole, stderr);
    fflush(stderr);
    log_state.progress_shown = true;
    va_end(args);
}

void sq_event(const char *format, ...)
{
    if (!log_state.events) return;
    va_list args;
    va_start(args, format);
    vfprintf(log_state.events, format, args);
    fputc('\n', log_state.events);
    fflush(log_state.events);
    va_end(args);
}

bool sq_log_is_live(void)
{
    return log_state.rank == 0 && has_terminal();
}
