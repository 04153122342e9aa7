#define _POSIX_C_SOURCE 200809L
#include "io/job_record.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "config/config.h"

static enum sq_status no_memory(void)
{
    sq_error("cannot make " SQ_JOB_RECORD_NAME ": out of memory");
    return SQ_ERR_MEMORY;
}

/* --- layers ------------------------------------------------------------------------------------------------------- */

/* A figure of a report; one that is no number becomes null. */
static json_t *figure(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *describe_layer(const struct sq_store *store, const struct sq_store_layer *layer, int index)
{
    bool done = sq_store_is_done(store, index);
    struct sq_layer_report none = {.error = NAN, .error_rtn = NAN, .damping = NAN, .rounds = NAN},
                           report = done ? *sq_store_report(store, index) : none;
    return json_pack("{s:s, s:I, s:I, s:i, s:I, s:b, s:b, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:o}", "name",
                     layer->name, "out", (json_int_t)layer->out_features, "in", (json_int_t)layer->in_features, "bits",
                     layer->grid.bits, "group_size", (json_int_t)layer->grid.group_size, "symmetric",
                     (int)layer->grid.symmetric, "done", (int)done, "error", figure(report.error), "error_rtn",
                     figure(report.error_rtn), "damping", figure(report.damping), "raised", (json_int_t)report.n_rungs,
                     "dead_inputs", (json_int_t)report.n_dead, "limited_scales", (json_int_t)report.n_limited, "tokens",
                     (json_int_t)report.n_tokens, "routed", (json_int_t)report.n_routed, "rounds",
                     figure(report.rounds));
}

enum sq_status sq_job_record_layers(const struct sq_store *store, json_t **layers_p)
{
    int n_layers;
    const struct sq_store_layer *layers = sq_store_layers(store, &n_layers);
    json_t *list = json_array();
    bool failed = !list;
    for (int i = 0; i < n_layers && !failed; i++)
        failed = json_array_append_new(list, describe_layer(store, &layers[i], i)) != 0;
    if (failed) {
        json_decref(list);
        return no_memory();
    }
    *layers_p = list;
    return SQ_OK;
}

/* --- the rest ----------------------------------------------------------------------------------------------------- */

/* Names of files need not be UTF-8: '?' then stands for what JSON cannot have. */
static json_t *text_of(const char *bytes, size_t count)
{
    char *plain = NULL;
    json_t *text = json_stringn(bytes, count);
    if (text || sq_string_format(&plain, "%.*s", (int)count, bytes) != SQ_OK) return text;
    for (char *c = plain; *c; c++)
        if ((unsigned char)*c >= 0x80) *c = '?';
    text = json_string(plain);
    sq_free(plain);
    return text;
}

json_t *sq_job_record_pairs(const char *lines)
{
    json_t *object = json_object();
    while (object && *lines) {
        size_t length = strcspn(lines, "\n"), key = strcspn(lines, ":\n");
        size_t value = key < length ? key + 1 + strspn(lines + key + 1, " ") : length;
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)key, lines);
        if (json_object_set_new(object, name, text_of(lines + value, length > value ? length - value : 0))) {
            json_decref(object);
            return NULL;
        }
        lines += length + (lines[length] != '\0');
    }
    return object;
}

json_t *sq_job_record_lines(const char *lines)
{
    json_t *list = json_array();
    while (list && *lines) {
        size_t length = strcspn(lines, "\n");
        if (json_array_append_new(list, text_of(lines, length))) {
            json_decref(list);
            return NULL;
        }
        lines += length + (lines[length] != '\0');
    }
    return list;
}

int64_t sq_job_record_tensor_bytes(const struct sq_checkpoint *checkpoint)
{
    int64_t bytes = 0;
    for (int64_t i = 0; i < sq_checkpoint_n_tensors(checkpoint); i++)
        bytes += (int64_t)sq_checkpoint_tensor(checkpoint, i)->bytes;
    return bytes;
}

static enum sq_status parse_config(struct sq_config *made, const struct sq_assemble_options *options, json_t **config_p)
{
    char *text = NULL;
    if (options) {
        made->dequantized = options->dequantized;
        made->shard_bytes = options->shard_bytes;
        if (!options->dequantized) made->format = options->format;
    }
    SQ_TRY(sq_config_to_json(made, &text));
    enum sq_status status = sq_json_parse(text, strlen(text), "the job's configuration", config_p);
    sq_free(text);
    return status;
}

enum sq_status sq_job_record_config(const struct sq_store *store, const struct sq_assemble_options *options,
                                    json_t **config_p)
{
    struct sq_config made;
    const char *yaml = sq_store_config(store);
    SQ_TRY(sq_config_set_defaults(&made));
    enum sq_status status = sq_config_read_yaml("the store's configuration", yaml, strlen(yaml), &made);
    if (status == SQ_OK) status = parse_config(&made, options, config_p);
    sq_config_release(&made);
    return status;
}

/* --- the text ----------------------------------------------------------------------------------------------------- */

/* Objects and lists of the record have one member a line: a layer is a line. False: no memory. */
static bool write_members(const json_t *value, FILE *file)
{
    const char *key, *before = "\n    ";
    const json_t *member;
    bool is_object = json_is_object(value), good = true;
    size_t index = 0;
    fputc(is_object ? '{' : '[', file);
    void *at = is_object ? json_object_iter((json_t *)value) : NULL;
    for (; good && (is_object ? at != NULL : index < json_array_size(value)); before = ",\n    ") {
        key = is_object ? json_object_iter_key(at) : NULL;
        member = is_object ? json_object_iter_value(at) : json_array_get(value, index++);
        fputs(before, file);
        if (key) fprintf(file, "\"%s\": ", key);
        good = json_dumpf(member, file, JSON_ENCODE_ANY) == 0;
        if (is_object) at = json_object_iter_next((json_t *)value, at);
    }
    fputs(is_object ? "\n  }" : "\n  ]", file);
    return good;
}

static bool write_record(const json_t *record, FILE *file)
{
    const char *key, *before = "{\n  ";
    json_t *value;
    bool good = true;
    json_object_foreach((json_t *)record, key, value)
    {
        fprintf(file, "%s\"%s\": ", before, key);
        bool is_simple = !json_is_object(value) && !json_is_array(value);
        good = good && (is_simple ? json_dumpf(value, file, JSON_ENCODE_ANY) == 0 : write_members(value, file));
        before = ",\n  ";
    }
    fputs("\n}\n", file);
    return good;
}

static enum sq_status record_to_text(const json_t *record, char **text_p)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    bool good = file && write_record(record, file);
    if (file) good = fclose(file) == 0 && good;
    enum sq_status status = good ? sq_string_copy(text, text_p) : no_memory();
    free(text);
    return status;
}

enum sq_status sq_job_record_make(const struct sq_checkpoint *source, const struct sq_store *store,
                                  const struct sq_assemble_options *options, int64_t checkpoint_bytes, char **text_p)
{
    json_t *config = NULL, *layers = NULL;
    SQ_TRY(sq_job_record_config(store, options, &config));
    enum sq_status status = sq_job_record_layers(store, &layers);
    if (status != SQ_OK) {
        json_decref(config);
        return status;
    }
    json_t *record = json_pack("{s:s, s:o, s:o, s:o, s:I, s:I, s:o}", "shardq", options->version, "config", config,
                               "fingerprint", sq_job_record_pairs(sq_store_fingerprint(store)), "versions",
                               sq_job_record_lines(sq_store_versions(store)), "source_bytes",
                               (json_int_t)sq_job_record_tensor_bytes(source), "checkpoint_bytes",
                               (json_int_t)checkpoint_bytes, "layers", layers);
    status = record ? record_to_text(record, text_p) : no_memory();
    json_decref(record);
    return status;
}
