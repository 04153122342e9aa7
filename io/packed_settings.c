/* quantization_config of compressed-tensors checkpoints, and whether the tensors are what it says. */
#include <ctype.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "io/packed_private.h"

enum { NUM_BITS, GROUP_SIZE, SYMMETRIC, N_KEYS };
static const struct sq_json_key keys[N_KEYS] = {
    [NUM_BITS] = {"num_bits", SQ_JSON_INTEGER, offsetof(struct sq_stated, bits)},
    [GROUP_SIZE] = {"group_size", SQ_JSON_INTEGER, offsetof(struct sq_stated, group_size)},
    [SYMMETRIC] = {"symmetric", SQ_JSON_TRUTH, offsetof(struct sq_stated, symmetric)},
};

/* --- reading the file --------------------------------------------------------------------------------------------- */

static enum sq_layer_rule_kind kind_of(const char *text)
{
    if (!strncmp(text, "re:", 3)) return SQ_BY_PATTERN;
    if (!strcmp(text, "Linear") || !strcmp(text, "Conv1D")) return SQ_BY_CLASS;
    return isupper((unsigned char)*text) && !strchr(text, '.') ? SQ_BY_OTHER_CLASS : SQ_BY_NAME;
}

/* One rule like `like` for each string of the list `name`. */
static enum sq_status add_list(struct sq_quantization *quantization, const struct sq_json_place *place,
                               const char *name, const struct sq_layer_rule *like)
{
    size_t i;
    const json_t *list;
    json_t *item;
    SQ_TRY(sq_json_find(place, name, SQ_JSON_LIST, &list));
    json_array_foreach((json_t *)list, i, item)
    {
        struct sq_layer_rule rule = *like;
        rule.text = (char *)json_string_value(item);
        if (!rule.text) {
            sq_error("%s: %s: %s%s%s has something that is no string", place->folder, place->file, place->key,
                     *place->key ? "." : "", name);
            return SQ_ERR_INPUT;
        }
        rule.kind = kind_of(rule.text);
        SQ_TRY(sq_quantization_add(quantization, &rule, rule.kind == SQ_BY_PATTERN ? rule.text + 3 : NULL));
    }
    return SQ_OK;
}

/* A group may be for activations alone. */
static enum sq_status read_weights(const struct sq_json_place *group, const char *key, struct sq_layer_rule *rule)
{
    const json_t *weights, *bits;
    SQ_TRY(sq_json_find(group, "weights", SQ_JSON_OBJECT, &weights));
    rule->is_exempt = !weights;
    if (!weights) return SQ_OK;
    const struct sq_json_place place = {group->folder, group->file, key, weights};
    SQ_TRY(sq_json_require(&place, keys[NUM_BITS].name, SQ_JSON_INTEGER, &bits));
    SQ_TRY(sq_json_read_keys(&place, keys, N_KEYS, &rule->stated));
    if (rule->stated.symmetric == SQ_JSON_UNSTATED) rule->stated.symmetric = 1; /* as its readers have it */
    return SQ_OK;
}

static enum sq_status read_group(struct sq_quantization *quantization, const struct sq_json_place *groups,
                                 const char *name)
{
    char *key = NULL, *weights = NULL;
    const json_t *object, *targets;
    struct sq_layer_rule rule = {0};
    SQ_TRY(sq_json_require(groups, name, SQ_JSON_OBJECT, &object));
    enum sq_status status = sq_string_format(&key, "config_groups.%s", name);
    if (status == SQ_OK) status = sq_string_format(&weights, "config_groups.%s.weights", name);
    const struct sq_json_place place = {groups->folder, groups->file, key, object};
    rule.key = weights;
    if (status == SQ_OK) status = sq_json_require(&place, "targets", SQ_JSON_LIST, &targets);
    if (status == SQ_OK) status = read_weights(&place, weights, &rule);
    if (status == SQ_OK) status = add_list(quantization, &place, "targets", &rule);
    sq_free(weights);
    sq_free(key);
    return status;
}

static size_t count_rules(const json_t *ignore, const json_t *groups)
{
    const char *name;
    json_t *group;
    size_t count = json_array_size(ignore);
    json_object_foreach((json_t *)groups, name, group)
    {
        (void)name;
        count += json_array_size(json_object_get(group, "targets"));
    }
    return count;
}

/* Of several that are for a layer: one by its name, then the first pattern, then its class; each in the order of their
 * texts. */
static int compare_rules(const void *a, const void *b)
{
    const struct sq_layer_rule *x = a, *y = b;
    return x->kind == y->kind ? strcmp(x->text, y->text) : (int)x->kind - (int)y->kind;
}

static enum sq_status read_groups(struct sq_quantization *quantization, const struct sq_json_place *place)
{
    const char *name;
    const json_t *ignore, *object;
    json_t *group;
    const struct sq_layer_rule ignored = {.key = "ignore", .is_exempt = true};
    SQ_TRY(sq_json_find(place, "ignore", SQ_JSON_LIST, &ignore));
    SQ_TRY(sq_json_find(place, "config_groups", SQ_JSON_OBJECT, &object));
    SQ_TRY(sq_quantization_reserve(quantization, count_rules(ignore, object)));
    SQ_TRY(add_list(quantization, place, "ignore", &ignored));
    int n_ignored = quantization->n_rules;
    const struct sq_json_place groups = {place->folder, place->file, "config_groups", object};
    json_object_foreach((json_t *)object, name, group)
    {
        (void)group;
        SQ_TRY(read_group(quantization, &groups, name));
    }
    qsort(quantization->rules + n_ignored, (size_t)(quantization->n_rules - n_ignored), sizeof *quantization->rules,
          compare_rules);
    return SQ_OK;
}

enum sq_status sq_packed_settings_read(struct sq_quantization *quantization)
{
    const json_t *value;
    const struct sq_json_place place = {quantization->folder, quantization->file, "", quantization->object};
    SQ_TRY(sq_json_require(&place, "format", SQ_JSON_STRING, &value));
    quantization->format = json_string_value(value);
    if (!strcmp(quantization->format, "pack-quantized") || !strcmp(quantization->format, "mixed-precision"))
        return read_groups(quantization, &place);
    sq_error("%s: %s: format is %s; only pack-quantized is read", place.folder, place.file, quantization->format);
    return SQ_ERR_INPUT;
}

/* --- keys and tensors --------------------------------------------------------------------------------------------- */

static bool has_bits(const struct sq_packed_layer *layer, int64_t bits)
{
    return bits == layer->grid.bits;
}

/* Without a size, or with one that no row fills, there is one group. Several have a size that divides a row: what the
 * number of groups leaves open has one answer. */
static bool has_groups(const struct sq_packed_layer *layer, int64_t group_size)
{
    int64_t in_features = layer->place->in_features;
    if (group_size <= 0 || group_size >= in_features) return layer->n_groups == 1;
    return group_size == layer->grid.group_size;
}

static bool has_symmetry(const struct sq_packed_layer *layer, int64_t symmetric)
{
    return symmetric == layer->grid.symmetric;
}

static bool (*const checks[N_KEYS])(const struct sq_packed_layer *layer, int64_t value) = {
    [NUM_BITS] = has_bits, [GROUP_SIZE] = has_groups, [SYMMETRIC] = has_symmetry};

static enum sq_status refuse(const struct sq_packed_layer *layer, int key, int64_t value)
{
    const struct sq_layer_facts facts = {layer->place->prefix, layer->grid.bits, layer->n_groups,
                                         layer->place->in_features};
    const char *zeros = layer->zero_point ? ", and a weight_zero_point" : ", and no weight_zero_point";
    return sq_quantization_refuse(layer->quantization, layer->rule, &keys[key], value, &facts,
                                  key == SYMMETRIC ? zeros : "");
}

enum sq_status sq_packed_settings_compare(const struct sq_packed_layer *layer)
{
    const struct sq_quantization *quantization = layer->quantization;
    if (!layer->rule && json_object_size(json_object_get(quantization->object, "config_groups")) == 0) return SQ_OK;
    if (!layer->rule) {
        sq_error("%s: %s: config_groups has no target that %s matches, but its tensors are quantized",
                 quantization->folder, quantization->file, layer->place->prefix);
        return SQ_ERR_INPUT;
    }
    for (int k = 0; k < N_KEYS; k++) {
        int64_t value = sq_json_value(&keys[k], &layer->rule->stated);
        if (!checks[k](layer, value)) return refuse(layer, k, value);
    }
    return SQ_OK;
}
