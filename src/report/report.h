/* `shardq report`: stores and checkpoints as one HTML page that needs nothing else.
 *
 *   run_store.c, run_folder.c   what a store, a checkpoint says of its run: one JSON object, made in run.c
 *   histogram.c                 weights and codes of the worst layers
 *   tokens.c                    what the calibration is made of
 *   events.c, trace.c           where the time went
 *   report.c                    inputs to objects, objects to {program, runs: [...]}
 *   page.c, page/               the page: HTML, style and scripts as they are, with the object in it */
#ifndef SQ_REPORT_REPORT_H
#define SQ_REPORT_REPORT_H

#include "base/status.h"
#include "config/config.h"
#include "mpi/comm.h"

/* Writes the page to the file `out` (by way of OUT.tmp). inputs: stores and checkpoint folders, and behind each what
 * belongs to it: token files, traces (quantize --trace), results of eval --json. SQ_ERR_INPUT names an input that is
 * none of these, or lacks what a report needs; SQ_ERR_USAGE when the first one is no store and no checkpoint.
 * Collective; rank 0 does the work. */
enum sq_status sq_report_write(const struct sq_comm *world, const struct sq_string_list *inputs,
                               const char *out) SQ_MUST_CHECK;

#endif
