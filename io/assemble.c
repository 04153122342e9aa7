#include "io/assemble.h"

#include "base/log.h"
#include "base/memory.h"
#include "base/node.h"
#include "base/text.h"
#include "config/format.h"
#include "io/assemble_config.h"
#include "io/assemble_private.h"
#include "io/folder.h"
#include "io/job_record.h"
#include "io/json.h"
#include "io/lock.h"
#include "io/readers.h"
#include "io/side_files.h"
#include "mpi/stop.h"

#define JOBS_BETWEEN_AGREEMENTS 8 /* for each rank, about: the wait for the slowest is then a small part */

/* What auto comes to: the older form where it holds every layer. */
static enum sq_format choose_format(const struct sq_store *store)
{
    int n_layers;
    const struct sq_store_layer *layers = sq_store_layers(store, &n_layers);
    for (int l = 0; l < n_layers; l++)
        if (!sq_format_holds(SQ_FORMAT_GPTQ, layers[l].grid.bits, layers[l].grid.symmetric)) return SQ_FORMAT_GPTQ_V2;
    return SQ_FORMAT_GPTQ;
}

void sq_assemble_options_set(const struct sq_config *made, const struct sq_config *wanted, const struct sq_store *store,
                             struct sq_assemble_options *options_p)
{
    enum sq_format format = wanted->format == SQ_FORMAT_AUTO ? made->format : wanted->format;
    *options_p = (struct sq_assemble_options){
        .out = wanted->out,
        .replace = wanted->resume,
        .format = format == SQ_FORMAT_AUTO ? choose_format(store) : format,
        .shard_bytes = wanted->shard_bytes,
        .dequantized = wanted->dequantized,
        .n_threads = wanted->threads > 0 ? wanted->threads : sq_node_processors(),
        .version = SHARDQ_VERSION,
        .damping = made->damping,
        .static_groups = made->static_groups || made->order == SQ_ORDER_ACTIVATION,
        .activation_order = made->order == SQ_ORDER_ACTIVATION,
        .true_sequential = made->propagation == SQ_PROPAGATION_QUANTIZED,
    };
}

/* --- before anything is written, on rank 0 ------------------------------------------------------------------------ */

static enum sq_status check_format(const struct sq_store *store, const struct sq_assemble_options *options)
{
    int n_layers;
    const struct sq_store_layer *layers = sq_store_layers(store, &n_layers);
    for (int l = 0; l < n_layers && !options->dequantized; l++) {
        bool is_ragged = layers[l].in_features % layers[l].grid.group_size != 0;
        SQ_TRY(sq_format_check(options->format, layers[l].grid.bits, layers[l].grid.symmetric, layers[l].name));
        if (is_ragged) SQ_TRY(sq_format_check_ragged(options->format, layers[l].name));
    }
    return SQ_OK;
}

/* config.json of folder `out`; NULL where there is none. */
static enum sq_status read_config(const char *out, json_t **config_p)
{
    char *path;
    *config_p = NULL;
    SQ_TRY(sq_path_join(out, "config.json", &path));
    enum sq_status status = sq_folder_exists(path) ? sq_json_read(path, config_p) : SQ_OK;
    sq_free(path);
    return status;
}

/* Whether the finished folder `out` may go: only when it says that it came from this store. */
static enum sq_status check_replaceable(const char *out, const struct sq_store *store)
{
    json_t *config;
    bool is_ours = read_config(out, &config) == SQ_OK && sq_assemble_is_from(config, store);
    json_decref(config);
    if (is_ours) return SQ_OK;
    sq_error("%s is there and was not assembled from this store; it is left alone", out);
    return SQ_ERR_USAGE;
}

static enum sq_status check_out(const struct sq_store *store, const struct sq_assemble_options *options)
{
    if (!sq_folder_exists(options->out)) return SQ_OK;
    if (options->replace) return check_replaceable(options->out, store);
    sq_error("%s is there already: remove it, or choose another --out", options->out);
    return SQ_ERR_USAGE;
}

/* What can be known before anything is quantized. */
static enum sq_status check_model(const struct sq_checkpoint *checkpoint, const struct sq_store *store,
                                  const struct sq_assemble_options *options)
{
    SQ_TRY(sq_assemble_check_layers(checkpoint, store, sq_format_writer_find(options->format, options->dequantized)));
    return check_format(store, options);
}

static enum sq_status check_early(const struct sq_checkpoint *checkpoint, const struct sq_store *store,
                                  const struct sq_assemble_options *options)
{
    SQ_TRY(check_model(checkpoint, store, options));
    return options->out ? check_out(store, options) : SQ_OK;
}

enum sq_status sq_assemble_check(const struct sq_comm *comm, const struct sq_checkpoint *checkpoint,
                                 const struct sq_store *store, const struct sq_assemble_options *options)
{
    return sq_comm_agree(comm, comm->rank == 0 ? check_early(checkpoint, store, options) : SQ_OK);
}

/* Takes the lock, too, before it looks at OUT. */
static enum sq_status check_request(struct sq_assembly *assembly)
{
    if (assembly->comm->rank != 0) return SQ_OK;
    SQ_TRY(sq_assemble_check_source(assembly->checkpoint, assembly->store));
    SQ_TRY(check_model(assembly->checkpoint, assembly->store, assembly->options));
    if (!assembly->options->is_locked) SQ_TRY(sq_folder_lock(assembly->options->out, assembly->tmp, &assembly->lock));
    return check_out(assembly->store, assembly->options);
}

/* --- the folder, on rank 0 ---------------------------------------------------------------------------------------- */

static enum sq_status write_texts(const struct sq_assembly *assembly)
{
    struct sq_assemble_texts texts;
    SQ_TRY(sq_assemble_texts_make(assembly->checkpoint, assembly->store, assembly->options, &assembly->plan, &texts));
    enum sq_status status = sq_folder_write_text(assembly->tmp, "config.json", texts.config);
    if (status == SQ_OK && texts.quantize_config)
        status = sq_folder_write_text(assembly->tmp, "quantize_config.json", texts.quantize_config);
    if (status == SQ_OK && texts.index)
        status = sq_folder_write_text(assembly->tmp, "model.safetensors.index.json", texts.index);
    sq_assemble_texts_release(&texts);
    return status;
}

static int64_t file_bytes(const struct sq_assemble_plan *plan)
{
    int64_t bytes = 0;
    for (int f = 0; f < plan->n_files; f++)
        bytes += plan->files[f].header.file_bytes;
    return bytes;
}

static enum sq_status write_record(const struct sq_assembly *assembly)
{
    char *text = NULL;
    SQ_TRY(sq_job_record_make(assembly->checkpoint, assembly->store, assembly->options, file_bytes(&assembly->plan),
                              &text));
    enum sq_status status = sq_folder_write_text(assembly->tmp, SQ_JOB_RECORD_NAME, text);
    sq_free(text);
    return status;
}

static enum sq_status create_files(const struct sq_assembly *assembly)
{
    for (int f = 0; f < assembly->plan.n_files; f++) {
        char *path;
        SQ_TRY(sq_path_join(assembly->tmp, assembly->plan.files[f].name, &path));
        enum sq_status status = sq_safetensors_create(path, &assembly->plan.files[f].header);
        sq_free(path);
        if (status != SQ_OK) return status;
    }
    return SQ_OK;
}

static void tell_readers(const struct sq_assembly *assembly)
{
    int n_layers;
    const struct sq_store_layer *layers = sq_store_layers(assembly->store, &n_layers);
    const struct sq_assemble_options *options = assembly->options;
    if (options->dequantized) return;
    sq_readers_tell(options->out, sq_checkpoint_config(assembly->checkpoint), options->format, layers, n_layers);
}

static enum sq_status make_folder(const struct sq_assembly *assembly)
{
    if (assembly->comm->rank != 0) return SQ_OK;
    SQ_TRY(sq_folder_begin(assembly->tmp));
    SQ_TRY(create_files(assembly));
    SQ_TRY(write_texts(assembly));
    SQ_TRY(write_record(assembly));
    tell_readers(assembly);
    return sq_side_files_copy(sq_checkpoint_folder(assembly->checkpoint), assembly->tmp);
}

static enum sq_status finish_folder(const struct sq_assembly *assembly)
{
    if (assembly->comm->rank != 0) return SQ_OK;
    return sq_folder_finish(assembly->tmp, assembly->options->out);
}

/* --- the stages; each ends in the same status on every rank ------------------------------------------------------- */

static enum sq_status prepare(struct sq_assembly *assembly)
{
    const struct sq_comm *comm = assembly->comm;
    enum sq_status status = sq_folder_tmp_name(assembly->options->out, &assembly->tmp);
    if (status == SQ_OK) status = check_request(assembly);
    SQ_TRY(sq_comm_agree(comm, status));
    return sq_comm_agree(comm, sq_assemble_plan_make(assembly->checkpoint, assembly->store, assembly->options,
                                                     comm->size, &assembly->plan));
}

/* What `fn` gives for the owner's jobs among [first, end), until one fails or a signal comes. */
static enum sq_status do_jobs(const struct sq_assembly *assembly, int64_t first, int64_t end, int owner,
                              const char *doing, sq_assembly_job_fn *fn, void *context)
{
    const struct sq_assemble_plan *plan = &assembly->plan;
    for (int64_t j = first; j < end; j++) {
        if (sq_stop_requested()) return SQ_STOPPED;
        if (plan->jobs[j].rank != owner) continue;
        sq_progress("%s: %lld of %lld", doing, (long long)j, (long long)plan->n_jobs);
        SQ_TRY(fn(context, &plan->jobs[j]));
    }
    return SQ_OK;
}

enum sq_status sq_assembly_each_job(const struct sq_assembly *assembly, int owner, const char *doing,
                                    sq_assembly_job_fn *fn, void *context)
{
    int64_t n_jobs = assembly->plan.n_jobs, round = JOBS_BETWEEN_AGREEMENTS * (int64_t)assembly->comm->size;
    for (int64_t first = 0; first < n_jobs; first += round) {
        int64_t end = first + round < n_jobs ? first + round : n_jobs;
        SQ_TRY(sq_comm_agree(assembly->comm, do_jobs(assembly, first, end, owner, doing, fn, context)));
    }
    return SQ_OK;
}

static enum sq_status build(const struct sq_assembly *assembly)
{
    const struct sq_comm *comm = assembly->comm;
    enum sq_status status = sq_comm_agree(comm, make_folder(assembly));
    if (status == SQ_OK) status = sq_assembly_write(assembly);
    if (status == SQ_ERR_NUMERIC && comm->rank == 0) sq_assembly_report_not_finite(assembly);
    if (status == SQ_OK) status = sq_assembly_check(assembly);
    if (status == SQ_OK) status = sq_comm_agree(comm, finish_folder(assembly));
    if (status != SQ_OK && comm->rank == 0) sq_folder_abandon(assembly->tmp);
    return status;
}

enum sq_status sq_assemble(const struct sq_comm *comm, const struct sq_checkpoint *checkpoint, struct sq_store *store,
                           const struct sq_assemble_options *options, int64_t *total_bytes_p)
{
    struct sq_assembly assembly = {
        .comm = comm, .checkpoint = checkpoint, .store = store, .options = options, .lock = -1};
    enum sq_status status = prepare(&assembly);
    if (status == SQ_OK) status = build(&assembly);
    if (assembly.tmp) sq_lock_release(assembly.tmp, assembly.lock);
    status = sq_comm_agree(comm, status); /* nobody goes on before lock and unfinished folder are gone */
    if (status == SQ_OK) *total_bytes_p = file_bytes(&assembly.plan);
    sq_assemble_plan_release(&assembly.plan);
    sq_free(assembly.tmp);
    return status;
}

enum sq_status sq_assemble_matches(const struct sq_comm *comm, struct sq_store *store,
                                   const struct sq_assemble_options *options, bool *matches_p)
{
    int64_t matches = 0;
    json_t *config = NULL;
    enum sq_status status = comm->rank == 0 ? read_config(options->out, &config) : SQ_OK;
    if (comm->rank == 0 && status == SQ_OK)
        matches = sq_assemble_is_from(config, store) && sq_assemble_has_form(config, options);
    json_decref(config);
    SQ_TRY(sq_comm_agree(comm, status));
    SQ_TRY(sq_comm_max_i64(comm, &matches, 1));
    *matches_p = matches != 0;
    return SQ_OK;
}
