#define _POSIX_C_SOURCE 200809L
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/terminal.h"

/* The one piece of process-wide state: who is speaking, and where to. */
static struct {
    int rank;
    int n_ranks;
    char error_prefix[48]; /* for sq_log_last_words(), which cannot make it */
    int64_t n_warnings[SQ_N_WARNINGS];
    bool progress_shown;
    bool is_looked_at, has_terminal, has_colors; /* the last two once the first is set */
    FILE *events;
    const char *events_path;
    off_t events_bytes; /* of whole lines; -1: not a file that has a length */
    bool is_cut;
} log_state = {.rank = 0, .n_ranks = 1, .error_prefix = "shardq: error: "};

void sq_log_set_rank(int rank, int n_ranks)
{
    log_state.rank = rank;
    log_state.n_ranks = n_ranks;
    if (n_ranks > 1) snprintf(log_state.error_prefix, sizeof log_state.error_prefix, "shardq: error: [rank %d] ", rank);
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
    log_state.events_path = path;
    log_state.events_bytes = fseeko(log_state.events, 0, SEEK_END) == 0 ? ftello(log_state.events) : -1;
    log_state.is_cut = false;
    return SQ_OK;
}

/* error: of the write that failed; fd: of the file, which is closed here. What is there of the line in work goes, too,
 * as far as it can be taken out: by the descriptor, as the name may have become another file's. */
static void cut_events(int fd, int error)
{
    log_state.is_cut = true;
    bool is_whole = log_state.events_bytes >= 0 && ftruncate(fd, log_state.events_bytes) == 0;
    if (fd >= 0) close(fd);
    sq_warning(SQ_WARNING_LOG, "cannot write to log file %s: %s; %s", log_state.events_path, strerror(error),
               is_whole ? "it ends with the line before" : "it ends here");
}

/* error: of a write that failed before; 0: none has. Closing may write more of a line, and may fail, too. */
static void close_events(int error)
{
    FILE *events = log_state.events;
    log_state.events = NULL;
    if (!events) return;
    int fd = dup(fileno(events));
    if (fclose(events) != 0 && error == 0) error = errno;
    if (error)
        cut_events(fd, error);
    else if (fd >= 0)
        close(fd);
}

void sq_log_close(void)
{
    close_events(0);
}

bool sq_log_is_cut(void)
{
    return log_state.is_cut;
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

/* Adds text up to `end`, or its own end, to a line of `room` bytes; how long the line is then. */
static size_t add(char *line, size_t used, size_t room, const char *text, const char *end)
{
    for (; *text && text != end && used < room; text++)
        line[used++] = (unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text;
    return used;
}

void sq_log_last_words(const char *format, const char *name)
{
    char line[4096];
    const size_t room = sizeof line - 1;
    const char *place = strstr(format, "%s");
    size_t used = add(line, 0, room, log_state.error_prefix, NULL);
    used = add(line, used, room, format, place);
    if (place) used = add(line, used, room, name, NULL);
    if (place) used = add(line, used, room, place + 2, NULL);
    line[used++] = '\n';
    while (write(STDERR_FILENO, line, used) < 0 && errno == EINTR) {
    }
}

void sq_error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    write_line("error", "\033[1;31m", format, args);
    va_end(args);
}

const char *sq_warning_name(enum sq_warning kind)
{
    static const char *const names[SQ_N_WARNINGS] = {
#define X(kind, name) [kind] = name,
        SQ_WARNINGS(X)
#undef X
    };
    return names[kind];
}

void sq_warning(enum sq_warning kind, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log_state.n_warnings[kind]++;
    write_line("warning", "\033[1;33m", format, args);
    va_end(args);
}

int64_t sq_log_n_warnings(void)
{
    int64_t sum = 0;
    for (int kind = 0; kind < SQ_N_WARNINGS; kind++)
        sum += log_state.n_warnings[kind];
    return sum;
}

int64_t sq_log_n_warnings_of(enum sq_warning kind)
{
    return log_state.n_warnings[kind];
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
    FILE *events = log_state.events;
    if (!events) return;
    va_list args;
    va_start(args, format);
    bool is_written = vfprintf(events, format, args) >= 0 && fputc('\n', events) != EOF && fflush(events) == 0;
    va_end(args);
    if (!is_written)
        close_events(errno);
    else if (log_state.events_bytes >= 0)
        log_state.events_bytes = ftello(events);
}

bool sq_log_is_live(void)
{
    return log_state.rank == 0 && has_terminal();
}
