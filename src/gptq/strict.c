#include "gptq/strict.h"

#include "base/text.h"
#include "gptq/flags.h"
#include "gptq/progress.h"

#define LIST_BYTES 1024 /* more than all names and counts */

/* "layers: 3 of 14 (dead inputs: 1, fewer tokens than inputs: 2; of an earlier run: 1)" */
static void add_layers(const struct sq_job *job, int n_flagged, char list[LIST_BYTES])
{
    const char *separator = "";
    sq_text_append(list, LIST_BYTES, "layers: %d of %d (", n_flagged, job->layers.n_layers);
    for (int bit = 0; bit < SQ_N_FLAGS; bit++) {
        int count = sq_progress_n_flagged(job, 1u << bit);
        if (count == 0) continue;
        sq_text_append(list, LIST_BYTES, "%s%s: %d", separator, sq_flag_name(bit), count);
        separator = ", ";
    }
    if (job->n_flagged_before > 0) sq_text_append(list, LIST_BYTES, "; of an earlier run: %d", job->n_flagged_before);
    sq_text_append(list, LIST_BYTES, ")");
}

enum sq_status sq_strict_count(const struct sq_job *job, int64_t counts[SQ_N_WARNINGS])
{
    for (int kind = 0; kind < SQ_N_WARNINGS; kind++)
        counts[kind] = sq_log_n_warnings_of(kind);
    return sq_comm_sum_i64(job->world, counts, SQ_N_WARNINGS);
}

/* Those of layers are told by what the store says of them. */
static bool is_other(int kind)
{
    return kind != SQ_WARNING_LAYER && kind != SQ_WARNING_LOG;
}

enum sq_status sq_strict_check(const struct sq_job *job, const int64_t counts[SQ_N_WARNINGS])
{
    char list[LIST_BYTES] = "";
    int n_flagged = sq_progress_n_flagged(job, SQ_FLAG_ANY);
    if (!job->config->strict) return SQ_OK;
    if (n_flagged > 0) add_layers(job, n_flagged, list);
    for (int kind = 0; kind < SQ_N_WARNINGS; kind++)
        if (is_other(kind) && counts[kind] > 0)
            sq_text_append(list, LIST_BYTES, "%s%s: %lld", *list ? ", " : "", sq_warning_name(kind),
                           (long long)counts[kind]);
    if (!*list) return SQ_OK;
    if (job->world->rank == 0) sq_error("--strict: there were warnings: %s", list);
    return SQ_ERR_STRICT;
}
