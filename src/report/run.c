/* One run: from a store or from the record that a checkpoint carries, to the object the page gets:
 *
 *   {name, path, kind, config, fingerprint, versions, model, source_bytes, checkpoint_bytes, columns, rows, histograms,
 *    calibration} */
#define _POSIX_C_SOURCE 200809L
#include <ctype.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "gptq/flags.h"
#include "io/folder.h"
#include "io/job_record.h"
#include "io/kind.h"
#include "report/report_private.h"

enum sq_status sq_report_set(json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value) == 0) return SQ_OK;
    sq_error("cannot put %s into the report: out of memory", key);
    return SQ_ERR_MEMORY;
}

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static int64_t count(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static const char *config_text(const struct sq_report_run *run, const char *key)
{
    return json_string_value(json_object_get(json_object_get(run->object, "config"), key));
}

static bool has_file(const char *folder, const char *name)
{
    char *path = NULL;
    bool found = sq_path_join(folder, name, &path) == SQ_OK && sq_folder_exists(path);
    sq_free(path);
    return found;
}

/* --- layers: from one object each to columns and rows --------------------------------------------------------------
 */

static const char *const columns[] = {"name",  "out",       "in",      "bits",   "group_size",  "symmetric",
                                      "error", "error_rtn", "damping", "raised", "dead_inputs", "limited_scales",
                                      "tokens"};
#define N_COLUMNS (sizeof columns / sizeof *columns)

/* The layer must say what the page counts on. */
static enum sq_status check_layer(const char *path, const json_t *layer)
{
    double bits = number(layer, "bits");
    bool good = json_is_string(json_object_get(layer, "name")) && number(layer, "out") >= 1 &&
                number(layer, "in") >= 1 && bits >= 1 && bits <= 8 && number(layer, "group_size") >= 1;
    for (size_t i = 6; i < N_COLUMNS && good; i++)
        good = json_object_get(layer, columns[i]) != NULL;
    if (good) return SQ_OK;
    const char *name = json_string_value(json_object_get(layer, "name"));
    sq_error("%s: layer %s lacks one of its figures, or has it out of range", path, name ? name : "without a name");
    return SQ_ERR_INPUT;
}

/* "model.layers.0.mlp.experts.5.up_proj": the same in every family; the part that all tokens go to has no number. */
static bool is_of_expert(const json_t *layer)
{
    static const char part[] = ".experts.";
    const char *name = json_string_value(json_object_get(layer, "name")), *found = strstr(name, part);
    return found && isdigit((unsigned char)found[sizeof part - 1]);
}

static unsigned flags_of(const struct sq_report_run *run, const json_t *layer)
{
    int64_t expert_tokens = is_of_expert(layer) ? count(json_object_get(run->object, "config"), "expert_tokens") : 0;
    const char *solver = config_text(run, "solver");
    const struct sq_layer_report report = {.error = number(layer, "error"),
                                           .error_rtn = number(layer, "error_rtn"),
                                           .n_rungs = count(layer, "raised"),
                                           .n_dead = count(layer, "dead_inputs"),
                                           .n_limited = count(layer, "limited_scales"),
                                           .n_tokens = count(layer, "tokens")};
    enum sq_solver kind = solver && !strcmp(solver, "rtn") ? SQ_SOLVER_RTN : SQ_SOLVER_GPTQ;
    bool is_done = json_is_number(json_object_get(layer, "error"));
    return is_done ? sq_layer_flags(&report, kind, count(layer, "in"), expert_tokens) : 0;
}

static json_t *row_of(const struct sq_report_run *run, const json_t *layer)
{
    json_t *row = json_array();
    for (size_t i = 0; row && i < N_COLUMNS; i++)
        json_array_append(row, json_object_get(layer, columns[i]));
    if (row) json_array_append_new(row, json_integer(flags_of(run, layer)));
    return row;
}

static enum sq_status set_rows(const struct sq_report_run *run)
{
    size_t index;
    const json_t *layer;
    json_t *rows = json_array(), *names = json_array();
    json_array_foreach((json_t *)run->layers, index, layer) json_array_append_new(rows, row_of(run, layer));
    for (size_t i = 0; i < N_COLUMNS; i++)
        json_array_append_new(names, json_string(columns[i]));
    json_array_append_new(names, json_string("flags"));
    enum sq_status status = sq_report_set(run->object, "columns", names);
    enum sq_status second = sq_report_set(run->object, "rows", rows);
    return status == SQ_OK ? second : status;
}

/* --- the model, sizes, calibration -------------------------------------------------------------------------------- */

/* The model before, where it still is. */
static enum sq_status open_source(struct sq_report_run *run)
{
    const char *folder = config_text(run, "model");
    if (!folder || !has_file(folder, "config.json")) return SQ_OK;
    return sq_checkpoint_open(folder, &run->source);
}

/* The plain words of a config.json: "hidden_size": 576. */
static enum sq_status set_model(struct sq_report_run *run)
{
    const struct sq_checkpoint *checkpoint = run->made ? run->made : run->source;
    const char *key;
    const json_t *value, *architectures;
    json_t *model = json_object();
    if (!checkpoint) return sq_report_set(run->object, "model", model);
    architectures = json_object_get(sq_checkpoint_config(checkpoint), "architectures");
    json_object_foreach((json_t *)sq_checkpoint_config(checkpoint), key,
                        value) if (json_is_number(value) || json_is_string(value))
        json_object_set(model, key, (json_t *)value);
    if (json_is_string(json_array_get(architectures, 0)))
        json_object_set(model, "architecture", json_array_get(architectures, 0));
    return sq_report_set(run->object, "model", model);
}

/* Bytes that codes, scales and zero points take, and the plain weights that they stand for. */
struct sizes {
    double weights, quantized, plain;
};

static struct sizes add_sizes(const struct sq_report_run *run)
{
    size_t index;
    const json_t *layer;
    struct sizes sum = {0};
    json_array_foreach((json_t *)run->layers, index, layer)
    {
        double out = number(layer, "out"), in = number(layer, "in"), bits = number(layer, "bits");
        int64_t groups =
            ((int64_t)in + (int64_t)number(layer, "group_size") - 1) / (int64_t)number(layer, "group_size");
        const char *name = json_string_value(json_object_get(layer, "name"));
        const struct sq_tensor *weight = run->source ? sq_checkpoint_find_part(run->source, name, "weight") : NULL;
        sum.weights += out * in;
        sum.quantized += out * (in * bits + (double)groups * (16 + bits)) / 8;
        sum.plain += weight ? (double)weight->bytes : 0;
    }
    return sum;
}

/* A store's checkpoint may not exist yet: what its files will take, about. */
static enum sq_status set_sizes(const struct sq_report_run *run)
{
    struct sizes sum = add_sizes(run);
    SQ_TRY(sq_report_set(run->object, "weights", json_real(sum.weights)));
    SQ_TRY(sq_report_set(run->object, "quantized_bytes", json_real(sum.quantized)));
    if (!run->store || !run->source) return SQ_OK;
    double before = (double)sq_job_record_tensor_bytes(run->source);
    SQ_TRY(sq_report_set(run->object, "source_bytes", json_real(before)));
    return sq_report_set(run->object, "checkpoint_bytes", json_real(before - sum.plain + sum.quantized));
}

/* The token file of the run, where it still is what it was: its hash is in the fingerprint. */
static enum sq_status set_calibration(const struct sq_comm *self, const struct sq_report_run *run)
{
    enum sq_path_kind kind = SQ_PATH_FOLDER;
    json_t *tokens = NULL;
    const char *path = config_text(run, "tokens");
    const char *wanted = json_string_value(json_object_get(json_object_get(run->object, "fingerprint"), "tokens_hash"));
    if (!path || !wanted || !sq_folder_exists(path)) return SQ_OK;
    SQ_TRY(sq_path_kind_find(path, &kind));
    if (kind != SQ_PATH_TOKENS) return SQ_OK;
    SQ_TRY(sq_report_tokens(self, path, &tokens));
    const char *found = json_string_value(json_object_get(tokens, "hash"));
    if (found && !strcmp(found, wanted)) return sq_report_set(run->object, "calibration", tokens);
    sq_info("%s is not what it was when the model was quantized; it is left out", path);
    json_decref(tokens);
    return SQ_OK;
}

/* --- stores and folders ------------------------------------------------------------------------------------------- */

static enum sq_status open_store(const struct sq_comm *self, const char *path, struct sq_report_run *run)
{
    json_t *config = NULL, *layers = NULL;
    SQ_TRY(sq_store_open(self, path, false, NULL, 0, NULL, &run->store));
    SQ_TRY(sq_job_record_config(run->store, NULL, &config));
    SQ_TRY(sq_report_set(run->object, "config", config));
    SQ_TRY(sq_report_set(run->object, "fingerprint", sq_job_record_pairs(sq_store_fingerprint(run->store))));
    SQ_TRY(sq_report_set(run->object, "versions", sq_job_record_lines(sq_store_versions(run->store))));
    SQ_TRY(sq_job_record_layers(run->store, &layers));
    return sq_report_set(run->object, "layers", layers);
}

/* What the page takes from a record, and counts on; nothing else in the file can get in its way. */
static const struct {
    const char *key;
    json_type type;
} members[] = {{"config", JSON_OBJECT},        {"fingerprint", JSON_OBJECT},       {"versions", JSON_ARRAY},
               {"source_bytes", JSON_INTEGER}, {"checkpoint_bytes", JSON_INTEGER}, {"layers", JSON_ARRAY}};

static enum sq_status take_members(const char *file, const json_t *record, json_t *object)
{
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        json_t *value = json_object_get(record, members[i].key);
        bool is_good = value && json_typeof(value) == members[i].type;
        if (!is_good || (members[i].type == JSON_ARRAY && json_array_size(value) == 0)) {
            sq_error("%s lacks %s or has it of another type", file, members[i].key);
            return SQ_ERR_INPUT;
        }
        SQ_TRY(sq_report_set(object, members[i].key, json_incref(value)));
    }
    return SQ_OK;
}

static enum sq_status read_record(const char *path, json_t *object)
{
    char *file = NULL;
    json_t *record = NULL;
    if (!has_file(path, SQ_JOB_RECORD_NAME)) {
        sq_error("%s has no " SQ_JOB_RECORD_NAME ": it is no checkpoint that shardq wrote", path);
        return SQ_ERR_INPUT;
    }
    SQ_TRY(sq_path_join(path, SQ_JOB_RECORD_NAME, &file));
    enum sq_status status = sq_json_read(file, &record);
    if (status == SQ_OK) status = take_members(file, record, object);
    json_decref(record);
    sq_free(file);
    return status;
}

static enum sq_status fill(const struct sq_comm *self, const char *path, bool is_folder, struct sq_report_run *run)
{
    size_t index;
    const json_t *layer;
    SQ_TRY(is_folder ? read_record(path, run->object) : open_store(self, path, run));
    if (is_folder) SQ_TRY(sq_checkpoint_open(path, &run->made));
    run->layers = json_object_get(run->object, "layers");
    json_array_foreach((json_t *)run->layers, index, layer) SQ_TRY(check_layer(path, layer));
    SQ_TRY(open_source(run));
    SQ_TRY(set_model(run));
    SQ_TRY(set_sizes(run));
    SQ_TRY(set_rows(run));
    SQ_TRY(set_calibration(self, run));
    SQ_TRY(sq_report_histograms(run));
    json_object_del(run->object, "layers");
    return SQ_OK;
}

/* "DIR-4bit" of "/models/DIR-4bit/". */
static json_t *name_of(const char *path)
{
    size_t end = strlen(path), start;
    while (end > 1 && path[end - 1] == '/')
        end--;
    for (start = end; start > 0 && path[start - 1] != '/';)
        start--;
    return json_stringn(path + start, end - start);
}

enum sq_status sq_report_run_make(const struct sq_comm *self, const char *path, bool is_folder, json_t **run_p)
{
    struct sq_report_run run = {.object = json_pack("{s:o, s:s, s:s, s:[]}", "name", name_of(path), "path", path,
                                                    "kind", is_folder ? "checkpoint" : "store", "evals")};
    if (!run.object) {
        sq_error("cannot describe %s: out of memory, or its name is not UTF-8", path);
        return SQ_ERR_MEMORY;
    }
    enum sq_status status = fill(self, path, is_folder, &run);
    sq_store_close(run.store);
    sq_checkpoint_close(run.made);
    sq_checkpoint_close(run.source);
    if (status == SQ_OK)
        *run_p = run.object;
    else
        json_decref(run.object);
    return status;
}
