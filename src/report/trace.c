/* A trace (mpi/trace_file.h) in a few kilobytes: what part of each slice of time a stage took, and one block whole. */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "report/report_private.h"

#define SLICES 160
#define MAX_SPANS 1200     /* of the block in detail: the longest */
#define MAX_DETAIL_RANKS 8 /* of the block in detail */
#define MAX_MEMORY 200     /* points of a rank */

struct summary {
    const struct sq_report_events *events;
    double seconds;
    int n_ranks, n_stages, n_left_out;
    int stages[SQ_REPORT_NAMES]; /* indices of names */
    double *shares;              /* [ranks, names, slices] seconds */
    int64_t block;               /* in detail */
};

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

/* --- shares of the stages ----------------------------------------------------------------------------------------- */

static double *shares_at(const struct summary *summary, int rank, int name)
{
    return summary->shares + (rank * SQ_REPORT_NAMES + name) * SLICES;
}

static void note_stage(struct summary *summary, int name)
{
    for (int i = 0; i < summary->n_stages; i++)
        if (summary->stages[i] == name) return;
    summary->stages[summary->n_stages++] = name;
}

static void add_share(struct summary *summary, const struct sq_report_span *span)
{
    double slice = summary->seconds / SLICES, end = span->start + span->seconds;
    note_stage(summary, span->name);
    if (slice <= 0 || span->start >= summary->seconds) return;
    double *shares = shares_at(summary, span->rank, span->name);
    for (int i = (int)(span->start / slice); i < SLICES && i * slice < end; i++)
        shares[i] += fmin(end, (i + 1) * slice) - fmax(span->start, i * slice);
}

static void add_shares(struct summary *summary)
{
    for (int64_t i = 0; i < summary->events->n_spans; i++) {
        const struct sq_report_span *span = &summary->events->spans[i];
        if (span->is_stage && span->rank < summary->n_ranks) add_share(summary, span);
    }
}

/* [stage][slice] in percent. */
static json_t *shares_of(const struct summary *summary, int rank)
{
    json_t *all = json_array();
    for (int stage = 0; all && stage < summary->n_stages; stage++) {
        const double *shares = shares_at(summary, rank, summary->stages[stage]);
        json_t *one = json_array();
        for (int i = 0; one && i < SLICES; i++)
            json_array_append_new(one, json_integer((json_int_t)(100 * shares[i] * SLICES / summary->seconds + 0.5)));
        if (json_array_append_new(all, one)) break;
    }
    return all;
}

/* --- one block in detail ------------------------------------------------------------------------------------------ */

static bool is_in_detail(const struct summary *summary, const struct sq_report_span *span)
{
    return span->block == summary->block && span->rank < summary->n_ranks && span->rank < MAX_DETAIL_RANKS;
}

static int by_descending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* Spans shorter than this are left out. */
static enum sq_status find_shortest(struct summary *summary, double *shortest_p)
{
    const struct sq_report_events *events = summary->events;
    int64_t count = 0;
    double *seconds;
    SQ_TRY(sq_alloc("durations of a block", events->n_spans, sizeof *seconds, (void **)&seconds));
    for (int64_t i = 0; i < events->n_spans; i++)
        if (is_in_detail(summary, &events->spans[i])) seconds[count++] = events->spans[i].seconds;
    qsort(seconds, (size_t)count, sizeof *seconds, by_descending);
    *shortest_p = count > MAX_SPANS ? seconds[MAX_SPANS - 1] : 0;
    summary->n_left_out = count > MAX_SPANS ? (int)(count - MAX_SPANS) : 0;
    sq_free(seconds);
    return SQ_OK;
}

/* [rank, track, name, start, seconds, bytes] of the block's spans. */
static json_t *spans_of_block(const struct summary *summary, double shortest)
{
    const struct sq_report_events *events = summary->events;
    json_t *list = json_array();
    for (int64_t i = 0; list && i < events->n_spans && json_array_size(list) < MAX_SPANS; i++) {
        const struct sq_report_span *span = &events->spans[i];
        if (!is_in_detail(summary, span) || span->seconds < shortest) continue;
        if (json_array_append_new(list, json_pack("[i, i, s, f, f, I]", span->rank, span->is_stage ? 0 : 1,
                                                  events->names[span->name], span->start, span->seconds,
                                                  (json_int_t)span->bytes)))
            break;
    }
    return list;
}

static int64_t last_block(const struct sq_report_events *events)
{
    int64_t last = -1;
    for (int64_t i = 0; i < events->n_spans; i++)
        if (events->spans[i].block > last) last = events->spans[i].block;
    return last;
}

/* --- memory ------------------------------------------------------------------------------------------------------- */

/* [seconds, bytes], evenly thinned. */
static json_t *memory_of(const struct summary *summary, int rank)
{
    const struct sq_report_events *events = summary->events;
    int64_t count = 0, seen = 0;
    json_t *list = json_array();
    for (int64_t i = 0; i < events->n_memory; i++)
        count += events->memory[i].rank == rank;
    for (int64_t i = 0; list && i < events->n_memory; i++) {
        const struct sq_report_memory *point = &events->memory[i];
        if (point->rank != rank || seen++ % (count / MAX_MEMORY + 1)) continue;
        if (json_array_append_new(list, json_pack("[f, I]", point->at, (json_int_t)point->bytes))) break;
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

static json_t *describe(const struct summary *summary, const json_t *ranks, double shortest)
{
    json_t *drawn = json_array(), *stages = json_array(), *others = json_array();
    for (int i = 0; i < summary->n_ranks; i++)
        json_array_append_new(drawn, rank_of(summary, json_array_get(ranks, (size_t)i), i));
    for (size_t i = (size_t)summary->n_ranks; i < json_array_size(ranks); i++)
        json_array_append(others, json_array_get(ranks, i));
    for (int i = 0; i < summary->n_stages; i++)
        json_array_append_new(stages, json_string(summary->events->names[summary->stages[i]]));
    return json_pack("{s:f, s:o, s:o, s:o, s:I, s:o, s:i}", "seconds", summary->seconds, "stages", stages, "ranks",
                     drawn, "others", others, "block", (json_int_t)summary->block, "spans",
                     spans_of_block(summary, shortest), "left_out", summary->n_left_out);
}

static enum sq_status summarize(const char *name, struct summary *summary, const json_t *ranks, json_t **object_p)
{
    double shortest;
    summary->block = last_block(summary->events) / 2;
    add_shares(summary);
    SQ_TRY(find_shortest(summary, &shortest));
    json_t *object = describe(summary, ranks, shortest);
    if (!object) {
        sq_error("cannot describe %s: out of memory", name);
        return SQ_ERR_MEMORY;
    }
    *object_p = object;
    return SQ_OK;
}

static bool has_stages(const struct sq_report_events *events)
{
    for (int64_t i = 0; i < events->n_spans; i++)
        if (events->spans[i].is_stage) return true;
    return false;
}

enum sq_status sq_report_trace(const char *name, const json_t *trace, const struct sq_report_events *events,
                               json_t **object_p)
{
    const json_t *other = json_object_get(trace, "otherData"), *ranks = json_object_get(other, "ranks");
    struct summary summary = {.events = events, .seconds = number(other, "seconds")};
    if (!json_array_size(ranks) || !(summary.seconds > 0) || !has_stages(events)) {
        sq_error("%s: a trace without stages, or without otherData.ranks and seconds: not one that this shardq wrote",
                 name);
        return SQ_ERR_INPUT;
    }
    size_t n_ranks = json_array_size(ranks);
    summary.n_ranks = n_ranks < SQ_REPORT_RANKS ? (int)n_ranks : SQ_REPORT_RANKS;
    SQ_TRY(sq_alloc("shares of the stages", summary.n_ranks * SQ_REPORT_NAMES, SLICES * sizeof(double),
                    (void **)&summary.shares));
    enum sq_status status = summarize(name, &summary, ranks, object_p);
    sq_free(summary.shares);
    return status;
}
