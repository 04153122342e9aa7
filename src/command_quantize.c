/* shardq quantize: from a model and calibration tokens to a store, and on to a checkpoint. */
#include "base/clock.h"
#include "base/log.h"
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

/* Whether the output folder is there already; what would only fail in the end is found before the work begins. */
static enum sq_status look_at_out(const struct sq_config *config, int64_t *exists_p)
{
    *exists_p = sq_folder_exists(config->out);
    if (!*exists_p || config->resume) return sq_folder_check_parent(config->out);
    sq_error("%s exists; remove it, choose another --out, or use --resume", config->out);
    return SQ_ERR_USAGE;
}

/* Rank 0 looks; every rank gets its answer. */
static enum sq_status check_out(const struct sq_config *config, const struct sq_comm *world, bool *exists_p)
{
    int64_t exists = 0;
    if (!config->out || !config->assemble) return SQ_OK;
    SQ_TRY(sq_comm_agree(world, world->rank == 0 ? look_at_out(config, &exists) : SQ_OK));
    SQ_TRY(sq_comm_max_i64(world, &exists, 1));
    *exists_p = exists;
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
    int64_t total_bytes = 0;
    bool is_finished = false;
    sq_assemble_options_set(job->config, job->config, job->store, &options);
    if (!job->config->assemble) options.out = NULL;
    if (out_exists && sq_job_is_complete(job))
        SQ_TRY(sq_assemble_matches(job->world, job->store, &options, &is_finished));
    if (is_finished) {
        sq_info("%s is complete; nothing to do", job->config->out);
        job->n_flagged_before = sq_progress_n_flagged(job, SQ_FLAG_ANY);
        return sq_strict_check(job);
    }
    SQ_TRY(sq_assemble_check(job->world, job->checkpoint, job->store, &options));
    SQ_TRY(sq_run(job));
    SQ_TRY(sq_stop_check(job->world));
    if (job->config->assemble) SQ_TRY(assemble(job, &options, &total_bytes));
    sq_progress_summary(job, total_bytes, sq_seconds() - started);
    return sq_strict_check(job);
}

/* A run that stopped has one, too; after an error the ranks have no more in common than its status. */
static enum sq_status write_trace(const struct sq_job *job, enum sq_status status)
{
    if (status != SQ_OK && status != SQ_STOPPED && status != SQ_ERR_STRICT) return status;
    enum sq_status written =
        sq_trace_file_finish(job->world, job->config->trace, job->backend->n_workers, (int64_t)job->memory.resident);
    return written == SQ_OK ? status : written;
}

static enum sq_status run(const struct sq_config *config, const struct sq_comm *world)
{
    double started = sq_seconds();
    bool out_exists = false;
    struct sq_job *job = NULL;
    SQ_TRY(check_out(config, world, &out_exists));
    if (config->trace) SQ_TRY(sq_trace_file_begin(world, config->trace));
    SQ_TRY(sq_job_open(config, world, &job));
    enum sq_status status = run_job(job, out_exists, started);
    if (config->trace) status = write_trace(job, status);
    if (status == SQ_STOPPED)
        sq_info("stopped at a safe point; go on with the same command and --resume (store: %s)", job->store_path);
    sq_job_close(job, status);
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
