/* What a page takes from the events of a trace (mpi/trace_file.h), of which there may be millions. */
#ifndef SQ_REPORT_EVENTS_H
#define SQ_REPORT_EVENTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

#define SQ_REPORT_RANKS 32 /* that are drawn: events of others are left out */
#define SQ_REPORT_NAMES 48 /* of stages and collectives; what has another name is left out */

struct sq_report_span {
    double start, seconds; /* start from the beginning of the run */
    int64_t block, bytes;
    int rank, name;
    bool is_stage; /* else a collective */
};

struct sq_report_memory {
    double at;
    int64_t bytes;
    int rank;
};

struct sq_report_events {
    struct sq_report_span *spans;
    struct sq_report_memory *memory;
    int64_t n_spans, n_memory;
    char names[SQ_REPORT_NAMES][32];
    int n_names;
};

/* Takes an event, as an sq_json_element_fn; what is none of ours is passed over. SQ_ERR_MEMORY. Local. */
enum sq_status sq_report_events_add(void *context, const json_t *event);
void sq_report_events_free(struct sq_report_events *events);

#endif
