/* shardq quantize: from a model and calibration tokens to a store, and on to a checkpoint. */
#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "command.h"
#include "config/options.h"
#include "gptq/flags.h"
#include "gptq/progress.h"
#include "gptq/run.h"
#include "gptq/strict.h"
#include "mpi/stop.h"
#include "mpi/trace_file.h"
#include "io/assemble.h"
#include "io/folder.h"
#include "io/lock.h"

/* The folder that is assembled in the end. Its lock is held all the while, so that no other job comes to it first. */
struct out {
    bool exists; /* already when the job begins */
    char *tmp;   /* on rank 0; NULL: nothing is locked */
    int lock;
};

/* What would only fail in the end is found before the work begins. */
static enum sq_status look_at_out(const struct sq_config *config, bool *exists_p)
{
    *exists_p = sq_folder_exists(config->out);
    if (!*exists_p || config->resume) return sq_folder_check_parent(config->out);
    sq_error("%s exists; remove it, choose another --out, or use --resume", config->out);
    return SQ_ERR_USAGE;
}

/* Another job may finish it before the lock is there: one looks again. */
static enum sq_status lock_out(const struct sq_config *config, struct out *out)
{
    SQ_TRY(look_at_out(config, &out->exists));
    SQ_TRY(sq_folder_tmp_name(config->out, &out->tmp));
    SQ_TRY(sq_folder_lock(config->out, out->tmp, &out->lock));
    return look_at_out(config, &out->exists);
}

static void release_out(struct out *out)
{
    if (out->tmp) sq_lock_release(out->tmp, out->lock);
    sq_free(out->tmp);
}

/* Rank 0 does it; every rank gets its answer. */
static enum sq_status take_out(const struct sq_config *config, const struct sq_comm *world, struct out *out)
{
    if (!config->out || !config->assemble) return SQ_OK;
    SQ_TRY(sq_comm_agree(world, world->rank == 0 ? lock_out(config, out) : SQ_OK));
    int64_t exists = out->exists;
    SQ_TRY(sq_comm_max_i64(world, &exists, 1));
    out->exists = exists;
    return SQ_OK;
}

static enum sq_status assemble(struct sq_job *job, const struct sq_assemble_options *options, int64_t *total_bytes_p)
{
    double since = sq_seconds();
    sq_job_release_buffers(job);
    SQ_TRY(sq_assemble(job->world, job->checkpoint, job->store, options, total_bytes_p));
    sq_job_clock(job, SQ_STAGE_ASSEMBLE, &since);
    sq_info("wrote %s", job->config->out);
    return SQ_OK;
}

static enum sq_status run_job(struct sq_job *job, bool out_exists, double started)
{
    struct sq_assemble_options options;
    int64_t total_bytes = 0, warnings[SQ_N_WARNINGS];
    bool is_finished = false;
    sq_assemble_options_set(job->config, job->config, job->store, &options);
    options.is_locked = true;
    if (!job->config->assemble) options.out = NULL;
    if (out_exists && sq_job_is_complete(job))
        SQ_TRY(sq_assemble_matches(job->world, job->store, &options, &is_finished));
    if (is_finished) {
        sq_info("%s is complete; nothing to do", job->config->out);
        job->n_flagged_before = sq_progress_n_flagged(job, SQ_FLAG_ANY);
        SQ_TRY(sq_strict_count(job, warnings));
        return sq_strict_check(job, warnings);
    }
    SQ_TRY(sq_assemble_check(job->world, job->checkpoint, job->store, &options));
    SQ_TRY(sq_run(job));
    SQ_TRY(sq_stop_check(job->world));
    if (job->config->assemble) SQ_TRY(assemble(job, &options, &total_bytes));
    double seconds = sq_seconds() - started;
    SQ_TRY(sq_strict_count(job, warnings));
    sq_progress_summary(job, total_bytes, seconds, warnings);
    return sq_strict_check(job, warnings);
}

/* A run that stopped has one, too; after an error the ranks have no more in common than its status. */
static enum sq_status write_trace(const struct sq_job *job, enum sq_status status)
{
    if (status != SQ_OK && status != SQ_STOPPED && status != SQ_ERR_STRICT) return status;
    enum sq_status written =
        sq_trace_file_finish(job->world, job->config->trace, job->backend->n_workers, (int64_t)job->memory.resident);
    return written == SQ_OK ? status : written;
}

static enum sq_status run_with_out(const struct sq_config *config, const struct sq_comm *world, bool out_exists)
{
    double started = sq_seconds();
    struct sq_job *job = NULL;
    if (config->trace) SQ_TRY(sq_trace_file_begin(world, config->trace));
    SQ_TRY(sq_job_open(config, world, &job));
    enum sq_status status = run_job(job, out_exists, started);
    if (config->trace) status = write_trace(job, status);
    if (status == SQ_STOPPED)
        sq_info("stopped at a safe point; go on with the same command and --resume (store: %s)", job->store_path);
    sq_job_close(job, status);
    return status;
}

static enum sq_status run(const struct sq_config *config, const struct sq_comm *world)
{
    struct out out = {.lock = -1};
    enum sq_status status = take_out(config, world, &out);
    if (status == SQ_OK) status = run_with_out(config, world, out.exists);
    release_out(&out);
    return status;
}

const struct sq_command sq_command_quantize = {
    .name = "quantize",
    .summary = "Quantizes a model with GPTQ, layer by layer into a store, and assembles the checkpoint.",
    .mask = SQ_COMMAND_QUANTIZE,
    .needs_mpi = true,
    .stops_at_signals = true,
    .run = run,
};
