/* The events of a trace as arrays: what a page needs of each, for the ranks that are drawn. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "report/events.h"

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static enum sq_status no_memory(void)
{
    sq_error("cannot keep the events of a trace: out of memory");
    return SQ_ERR_MEMORY;
}

/* Room for one more in an array that grows by doubling. */
static enum sq_status make_room(void **items_p, int64_t count, size_t size)
{
    if (count & (count - 1)) return SQ_OK; /* the room is the next power of two */
    void *more = realloc(*items_p, (size_t)(count ? 2 * count : 1) * size);
    if (!more) return no_memory();
    *items_p = more;
    return SQ_OK;
}

/* Index of a name; -1: one too many. */
static int find_name(struct sq_report_events *events, const char *name)
{
    int i = 0;
    while (i < events->n_names && strcmp(events->names[i], name))
        i++;
    if (i < events->n_names) return i;
    if (i == SQ_REPORT_NAMES || strlen(name) >= sizeof events->names[i]) return -1;
    strcpy(events->names[events->n_names++], name);
    return i;
}

static enum sq_status add_span(struct sq_report_events *events, const json_t *event, int rank)
{
    const json_t *args = json_object_get(event, "args");
    const char *name = json_string_value(json_object_get(event, "name"));
    const char *track = json_string_value(json_object_get(event, "cat"));
    struct sq_report_span span = {.start = 1e-6 * number(event, "ts"),
                                  .seconds = 1e-6 * number(event, "dur"),
                                  .block = json_integer_value(json_object_get(args, "block")),
                                  .bytes = json_integer_value(json_object_get(args, "bytes")),
                                  .rank = rank,
                                  .is_stage = track && !strcmp(track, "stages")};
    if (!name || !track || (!span.is_stage && strcmp(track, "collectives"))) return SQ_OK; /* for Perfetto alone */
    span.name = find_name(events, name);
    if (span.name < 0 || !(span.start >= 0) || !(span.seconds >= 0)) return SQ_OK;
    SQ_TRY(make_room((void **)&events->spans, events->n_spans, sizeof span));
    events->spans[events->n_spans++] = span;
    return SQ_OK;
}

static enum sq_status add_memory(struct sq_report_events *events, const json_t *event, int rank)
{
    const json_t *bytes = json_object_get(json_object_get(event, "args"), "bytes");
    SQ_TRY(make_room((void **)&events->memory, events->n_memory, sizeof *events->memory));
    events->memory[events->n_memory++] =
        (struct sq_report_memory){1e-6 * number(event, "ts"), json_integer_value(bytes), rank};
    return SQ_OK;
}

enum sq_status sq_report_events_add(void *context, const json_t *event)
{
    const char *phase = json_string_value(json_object_get(event, "ph"));
    json_int_t rank = json_integer_value(json_object_get(event, "pid")) - 1;
    if (!phase || rank < 0 || rank >= SQ_REPORT_RANKS) return SQ_OK;
    if (!strcmp(phase, "X")) return add_span(context, event, (int)rank);
    return strcmp(phase, "C") ? SQ_OK : add_memory(context, event, (int)rank);
}

void sq_report_events_free(struct sq_report_events *events)
{
    free(events->spans);
    free(events->memory);
}
