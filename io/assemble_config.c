#include "io/assemble_config.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/describe.h"

/* With as few digits as say the same numbers: 1e-05 is not to become 1.0000000000000001e-05. NULL: out of memory. */
static char *dump_short(const json_t *object)
{
    for (size_t digits = 15; digits < 17; digits++) {
        char *body = json_dumps(object, JSON_INDENT(2) | JSON_REAL_PRECISION(digits));
        json_t *again = body ? json_loads(body, 0, NULL) : NULL;
        bool is_same = again && json_equal(again, object);
        json_decref(again);
        if (is_same) return body;
        free(body);
    }
    return json_dumps(object, JSON_INDENT(2));
}

static enum sq_status print_json(const json_t *object, char **text_p)
{
    char *body = dump_short(object);
    if (!body) {
        sq_error("cannot write JSON: out of memory");
        return SQ_ERR_MEMORY;
    }
    enum sq_status status = sq_string_format(text_p, "%s\n", body);
    free(body);
    return status;
}

static enum sq_status make_index(const struct sq_assemble_plan *plan, char **text_p)
{
    int failed = 0;
    json_int_t total = 0;
    enum sq_status status = SQ_ERR_MEMORY;
    json_t *map = json_object();
    for (int64_t i = 0; i < plan->n_outputs; i++) {
        const struct sq_output *output = &plan->outputs[i];
        failed |= json_object_set_new(map, output->name, json_string(plan->files[output->file].name));
        total += sq_safetensors_entry_bytes(&output->entry);
    }
    json_t *index = json_pack("{s:{s:I}, s:o}", "metadata", "total_size", total, "weight_map", map);
    if (failed || !index)
        sq_error("cannot make model.safetensors.index.json: out of memory");
    else
        status = print_json(index, text_p);
    json_decref(index);
    return status;
}

/* The source's configuration, less what it says of another form of the same model. */
static json_t *copy_config(const struct sq_checkpoint *checkpoint)
{
    json_t *config = json_copy((json_t *)sq_checkpoint_config(checkpoint));
    if (!config) {
        sq_error("cannot make config.json: out of memory");
        return NULL;
    }
    json_object_del(config, "quantization_config");
    json_object_del(config, "shardq");
    return config;
}

static enum sq_status make_configs(const struct sq_checkpoint *checkpoint, const struct sq_description *description,
                                   struct sq_assemble_texts *texts)
{
    json_t *config = copy_config(checkpoint);
    if (!config) return SQ_ERR_MEMORY;
    enum sq_status status = description->format->describe(description, config);
    if (status == SQ_OK) status = print_json(config, &texts->config);
    if (status == SQ_OK && description->format->has_quantize_config)
        status = print_json(json_object_get(config, "quantization_config"), &texts->quantize_config);
    json_decref(config);
    return status;
}

enum sq_status sq_assemble_texts_make(const struct sq_checkpoint *checkpoint, const struct sq_store *store,
                                      const struct sq_assemble_options *options, const struct sq_assemble_plan *plan,
                                      struct sq_assemble_texts *texts_p)
{
    struct sq_assemble_texts texts = {0};
    const struct sq_description description = {sq_format_writer_find(options->format, options->dequantized), store,
                                               options, plan};
    enum sq_status status = make_configs(checkpoint, &description, &texts);
    if (status == SQ_OK && plan->n_files > 1) status = make_index(plan, &texts.index);
    if (status != SQ_OK) {
        sq_assemble_texts_release(&texts);
        return status;
    }
    *texts_p = texts;
    return SQ_OK;
}

void sq_assemble_texts_release(struct sq_assemble_texts *texts)
{
    sq_free(texts->config);
    sq_free(texts->quantize_config);
    sq_free(texts->index);
    *texts = (struct sq_assemble_texts){0};
}

static const json_t *find_meta(const json_t *config)
{
    const json_t *meta = json_object_get(json_object_get(config, "quantization_config"), "meta");
    return meta ? meta : json_object_get(config, "shardq");
}

bool sq_assemble_is_from(const json_t *config, const struct sq_store *store)
{
    char fingerprint[17];
    sq_describe_fingerprint(store, fingerprint);
    const char *found = json_string_value(json_object_get(find_meta(config), "fingerprint"));
    return found && !strcmp(found, fingerprint);
}

bool sq_assemble_has_form(const json_t *config, const struct sq_assemble_options *options)
{
    const struct sq_format_writer *format = sq_format_writer_find(options->format, options->dequantized);
    const json_t *object = json_object_get(config, "quantization_config");
    const char *found = format->mark ? json_string_value(json_object_get(object, format->mark)) : NULL;
    bool is_same = format->mark ? found && !strcmp(found, format->name) : !object;
    return is_same && json_integer_value(json_object_get(find_meta(config), "shard_bytes")) == options->shard_bytes;
}
