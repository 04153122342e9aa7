/* What this process did when: spans of time kept in memory for --trace, and sums of them. Off until sq_trace_start():
 * until then a call costs one comparison. For the main thread alone. */
#ifndef SQ_BASE_TRACE_H
#define SQ_BASE_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

enum sq_trace_kind {
    SQ_TRACE_STAGE,      /* a stage of the run */
    SQ_TRACE_COLLECTIVE, /* a call that moves data between ranks, or waits for them */
    /* beside both: */
    SQ_TRACE_FILES,   /* reading and writing of the main thread, while workers compute */
    SQ_TRACE_COMPUTE, /* streams of a device */
    SQ_TRACE_COPY_IN,
    SQ_TRACE_COPY_OUT,
    SQ_TRACE_NCCL,
    SQ_N_TRACE
};

#define SQ_TRACE_STREAMS 32 /* of a kind that are told apart; those beyond count as the last */

struct sq_trace_span {
    const char *name; /* a constant of the program; of a span beside the stages NULL: none */
    double start, seconds;
    int64_t bytes; /* of a collective or a copy: given to it; of a stage: of its collectives */
    int64_t block; /* -1: of none */
    int64_t held;  /* bytes of memory that the process held at its end; 0: not looked at */
    enum sq_trace_kind kind;
    int stream; /* of those of its kind, in [0, SQ_TRACE_STREAMS) */
};

/* All spans of one name and kind, also those too short to be kept; of stages and collectives. */
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

/* A span beside the stages; start: a value of sq_seconds(). name NULL: it gets that of the stage that ends next. What
 * goes on at once, or nearly so, with the last span of this stream, name and block makes that one longer. */
void sq_trace_add_beside(enum sq_trace_kind kind, int stream, const char *name, double start, double seconds,
                         int64_t bytes);

/* What was kept: [*count_p], owned by the trace; and the sums. starts are seconds since sq_trace_start(). */
const struct sq_trace_span *sq_trace_spans(int64_t *count_p);
const struct sq_trace_sum *sq_trace_sums(int *count_p);

#endif
