/* A trace (mpi/trace_file.h) in a few kilobytes: what part of each slice of time a stage took, and one block whole. */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "report/report_private.h"

#define SLICES 160
#define MAX_STAGES 24
#define MAX_RANKS 32   /* that are drawn */
#define MAX_SPANS 1200 /* of the block in detail */
#define MAX_MEMORY 200 /* points of a rank */
#define LAST_TRACK 1   /* that is drawn: stages, collectives; what goes on beside them is for Perfetto */

struct span {
    const char *name;
    int rank, track;
    double start, seconds; /* start from the beginning of the run */
    json_int_t block, bytes;
};

struct summary {
    const json_t *events;
    double seconds;
    int n_ranks, n_stages;
    const char *stages[MAX_STAGES];
    double *shares;   /* [ranks, stages, slices] seconds */
    json_int_t block; /* in detail */
};

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

/* A complete span ("ph": "X") of a rank that is drawn. */
static bool read_span(const struct summary *summary, const json_t *event, struct span *span_p)
{
    const char *phase = json_string_value(json_object_get(event, "ph"));
    const char *name = json_string_value(json_object_get(event, "name"));
    const json_t *args = json_object_get(event, "args");
    if (!phase || strcmp(phase, "X") || !name) return false;
    *span_p = (struct span){.name = name,
                            .rank = (int)number(event, "pid"),
                            .track = (int)number(event, "tid"),
                            .start = 1e-6 * number(event, "ts"),
                            .seconds = 1e-6 * number(event, "dur"),
                            .block = json_integer_value(json_object_get(args, "block")),
                            .bytes = json_integer_value(json_object_get(args, "bytes"))};
    return span_p->rank >= 0 && span_p->rank < summary->n_ranks && span_p->start >= 0 && span_p->seconds >= 0;
}

static int find_stage(struct summary *summary, const char *name)
{
    int i = 0;
    while (i < summary->n_stages && strcmp(summary->stages[i], name))
        i++;
    if (i == MAX_STAGES) return -1;
    summary->stages[i] = name;
    summary->n_stages += i == summary->n_stages;
    return i;
}

/* --- shares of the stages ----------------------------------------------------------------------------------------- */

static void add_share(struct summary *summary, const struct span *span)
{
    int stage = find_stage(summary, span->name);
    double slice = summary->seconds / SLICES, end = span->start + span->seconds;
    if (stage < 0 || slice <= 0 || span->start >= summary->seconds) return;
    double *shares = summary->shares + (span->rank * MAX_STAGES + stage) * SLICES;
    for (int i = (int)(span->start / slice); i < SLICES && i * slice < end; i++)
        shares[i] += fmin(end, (i + 1) * slice) - fmax(span->start, i * slice);
}

static void add_shares(struct summary *summary)
{
    size_t index;
    json_t *event;
    struct span span;
    json_array_foreach((json_t *)summary->events, index, event) if (read_span(summary, event, &span) && span.track == 0)
        add_share(summary, &span);
}

/* [stage][slice] in percent. */
static json_t *shares_of(const struct summary *summary, int rank)
{
    json_t *all = json_array();
    for (int stage = 0; all && stage < summary->n_stages; stage++) {
        const double *shares = summary->shares + (rank * MAX_STAGES + stage) * SLICES;
        json_t *one = json_array();
        for (int i = 0; one && i < SLICES; i++)
            json_array_append_new(one, json_integer((json_int_t)(100 * shares[i] * SLICES / summary->seconds + 0.5)));
        if (json_array_append_new(all, one)) break;
    }
    return all;
}

/* --- one block, memory -------------------------------------------------------------------------------------------- */

/* [rank, track, name, start, seconds, bytes] of all spans of the block. */
static json_t *spans_of_block(const struct summary *summary)
{
    size_t index;
    json_t *event, *list = json_array();
    struct span span;
    json_array_foreach((json_t *)summary->events, index, event)
    {
        if (!read_span(summary, event, &span) || span.block != summary->block || span.track > LAST_TRACK) continue;
        if (json_array_size(list) == MAX_SPANS) break;
        if (json_array_append_new(list, json_pack("[i, i, s, f, f, I]", span.rank, span.track, span.name, span.start,
                                                  span.seconds, span.bytes)))
            break;
    }
    return list;
}

static json_int_t last_block(const struct summary *summary)
{
    size_t index;
    json_t *event;
    struct span span;
    json_int_t last = -1;
    json_array_foreach((json_t *)summary->events, index,
                       event) if (read_span(summary, event, &span) && span.block > last) last = span.block;
    return last;
}

static bool is_memory_of(const json_t *event, int rank)
{
    const char *phase = json_string_value(json_object_get(event, "ph"));
    return phase && !strcmp(phase, "C") && (int)number(event, "pid") == rank;
}

/* [seconds, bytes], evenly thinned. */
static json_t *memory_of(const struct summary *summary, int rank)
{
    size_t index, count = 0, seen = 0;
    json_t *event, *list = json_array();
    json_array_foreach((json_t *)summary->events, index, event) count += is_memory_of(event, rank);
    json_array_foreach((json_t *)summary->events, index, event)
    {
        if (!is_memory_of(event, rank) || seen++ % (count / MAX_MEMORY + 1)) continue;
        json_int_t bytes = json_integer_value(json_object_get(json_object_get(event, "args"), "bytes"));
        if (json_array_append_new(list, json_pack("[f, I]", 1e-6 * number(event, "ts"), bytes))) break;
    }
    return list;
}

/* --- the whole ---------------------------------------------------------------------------------------------------- */

static json_t *rank_of(const struct summary *summary, const json_t *rank, int index)
{
    json_t *object = json_deep_copy(rank);
    if (object && json_object_set_new(object, "shares", shares_of(summary, index)) == 0 &&
        json_object_set_new(object, "memory", memory_of(summary, index)) == 0)
        return object;
    json_decref(object);
    return NULL;
}

static json_t *describe(const struct summary *summary, const json_t *ranks)
{
    json_t *drawn = json_array(), *stages = json_array(), *others = json_array();
    for (int i = 0; i < summary->n_ranks; i++)
        json_array_append_new(drawn, rank_of(summary, json_array_get(ranks, (size_t)i), i));
    for (size_t i = (size_t)summary->n_ranks; i < json_array_size(ranks); i++)
        json_array_append(others, json_array_get(ranks, i));
    for (int i = 0; i < summary->n_stages; i++)
        json_array_append_new(stages, json_string(summary->stages[i]));
    return json_pack("{s:f, s:o, s:o, s:o, s:I, s:o}", "seconds", summary->seconds, "stages", stages, "ranks", drawn,
                     "others", others, "block", summary->block, "spans", spans_of_block(summary));
}

enum sq_status sq_report_trace(const char *name, const json_t *trace, json_t **object_p)
{
    const json_t *other = json_object_get(trace, "otherData"), *ranks = json_object_get(other, "ranks");
    struct summary summary = {.events = json_object_get(trace, "traceEvents"), .seconds = number(other, "seconds")};
    if (!json_is_array(summary.events) || !json_array_size(ranks) || summary.seconds <= 0) {
        sq_error("%s: a trace without otherData.ranks and seconds: not one that shardq wrote", name);
        return SQ_ERR_INPUT;
    }
    size_t n_ranks = json_array_size(ranks);
    summary.n_ranks = n_ranks < MAX_RANKS ? (int)n_ranks : MAX_RANKS;
    SQ_TRY(sq_alloc("shares of the stages", summary.n_ranks * MAX_STAGES, SLICES * sizeof(double),
                    (void **)&summary.shares));
    summary.block = last_block(&summary) / 2;
    add_shares(&summary);
    json_t *object = describe(&summary, ranks);
    sq_free(summary.shares);
    if (!object) {
        sq_error("cannot describe %s: out of memory", name);
        return SQ_ERR_MEMORY;
    }
    *object_p = object;
    return SQ_OK;
}
