/* The trace of all ranks as one file in Chrome's trace format, which Perfetto (ui.perfetto.dev) and chrome://tracing
 * open: a process per rank, in it a track of stages, one of collectives, one of files read and written beside the
 * stages, one for each stream of a device, and a counter of the memory held. Times of different nodes agree to about
 * the time of a barrier.
 *
 *   traceEvents   one per span: name, ts and dur in microseconds, cat: its track, args: block, bytes
 *   otherData     {program, seconds, ranks: [{rank, host, threads, peak_bytes, planned_bytes, sums: [{kind, name,
 * calls, bytes, seconds}]}]}
 *
 * Perfetto takes a number of a thread for the same thread in all processes, that of a process for its first thread, and
 * 0 for none: rank r is process r + 1, and its tracks are threads with numbers beyond those of all processes. Spans of
 * a track that overlap by a rounding are dropped: their ends are rounded, not their lengths. */
#ifndef SQ_MPI_TRACE_FILE_H
#define SQ_MPI_TRACE_FILE_H

#include "base/status.h"
#include "mpi/comm.h"

/* Starts the trace on every rank at once; rank 0 makes sure that the file can be written (SQ_ERR_IO). Collective. */
enum sq_status sq_trace_file_begin(const struct sq_comm *comm, const char *path) SQ_MUST_CHECK;

/* Writes PATH.tmp, renames it, and stops the trace. planned_bytes: what the plan gave a rank. Collective. */
enum sq_status sq_trace_file_finish(const struct sq_comm *comm, const char *path, int n_threads,
                                    int64_t planned_bytes) SQ_MUST_CHECK;

#endif
