#include "io/assemble_config.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/log.h"
#include "base/memory.h"

#define PER_CHANNEL ((int64_t)-1)

/* bits and group size (-1: one group) as readers see them. */
struct setting {
    int bits;
    int64_t group_size;
};

/* --- what the job as a whole uses --------------------------------------------------------------------------------- */

static bool is_lm_head(const struct sq_store_layer *layer)
{
    const char *dot = strrchr(layer->name, '.');
    return !strcmp(dot ? dot + 1 : layer->name, "lm_head");
}

static bool has_lm_head(const struct sq_store_layer *layers, int n_layers)
{
    for (int l = 0; l < n_layers; l++)
        if (is_lm_head(&layers[l])) return true;
    return false;
}

static bool fits(const struct sq_store_layer *layer, struct setting setting)
{
    if (layer->grid.bits != setting.bits) return false;
    return layer->grid.group_size == setting.group_size ||
           (setting.group_size == PER_CHANNEL && layer->grid.group_size >= layer->in_features);
}

static int count_fits(const struct sq_store_layer *layers, int n_layers, struct setting setting)
{
    int count = 0;
    for (int l = 0; l < n_layers; l++)
        count += !is_lm_head(&layers[l]) && fits(&layers[l], setting);
    return count;
}

/* Whether an earlier layer has put the same settings forward: it is found soon where layers are many and settings few.
 */
static bool is_repeated(const struct sq_store_layer *layers, int l)
{
    bool one_group = layers[l].grid.group_size >= layers[l].in_features;
    for (int e = 0; e < l; e++)
        if (!is_lm_head(&layers[e]) && layers[e].grid.bits == layers[l].grid.bits &&
            layers[e].grid.group_size == layers[l].grid.group_size &&
            (layers[e].grid.group_size >= layers[e].in_features) == one_group)
            return true;
    return false;
}

/* The setting that most layers have, the first such; lm_head counts only where it is alone. A layer with one group may
 * count as group_size = in_features or as -1, so that layers of different widths can agree on -1. */
static struct setting find_common(const struct sq_store_layer *layers, int n_layers)
{
    struct setting best = {layers[0].grid.bits, layers[0].grid.group_size};
    int best_count = 0;
    for (int l = 0; l < n_layers; l++) {
        if (is_lm_head(&layers[l]) || is_repeated(layers, l)) continue;
        const struct setting candidates[] = {{layers[l].grid.bits, layers[l].grid.group_size},
                                             {layers[l].grid.bits, PER_CHANNEL}};
        for (int c = 0; c < 2; c++) {
            int count = fits(&layers[l], candidates[c]) ? count_fits(layers, n_layers, candidates[c]) : 0;
            if (count <= best_count) continue;
            best_count = count;
            best = candidates[c];
        }
    }
    return best;
}

/* --- exceptions: "-:^name$" for layers left as they are, "+:^name$" for other settings ---------------------------- */

/* text: at least 2 * strlen(name) + 5 bytes. */
static void write_pattern(char sign, const char *name, char *text)
{
    *text++ = sign;
    *text++ = ':';
    *text++ = '^';
    for (; *name; name++) {
        if (!isalnum((unsigned char)*name) && *name != '_') *text++ = '\\';
        *text++ = *name;
    }
    *text++ = '$';
    *text = '\0';
}

static enum sq_status add_exception(json_t *dynamic, char sign, const char *name, json_t *value)
{
    char pattern[2048];
    if (2 * strlen(name) + 6 > sizeof pattern) {
        sq_error("the name of layer %s is too long for quantization_config", name);
        json_decref(value);
        return SQ_ERR_INPUT;
    }
    write_pattern(sign, name, pattern);
    if (value && json_object_set_new(dynamic, pattern, value) == 0) return SQ_OK;
    sq_error("cannot add %s to quantization_config: out of memory", pattern);
    return SQ_ERR_MEMORY;
}

/* A matrix inside a numbered part of the model ("layers.0.") is a linear layer; embeddings and lm_head are outside. */
static bool is_block_linear(const struct sq_output *output)
{
    size_t length = strlen(output->name), ending = strlen(".weight");
    if (output->kind != SQ_OUTPUT_COPY || output->entry.n_dims != 2 || length <= ending) return false;
    if (strcmp(output->name + length - ending, ".weight")) return false;
    for (const char *dot = strchr(output->name, '.'); dot; dot = strchr(dot + 1, '.')) {
        size_t digits = strspn(dot + 1, "0123456789");
        if (digits > 0 && dot[1 + digits] == '.') return true;
    }
    return false;
}

static enum sq_status add_skipped(json_t *dynamic, const struct sq_output *output)
{
    char *prefix;
    SQ_TRY(sq_string_copy(output->name, &prefix));
    prefix[strlen(prefix) - strlen(".weight")] = '\0';
    enum sq_status status = add_exception(dynamic, '-', prefix, json_object());
    sq_free(prefix);
    return status;
}

static enum sq_status add_exceptions(json_t *dynamic, const struct sq_store_layer *layers, int n_layers,
                                     struct setting common, const struct sq_assemble_plan *plan)
{
    for (int64_t i = 0; i < plan->n_outputs; i++)
        if (is_block_linear(&plan->outputs[i])) SQ_TRY(add_skipped(dynamic, &plan->outputs[i]));
    for (int l = 0; l < n_layers; l++) {
        const struct sq_grid *grid = &layers[l].grid;
        if (fits(&layers[l], common)) continue;
        int64_t group_size = grid->group_size >= layers[l].in_features ? PER_CHANNEL : grid->group_size;
        json_t *value = json_pack("{s:i, s:I}", "bits", grid->bits, "group_size", (json_int_t)group_size);
        SQ_TRY(add_exception(dynamic, '+', layers[l].name, value));
    }
    return SQ_OK;
}

/* --- config.json -------------------------------------------------------------------------------------------------- */

static void format_fingerprint(const struct sq_store *store, char text[17])
{
    const char *lines = sq_store_fingerprint(store);
    uint64_t hash = XXH3_64bits(lines, strlen(lines));
    for (int i = 0; i < 16; i++)
        text[i] = "0123456789abcdef"[hash >> (60 - 4 * i) & 15];
    text[16] = '\0';
}

static json_t *make_meta(const struct sq_store *store, const struct sq_assemble_options *options)
{
    char fingerprint[17];
    format_fingerprint(store, fingerprint);
    return json_pack("{s:[s+], s:f, s:b, s:b, s:s, s:I}", "quantizer", "shardq:", options->version, "damp_percent",
                     options->damping, "static_groups", (int)options->static_groups, "true_sequential",
                     (int)options->true_sequential, "fingerprint", fingerprint, "shard_bytes",
                     (json_int_t)options->shard_bytes);
}

static bool all_symmetric(const struct sq_store_layer *layers, int n_layers)
{
    for (int l = 0; l < n_layers; l++)
        if (!layers[l].grid.symmetric) return false;
    return true;
}

static enum sq_status make_quantization_config(const struct sq_store *store, const struct sq_assemble_options *options,
                                               const struct sq_assemble_plan *plan, json_t **object_p)
{
    int n_layers;
    const struct sq_store_layer *layers = sq_store_layers(store, &n_layers);
    struct setting common = find_common(layers, n_layers);
    json_t *dynamic = json_object();
    enum sq_status status = add_exceptions(dynamic, layers, n_layers, common, plan);
    if (status != SQ_OK) goto fail;
    if (json_object_size(dynamic) == 0) {
        json_decref(dynamic);
        dynamic = json_null();
    }
    json_t *object = json_pack("{s:i, s:I, s:b, s:b, s:b, s:s, s:s, s:s, s:o, s:o}", "bits", common.bits, "group_size",
                               (json_int_t)common.group_size, "desc_act", 0, "sym",
                               (int)all_symmetric(layers, n_layers), "lm_head", (int)has_lm_head(layers, n_layers),
                               "quant_method", "gptq", "checkpoint_format", options->v2 ? "gptq_v2" : "gptq",
                               "pack_dtype", "int32", "dynamic", dynamic, "meta", make_meta(store, options));
    if (!object) {
        sq_error("cannot make quantization_config: out of memory");
        return SQ_ERR_MEMORY;
    }
    *object_p = object;
    return SQ_OK;
fail:
    json_decref(dynamic);
    return status;
}

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

/* The source's configuration with `object` (taken over) under `key`. */
static enum sq_status make_config(const struct sq_checkpoint *checkpoint, const char *key, json_t *object,
                                  char **text_p)
{
    int failed = 0;
    enum sq_status status = SQ_ERR_MEMORY;
    json_t *config = json_copy((json_t *)sq_checkpoint_config(checkpoint));
    if (config) json_object_del(config, "quantization_config");
    failed |= json_object_set_new(config, key, object);
    if (failed)
        sq_error("cannot make config.json: out of memory");
    else
        status = print_json(config, text_p);
    json_decref(config);
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

static enum sq_status make_quantized_texts(const struct sq_checkpoint *checkpoint, const struct sq_store *store,
                                           const struct sq_assemble_options *options,
                                           const struct sq_assemble_plan *plan, struct sq_assemble_texts *texts)
{
    json_t *object;
    SQ_TRY(make_quantization_config(store, options, plan, &object));
    enum sq_status status = print_json(object, &texts->quantize_config);
    if (status == SQ_OK) status = make_config(checkpoint, "quantization_config", json_incref(object), &texts->config);
    json_decref(object);
    return status;
}

enum sq_status sq_assemble_texts_make(const struct sq_checkpoint *checkpoint, const struct sq_store *store,
                                      const struct sq_assemble_options *options, const struct sq_assemble_plan *plan,
                                      struct sq_assemble_texts *texts_p)
{
    struct sq_assemble_texts texts = {0};
    enum sq_status status = options->dequantized
                                ? make_config(checkpoint, "shardq", make_meta(store, options), &texts.config)
                                : make_quantized_texts(checkpoint, store, options, plan, &texts);
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
    format_fingerprint(store, fingerprint);
    const char *found = json_string_value(json_object_get(find_meta(config), "fingerprint"));
    return found && !strcmp(found, fingerprint);
}

bool sq_assemble_has_form(const json_t *config, const struct sq_assemble_options *options)
{
    const json_t *object = json_object_get(config, "quantization_config");
    const char *format = json_string_value(json_object_get(object, "checkpoint_format"));
    bool is_same = options->dequantized ? !object : format && !strcmp(format, options->v2 ? "gptq_v2" : "gptq");
    return is_same && json_integer_value(json_object_get(find_meta(config), "shard_bytes")) == options->shard_bytes;
}
