#include "io/quantization.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/checkpoint_private.h"
#include "io/json.h"

#define OLDER_FILE "quantize_config.json"

/* --- rules -------------------------------------------------------------------------------------------------------- */

enum sq_status sq_quantization_reserve(struct sq_quantization *quantization, size_t n_rules)
{
    void *rules;
    SQ_TRY(sq_alloc("rules of a checkpoint", (int64_t)n_rules, sizeof *quantization->rules, &rules));
    quantization->rules = rules;
    return SQ_OK;
}

static void release_rules(struct sq_quantization *quantization)
{
    for (int r = 0; r < quantization->n_rules; r++) {
        sq_pattern_release(quantization->rules[r].pattern);
        sq_free(quantization->rules[r].text);
        sq_free(quantization->rules[r].key);
    }
    sq_free(quantization->rules);
}

/* A pattern that is at fault is an input's here. */
static enum sq_status as_input(enum sq_status status)
{
    return status == SQ_ERR_USAGE ? SQ_ERR_INPUT : status;
}

static enum sq_status compile(const struct sq_quantization *quantization, const char *key, const char *pattern,
                              struct sq_pattern **pattern_p)
{
    char *where = NULL;
    SQ_TRY(sq_string_format(&where, "%s: %s: %s", quantization->folder, quantization->file, key));
    enum sq_status status = sq_pattern_compile(where, pattern, true, pattern_p);
    sq_free(where);
    return as_input(status);
}

enum sq_status sq_quantization_add(struct sq_quantization *quantization, const struct sq_layer_rule *rule,
                                   const char *pattern)
{
    struct sq_layer_rule *added =
        &quantization->rules[quantization->n_rules++]; /* released also when it is not whole */
    *added = *rule;
    added->text = added->key = NULL;
    SQ_TRY(sq_string_copy(rule->text, &added->text));
    SQ_TRY(sq_string_copy(rule->key, &added->key));
    return pattern ? compile(quantization, rule->key, pattern, &added->pattern) : SQ_OK;
}

static enum sq_status is_for(const struct sq_layer_rule *rule, const char *name, bool is_transposed, bool *is_for_p)
{
    switch (rule->kind) {
    case SQ_BY_PATTERN:
        return as_input(sq_pattern_matches(rule->pattern, name, is_for_p));
    case SQ_BY_NAME:
        *is_for_p = !strcmp(rule->text, name);
        break;
    case SQ_BY_CLASS: /* folders of GPT-2 say Linear of layers that transformers has as Conv1D */
        *is_for_p = is_transposed || strcmp(rule->text, "Conv1D");
        break;
    case SQ_BY_OTHER_CLASS: /* of its model's own: it may be the layer's */
        *is_for_p = !rule->is_exempt;
        break;
    }
    return SQ_OK;
}

enum sq_status sq_quantization_find(const struct sq_quantization *quantization, const char *name, bool is_transposed,
                                    const struct sq_layer_rule **rule_p)
{
    const struct sq_layer_rule *found = NULL;
    for (int r = 0; r < quantization->n_rules && !found; r++) {
        bool is_found = false;
        SQ_TRY(is_for(&quantization->rules[r], name, is_transposed, &is_found));
        if (is_found) found = &quantization->rules[r];
    }
    *rule_p = found;
    return SQ_OK;
}

enum sq_status sq_quantization_refuse(const struct sq_quantization *quantization, const struct sq_layer_rule *rule,
                                      const struct sq_json_key *key, int64_t value, const struct sq_layer_facts *layer,
                                      const char *otherwise)
{
    char text[32];
    sq_error("%s: %s: %s%s%s is %s, but %s has %d bits, %lld group%s of its %lld inputs%s", quantization->folder,
             quantization->file, rule ? rule->key : "", rule ? "." : "", key->name, sq_json_show(key, value, text),
             layer->name, layer->bits, (long long)layer->n_groups, layer->n_groups == 1 ? "" : "s",
             (long long)layer->in_features, otherwise);
    return SQ_ERR_INPUT;
}

enum sq_status sq_quantization_refuse_other(const struct sq_quantization *quantization,
                                            const struct sq_quantization *other, const char *key, const char *value,
                                            const char *other_value)
{
    sq_error("%s: %s is %s in %s, but %s in %s", quantization->folder, key, value, quantization->file, other_value,
             other->file);
    return SQ_ERR_INPUT;
}

/* --- the files ---------------------------------------------------------------------------------------------------- */

/* A folder of plain weights may keep what was once said of other ones. */
static bool has_quantized_layers(const struct sq_checkpoint *checkpoint)
{
    for (int64_t i = 0; i < checkpoint->n_tensors; i++)
        if (sq_text_ends_in(checkpoint->tensors[i].name, ".qweight") ||
            sq_text_ends_in(checkpoint->tensors[i].name, ".weight_packed"))
            return true;
    return false;
}

/* NULL where there is no such file. */
static enum sq_status read_older(const char *folder, json_t **object_p)
{
    char *path;
    *object_p = NULL;
    SQ_TRY(sq_path_join(folder, OLDER_FILE, &path));
    enum sq_status status = access(path, F_OK) == 0 ? sq_json_read(path, object_p) : SQ_OK;
    if (status == SQ_OK && *object_p && !json_is_object(*object_p)) {
        sq_error("%s: not a JSON object", path);
        status = SQ_ERR_INPUT;
    }
    sq_free(path);
    return status;
}

/* What ranks are compared by has config.json alone. */
static enum sq_status add_to_hash(struct sq_checkpoint *checkpoint, const json_t *object)
{
    char *text = json_dumps(object, JSON_SORT_KEYS);
    if (!text) {
        sq_error("%s: no memory for " OLDER_FILE, checkpoint->folder);
        return SQ_ERR_MEMORY;
    }
    checkpoint->config_hash = XXH3_64bits_withSeed(text, strlen(text), checkpoint->config_hash);
    free(text);
    return SQ_OK;
}

/* NULL where the file does not say it. */
static enum sq_status read_method(struct sq_quantization *quantization)
{
    const json_t *method;
    const struct sq_json_place place = {quantization->folder, quantization->file, "", quantization->object};
    SQ_TRY(sq_json_find(&place, "quant_method", SQ_JSON_STRING, &method));
    quantization->method = json_string_value(method);
    return SQ_OK;
}

/* older: what quantize_config.json has, or NULL. The object stays NULL where neither file says anything. */
static enum sq_status choose_file(struct sq_checkpoint *checkpoint, json_t *older, struct sq_quantization *quantization)
{
    const json_t *object;
    const struct sq_json_place config = {checkpoint->folder, "config.json", "", checkpoint->config};
    SQ_TRY(sq_json_find(&config, "quantization_config", SQ_JSON_OBJECT, &object));
    quantization->file = object ? "config.json" : OLDER_FILE;
    if (!object && older) SQ_TRY(add_to_hash(checkpoint, older));
    quantization->object = json_incref(object ? (json_t *)object : older);
    SQ_TRY(read_method(quantization));
    if (!object && older && !quantization->method)
        quantization->method = "gptq"; /* it was the file of that method alone */
    return SQ_OK;
}

static bool is_gptq(const struct sq_quantization *quantization)
{
    return quantization->method && !strcmp(quantization->method, "gptq");
}

static enum sq_status read_settings(struct sq_quantization *quantization)
{
    if (is_gptq(quantization)) return sq_gptq_settings_read(quantization);
    if (quantization->method && !strcmp(quantization->method, "compressed-tensors"))
        return sq_packed_settings_read(quantization);
    return SQ_OK; /* whose layers are not read */
}

static enum sq_status compare_files(const struct sq_quantization *quantization, struct sq_quantization *older)
{
    SQ_TRY(read_method(older));
    const char *here = quantization->method, *there = older->method;
    if (here && there && strcmp(here, there) != 0)
        return sq_quantization_refuse_other(quantization, older, "quant_method", here, there);
    if (!is_gptq(quantization)) return SQ_OK;
    SQ_TRY(sq_gptq_settings_read(older));
    return sq_gptq_settings_agree(quantization, older);
}

/* older: of quantize_config.json, where config.json has settings, too. */
static enum sq_status check_older(const struct sq_quantization *quantization, json_t *older)
{
    struct sq_quantization other = {.folder = quantization->folder, .file = OLDER_FILE, .object = older};
    enum sq_status status = compare_files(quantization, &other);
    release_rules(&other);
    return status;
}

static enum sq_status read_files(struct sq_checkpoint *checkpoint, struct sq_quantization *quantization)
{
    json_t *older = NULL;
    enum sq_status status = read_older(checkpoint->folder, &older);
    if (status == SQ_OK) status = choose_file(checkpoint, older, quantization);
    if (status == SQ_OK && quantization->object) status = read_settings(quantization);
    if (status == SQ_OK && older && older != quantization->object) status = check_older(quantization, older);
    json_decref(older);
    return status;
}

enum sq_status sq_quantization_open(struct sq_checkpoint *checkpoint)
{
    void *memory;
    if (!has_quantized_layers(checkpoint)) return SQ_OK;
    SQ_TRY(sq_alloc("what a checkpoint says of its layers", 1, sizeof(struct sq_quantization), &memory));
    checkpoint->quantization = memory; /* from here on closed with the checkpoint */
    checkpoint->quantization->folder = checkpoint->folder;
    return read_files(checkpoint, checkpoint->quantization);
}

void sq_quantization_close(struct sq_quantization *quantization)
{
    if (!quantization) return;
    release_rules(quantization);
    json_decref(quantization->object);
    sq_free(quantization);
}

const json_t *sq_checkpoint_quantization(const struct sq_checkpoint *checkpoint)
{
    if (checkpoint->quantization) return checkpoint->quantization->object;
    return json_object_get(checkpoint->config, "quantization_config");
}
