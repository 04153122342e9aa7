/* Messages to stderr, each one line, and the same as data to a JSON-lines file. Results go to stdout, never here. */
#ifndef SQ_BASE_LOG_H
#define SQ_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* Sets the rank that stands in messages. Local; called once after MPI_Init. Before it, messages carry no rank. */
void sq_log_set_rank(int rank, int n_ranks);
int sq_log_rank(void);

/* Opens the JSON-lines file for events (rank 0 only; other ranks may call and get nothing). Appends. `path` stays the
 * caller's, until sq_log_close(). */
enum sq_status sq_log_open_events(const char *path) SQ_MUST_CHECK;
void sq_log_close(void);

/* Whether an event could not be written: there was a warning, and from then on events are lost. A long run does not end
 * for the sake of its log. */
bool sq_log_is_cut(void);

/* "shardq: error: ..." with "[rank r]" when there are several ranks. What was attempted, on which object, with which
 * values, in the library's own words; no guesses. */
void sq_error(const char *format, ...) SQ_PRINTF(1, 2);

/* What a warning is about, and how --strict calls it. */
#define SQ_WARNINGS(X)                                                                                                 \
    X(SQ_WARNING_LAYER, "layers")                                                                                      \
    X(SQ_WARNING_RULE, "rules without effect")                                                                         \
    X(SQ_WARNING_TOKENIZER, "tokens of another tokenizer")                                                             \
    X(SQ_WARNING_DAMAGE, "damaged files that are made again")                                                          \
    X(SQ_WARNING_FILE, "the file system")                                                                              \
    X(SQ_WARNING_LOG, "the log")

enum sq_warning {
#define X(kind, name) kind,
    SQ_WARNINGS(X)
#undef X
        SQ_N_WARNINGS
};

const char *sq_warning_name(enum sq_warning kind);

/* As sq_error, counted; the count is the number the last line of a run reports and --strict looks at. A warning
 * that every rank would give alike is given on rank 0 only, by the caller. */
void sq_warning(enum sq_warning kind, const char *format, ...) SQ_PRINTF(2, 3);
int64_t sq_log_n_warnings(void);

/* Those of one kind. */
int64_t sq_log_n_warnings_of(enum sq_warning kind);

/* As sq_error, for a handler of signals: format has one %s, and nothing is called that may not be called there. */
void sq_log_last_words(const char *format, const char *name);

/* Plain progress line, rank 0 only. */
void sq_info(const char *format, ...) SQ_PRINTF(1, 2);

/* A line that the next message overwrites, cut to the terminal's width: rank 0, only where sq_log_is_live(). */
void sq_progress(const char *format, ...) SQ_PRINTF(1, 2);

/* Whether a person watches: this is rank 0, and what it writes to stderr comes to a terminal (base/terminal.h). */
bool sq_log_is_live(void);

/* Appends one JSON object (already formatted, without newline) to the events file, if one is open. The first that
 * cannot be written is warned of and closes the file. */
void sq_event(const char *format, ...) SQ_PRINTF(1, 2);

#endif
