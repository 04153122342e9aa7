#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The one piece of process-wide state: who is speaking, and where to. */
static struct {
    int rank;
    int n_ranks;
    int64_t n_warnings;
    bool progress_shown;
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

static void write_line(const char *kind, const char *format, va_list args)
{
    char line[4096];
    size_t used = 0;
    if (log_state.progress_shown) used += (size_t)snprintf(line, sizeof line, "\r\033[K");
    log_state.progress_shown = false;
    if (kind) used += (size_t)snprintf(line + used, sizeof line - used, "shardq: %s: ", kind);
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
    write_line("error", format, args);
    va_end(args);
}

void sq_warning(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log_state.n_warnings++;
    write_line("warning", format, args);
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
    write_line(NULL, format, args);
    va_end(args);
}

void sq_progress(const char *format, ...)
{
    if (log_state.rank != 0 || !isatty(STDERR_FILENO)) return;
    va_list args;
    va_start(args, format);
    fputs("\r\033[K", stderr);
    vfprintf(stderr, format, args);
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
