/* What this process did when: spans of time kept in memory for --trace, and sums of them. Off until sq_trace_start():
 * until then a call costs one comparison. For the main thread alone. */
#ifndef SQ_BASE_TRACE_H
#define SQ_BASE_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

enum sq_trace_kind {
    SQ_TRACE_STAGE,     /* a stage of the run */
    SQ_TRACE_COLLECTIVE /* a call that moves data between ranks, or waits for them */
};

struct sq_trace_span {
    const char *name; /* a constant of the program */
    double start, seconds;
    int64_t bytes; /* of a collective: given to it; of a stage: of its collectives */
    int64_t block; /* -1: of none */
    int64_t held;  /* bytes of memory that the process held at its end; 0: not looked at */
    enum sq_trace_kind kind;
};

/* All spans of one name and kind, also those too short to be kept. */
struct sq_trace_sum {
    const char *name;
    enum sq_trace_kind kind;
    int64_t calls, bytes;
    double seconds;
};

/* Begins: time 0 of all spans is now. */
void sq_trace_start(void);

/* Nothing more is added; what there is stays. */
void sq_trace_pause(void);

/* Ends, and forgets everything. */
void sq_trace_stop(void);

/* The clock while tracing, else 0. */
double sq_trace_now(void);

/* What follows belongs to this block. */
void sq_trace_set_block(int64_t block);

/* A span that began at `since`, a value of sq_seconds(), and ends now. One of less than 20 microseconds is only counted
 * in the sums. Nothing is kept any more when there is no memory for it. */
void sq_trace_add(enum sq_trace_kind kind, const char *name, double since, int64_t bytes);

/* What was kept: [*count_p], owned by the trace; and the sums. starts are seconds since sq_trace_start(). */
const struct sq_trace_span *sq_trace_spans(int64_t *count_p);
const struct sq_trace_sum *sq_trace_sums(int *count_p);

#endif
