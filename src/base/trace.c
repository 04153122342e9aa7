#include "base/trace.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/node.h"

#define SHORTEST 20e-6 /* seconds of a span that is kept */
#define MAX_NAMES 64
#define AT_ONCE 200e-6 /* seconds between two spans that become one */

/* Where the time went is a property of the process, like its log. */
static struct {
    bool is_on;
    double start;
    int64_t block, bytes; /* bytes of collectives since the last stage */
    struct sq_trace_span *spans;
    int64_t count, room;
    int64_t n_named;                            /* spans before have got the names of their stages */
    int64_t last[SQ_N_TRACE][SQ_TRACE_STREAMS]; /* span beside the stages, + 1; 0: none */
    struct sq_trace_sum sums[MAX_NAMES];
    int n_sums;
} trace;

void sq_trace_start(void)
{
    sq_trace_stop();
    trace.is_on = true;
    trace.start = sq_seconds();
    trace.block = -1;
}

void sq_trace_pause(void)
{
    trace.is_on = false;
}

void sq_trace_stop(void)
{
    free(trace.spans);
    memset(&trace, 0, sizeof trace);
}

double sq_trace_now(void)
{
    return trace.is_on ? sq_seconds() : 0;
}

void sq_trace_set_block(int64_t block)
{
    trace.block = block;
}

static void add_to_sums(const struct sq_trace_span *span)
{
    int i = 0;
    while (i < trace.n_sums && (trace.sums[i].kind != span->kind || strcmp(trace.sums[i].name, span->name)))
        i++;
    if (i == MAX_NAMES) return;
    struct sq_trace_sum *sum = &trace.sums[i];
    if (i == trace.n_sums) *sum = (struct sq_trace_sum){.name = span->name, .kind = span->kind};
    trace.n_sums += i == trace.n_sums;
    sum->calls++;
    sum->bytes += span->bytes;
    sum->seconds += span->seconds;
}

static void keep(const struct sq_trace_span *span)
{
    if (trace.count == trace.room) {
        int64_t room = trace.room ? 2 * trace.room : 4096;
        void *more = realloc(trace.spans, (size_t)room * sizeof *trace.spans);
        if (!more) return;
        trace.spans = more;
        trace.room = room;
    }
    trace.spans[trace.count++] = *span;
}

static void name_spans(const char *stage)
{
    for (; trace.n_named < trace.count; trace.n_named++)
        if (!trace.spans[trace.n_named].name) trace.spans[trace.n_named].name = stage;
}

void sq_trace_add(enum sq_trace_kind kind, const char *name, double since, int64_t bytes)
{
    if (!trace.is_on) return;
    bool is_stage = kind == SQ_TRACE_STAGE;
    struct sq_trace_span span = {.name = name,
                                 .start = since - trace.start,
                                 .seconds = sq_seconds() - since,
                                 .bytes = is_stage ? trace.bytes : bytes,
                                 .block = trace.block,
                                 .kind = kind};
    trace.bytes = is_stage ? 0 : trace.bytes + bytes;
    if (span.start < 0) { /* it began before the trace did */
        span.seconds += span.start;
        span.start = 0;
    }
    add_to_sums(&span);
    if (is_stage) name_spans(name);
    if (span.seconds < SHORTEST) return;
    if (is_stage) span.held = sq_process_memory();
    keep(&span);
}

/* Whether the span goes on where the last one of its stream ended. */
static bool lengthen(struct sq_trace_span *last, const struct sq_trace_span *span)
{
    double gap = span->start - (last->start + last->seconds);
    if (last->name != span->name || last->block != span->block || fabs(gap) > AT_ONCE) return false;
    last->seconds = span->start + span->seconds - last->start;
    last->bytes += span->bytes;
    return true;
}

void sq_trace_add_beside(enum sq_trace_kind kind, int stream, const char *name, double start, double seconds,
                         int64_t bytes)
{
    if (!trace.is_on || start < trace.start) return;
    struct sq_trace_span span = {.name = name,
                                 .start = start - trace.start,
                                 .seconds = seconds,
                                 .bytes = bytes,
                                 .block = trace.block,
                                 .kind = kind,
                                 .stream = stream < SQ_TRACE_STREAMS ? stream : SQ_TRACE_STREAMS - 1};
    int64_t *last = &trace.last[kind][span.stream], before = trace.count;
    if (*last > 0 && lengthen(&trace.spans[*last - 1], &span)) return;
    keep(&span);
    if (trace.count > before) *last = trace.count;
}

const struct sq_trace_span *sq_trace_spans(int64_t *count_p)
{
    *count_p = trace.count;
    return trace.spans;
}

const struct sq_trace_sum *sq_trace_sums(int *count_p)
{
    *count_p = trace.n_sums;
    return trace.sums;
}
