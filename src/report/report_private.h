/* What the files of the report share. Everything is Local: `self` is a communicator of one rank. JSON objects are
 * released with json_decref(). */
#ifndef SQ_REPORT_PRIVATE_H
#define SQ_REPORT_PRIVATE_H

#include <jansson.h>
#include <stdio.h>

#include "base/status.h"
#include "io/checkpoint.h"
#include "io/store.h"
#include "mpi/comm.h"
#include "report/events.h"

/* Layers whose weights are shown. */
#define SQ_REPORT_WORST 6

/* One run as it is being put together, and where its weights are. */
struct sq_report_run {
    json_t *object;               /* what the page gets */
    const json_t *layers;         /* its record's list, borrowed until it becomes columns */
    struct sq_checkpoint *source; /* the model before; NULL: not there any more */
    struct sq_checkpoint *made;   /* of a checkpoint */
    struct sq_store *store;       /* of a store */
};

/* --- run.c -------------------------------------------------------------------------------------------------------- */

/* Opens a store or a checkpoint folder and tells all of it. SQ_ERR_INPUT. */
enum sq_status sq_report_run_make(const struct sq_comm *self, const char *path, bool is_folder,
                                  json_t **run_p) SQ_MUST_CHECK;

/* SQ_ERR_MEMORY with a message when `value` (taken over) is NULL or cannot be put under `key`. */
enum sq_status sq_report_set(json_t *object, const char *key, json_t *value) SQ_MUST_CHECK;

/* --- histogram.c -------------------------------------------------------------------------------------------------- */

/* The layers with the largest errors: [{layer, range, original, quantized, codes}], under "histograms". */
enum sq_status sq_report_histograms(struct sq_report_run *run) SQ_MUST_CHECK;

/* --- tokens.c ----------------------------------------------------------------------------------------------------- */

/* What a token file holds: its provenance, and how its ids are spread. */
enum sq_status sq_report_tokens(const struct sq_comm *self, const char *path, json_t **object_p) SQ_MUST_CHECK;

/* --- trace.c ------------------------------------------------------------------------------------------------------ */

/* A small form of a trace: shares of the stages over time, one block in detail, memory, sums. trace: all but its
 * events. name: for messages. */
enum sq_status sq_report_trace(const char *name, const json_t *trace, const struct sq_report_events *events,
                               json_t **object_p) SQ_MUST_CHECK;

/* --- page.c ------------------------------------------------------------------------------------------------------- */

/* The page with this data. SQ_ERR_IO. */
enum sq_status sq_report_page_write(const json_t *data, const char *out) SQ_MUST_CHECK;

/* Writes JSON so that it can stand in a script element: no "</", no "<!--". False: the file or memory failed. */
bool sq_report_write_json(const json_t *data, FILE *file);

#endif
