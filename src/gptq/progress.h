/* What a person sees of a run: one line per layer, a live line with the time left, a closing summary; and the same as
 * data
 * (--log). Rank 0 speaks; every function may be called on every rank. */
#ifndef SQ_GPTQ_PROGRESS_H
#define SQ_GPTQ_PROGRESS_H

#include "base/log.h"
#include "gptq/job.h"

/* What is about to be done. Local. */
void sq_progress_start(const struct sq_job *job, int n_done);

/* One layer is complete. Warns of raised damping, dead inputs, scales at the limits of their type, and of an error no
 * better than rounding's. seconds: of the layer's group. Local. */
void sq_progress_layer(const struct sq_job *job, int layer, const struct sq_layer_report *report, double seconds);

/* How far a run is. */
struct sq_progress_point {
    int n_done, n_done_in_run; /* layers that are complete, and those of them that this run has done */
    double seconds;            /* that it took for them */
};

/* Where the run is, how fast, how long it will take and what this rank holds: in a terminal a live line, elsewhere one
 * line behind the last layer of each block. layer: the one done last. Local. */
void sq_progress_left(const struct sq_job *job, int layer, const struct sq_progress_point *point);

/* Layers in the store that were warned of by any of these flags (flags.h), in this run or an earlier one. Local. */
int sq_progress_n_flagged(const struct sq_job *job, unsigned flags);

/* Sizes, worst layers, time by stage, warnings. total_bytes: of the assembled checkpoint, 0 if there is none; counts:
 * of sq_strict_count(), without a warning since. Local. */
void sq_progress_summary(const struct sq_job *job, int64_t total_bytes, double seconds,
                         const int64_t counts[SQ_N_WARNINGS]);

#endif
