/* quantization_config of GPTQ checkpoints, and whether the tensors are what it says. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "io/gptq_private.h"
#include "tensor/grid.h"

enum { BITS, GROUP_SIZE, SYM, DESC_ACT, N_KEYS };
static const struct sq_json_key keys[N_KEYS] = {
    [BITS] = {"bits", SQ_JSON_INTEGER, offsetof(struct sq_stated, bits)},
    [GROUP_SIZE] = {"group_size", SQ_JSON_INTEGER, offsetof(struct sq_stated, group_size)},
    [SYM] = {"sym", SQ_JSON_TRUTH, offsetof(struct sq_stated, symmetric)},
    [DESC_ACT] = {"desc_act", SQ_JSON_TRUTH, offsetof(struct sq_stated, activation_order)},
};

static int64_t value_of(const struct sq_stated *stated, int key)
{
    return sq_json_value(&keys[key], stated);
}

/* --- reading the file --------------------------------------------------------------------------------------------- */

static enum sq_status read_format(const struct sq_json_place *place, struct sq_quantization *quantization)
{
    static const char *const names[] = {"checkpoint_format", "format"};
    for (int i = 0; i < 2 && !quantization->format; i++) {
        const json_t *value;
        SQ_TRY(sq_json_find(place, names[i], SQ_JSON_STRING, &value));
        quantization->format_key = value ? names[i] : NULL;
        quantization->format = json_string_value(value);
    }
    if (!quantization->format) quantization->format = "gptq"; /* the older one had no name */
    if (!strcmp(quantization->format, "gptq") || !strcmp(quantization->format, "gptq_v2")) return SQ_OK;
    sq_error("%s: %s: %s is %s; only gptq and gptq_v2 are read", place->folder, place->file, quantization->format_key,
             quantization->format);
    return SQ_ERR_INPUT;
}

/* An entry of `dynamic`: "-:PATTERN" leaves layers as they are, "+:PATTERN" or PATTERN has other settings. */
static enum sq_status add_entry(struct sq_quantization *quantization, const struct sq_json_place *dynamic,
                                const char *text)
{
    char *key;
    const json_t *entry;
    SQ_TRY(sq_string_format(&key, "dynamic.%s", text));
    bool is_exempt = !strncmp(text, "-:", 2), has_sign = is_exempt || !strncmp(text, "+:", 2);
    struct sq_layer_rule rule = {.kind = SQ_BY_PATTERN, .text = (char *)text, .key = key, .is_exempt = is_exempt};
    enum sq_status status = sq_json_require(dynamic, text, SQ_JSON_OBJECT, &entry);
    if (status == SQ_OK) {
        const struct sq_json_place place = {dynamic->folder, dynamic->file, key, entry};
        status = sq_json_read_keys(&place, keys, N_KEYS, &rule.stated);
    }
    if (status == SQ_OK) status = sq_quantization_add(quantization, &rule, text + (has_sign ? 2 : 0));
    sq_free(key);
    return status;
}

static enum sq_status read_dynamic(const struct sq_json_place *place, struct sq_quantization *quantization)
{
    const char *text;
    const json_t *object;
    json_t *entry;
    SQ_TRY(sq_json_find(place, "dynamic", SQ_JSON_OBJECT, &object));
    const struct sq_json_place dynamic = {place->folder, place->file, "dynamic", object};
    SQ_TRY(sq_quantization_reserve(quantization, json_object_size(object)));
    json_object_foreach((json_t *)object, text, entry)
    {
        (void)entry;
        SQ_TRY(add_entry(quantization, &dynamic, text));
    }
    return SQ_OK;
}

enum sq_status sq_gptq_settings_read(struct sq_quantization *quantization)
{
    const struct sq_json_place place = {quantization->folder, quantization->file, "", quantization->object};
    SQ_TRY(read_format(&place, quantization));
    SQ_TRY(sq_json_read_keys(&place, keys, N_KEYS, &quantization->stated));
    return read_dynamic(&place, quantization);
}

/* --- two files ---------------------------------------------------------------------------------------------------- */

static int64_t choose(int64_t of_rule, int64_t of_all)
{
    return of_rule == SQ_JSON_UNSTATED ? of_all : of_rule;
}

/* What is said of a rule's layers (NULL: of all others). */
static struct sq_stated stated_of(const struct sq_quantization *quantization, const struct sq_layer_rule *rule)
{
    const struct sq_stated *all = &quantization->stated, *own = rule ? &rule->stated : all;
    return (struct sq_stated){.bits = choose(own->bits, all->bits),
                              .group_size = choose(own->group_size, all->group_size),
                              .symmetric = choose(own->symmetric, all->symmetric),
                              .activation_order = choose(own->activation_order, all->activation_order)};
}

/* rules: one of each file, for the same layers, or NULL for the common settings. */
static enum sq_status compare_stated(const struct sq_quantization *const files[2],
                                     const struct sq_layer_rule *const rules[2])
{
    const struct sq_stated stated[2] = {stated_of(files[0], rules[0]), stated_of(files[1], rules[1])};
    for (int k = 0; k < N_KEYS; k++) {
        char texts[2][32], name[256];
        int64_t here = value_of(&stated[0], k), there = value_of(&stated[1], k);
        if (here == there || here == SQ_JSON_UNSTATED || there == SQ_JSON_UNSTATED) continue;
        snprintf(name, sizeof name, "%s%s%s", rules[0] ? rules[0]->key : "", rules[0] ? "." : "", keys[k].name);
        return sq_quantization_refuse_other(files[0], files[1], name, sq_json_show(&keys[k], here, texts[0]),
                                            sq_json_show(&keys[k], there, texts[1]));
    }
    return SQ_OK;
}

static bool has_dynamic(const struct sq_quantization *quantization)
{
    return json_is_object(json_object_get(quantization->object, "dynamic"));
}

static enum sq_status compare_rules(const struct sq_quantization *const files[2], int index)
{
    char name[32];
    const struct sq_layer_rule *rules[2];
    for (int f = 0; f < 2; f++)
        rules[f] = index < files[f]->n_rules ? &files[f]->rules[index] : NULL;
    if (rules[0] && rules[1] && !strcmp(rules[0]->text, rules[1]->text)) return compare_stated(files, rules);
    snprintf(name, sizeof name, "key %d of dynamic", index + 1); /* the first that is for a layer decides */
    return sq_quantization_refuse_other(files[0], files[1], name, rules[0] ? rules[0]->text : "missing",
                                        rules[1] ? rules[1]->text : "missing");
}

static enum sq_status compare_dynamic(const struct sq_quantization *const files[2])
{
    if (!has_dynamic(files[0]) || !has_dynamic(files[1])) return SQ_OK;
    for (int r = 0; r < files[0]->n_rules || r < files[1]->n_rules; r++)
        SQ_TRY(compare_rules(files, r));
    return SQ_OK;
}

enum sq_status sq_gptq_settings_agree(const struct sq_quantization *quantization, const struct sq_quantization *other)
{
    const struct sq_quantization *const files[2] = {quantization, other};
    const struct sq_layer_rule *const of_all[2] = {NULL, NULL};
    SQ_TRY(compare_stated(files, of_all));
    SQ_TRY(compare_dynamic(files));
    if (!quantization->format_key || !other->format_key || !strcmp(quantization->format, other->format)) return SQ_OK;
    return sq_quantization_refuse_other(quantization, other, quantization->format_key, quantization->format,
                                        other->format);
}

/* --- one layer ---------------------------------------------------------------------------------------------------- */

enum sq_status sq_gptq_settings_find(const struct sq_linear_place *place, struct sq_gptq_settings *settings_p)
{
    struct sq_gptq_settings settings;
    SQ_TRY(sq_linear_settings(place, "gptq", &settings.quantization, &settings.rule));
    settings.stated = stated_of(settings.quantization, settings.rule);
    settings.zeros_less_one = !strcmp(settings.quantization->format, "gptq");
    *settings_p = settings;
    return SQ_OK;
}

/* --- keys and tensors --------------------------------------------------------------------------------------------- */

static enum sq_status check_bits(const struct sq_gptq_layer *layer, int64_t bits, bool *is_so_p)
{
    *is_so_p = bits == layer->bits;
    return SQ_OK;
}

static enum sq_status check_count(const struct sq_gptq_layer *layer, int64_t group_size, bool *is_so_p)
{
    *is_so_p = layer->n_groups == sq_group_count(layer->in_features, group_size);
    return SQ_OK;
}

static int32_t group_of(const struct sq_gptq_layer *layer, int64_t column)
{
    int32_t group;
    memcpy(&group, (const char *)layer->g_idx->data + (size_t)column * sizeof group, sizeof group);
    return group;
}

/* counts: room for n_groups. A group that there is not is refused where it is read. */
static bool has_sizes(const struct sq_gptq_layer *layer, int64_t group_size, int64_t *counts)
{
    for (int64_t k = 0; k < layer->in_features; k++) {
        int32_t group = group_of(layer, k);
        if (group < 0 || group >= layer->n_groups) return true;
        counts[group]++;
    }
    for (int64_t g = 0; g < layer->n_groups; g++) {
        int64_t rest = layer->in_features - g * group_size;
        if (counts[g] != (rest < group_size ? rest : group_size)) return false;
    }
    return true;
}

/* Many sizes come to the same number of groups; g_idx tells them apart. Every group has group_size columns, in any
 * order, and the last one the rest. */
static enum sq_status check_sizes(const struct sq_gptq_layer *layer, int64_t group_size, bool *is_so_p)
{
    void *counts;
    *is_so_p = true;
    if (!layer->g_idx || layer->n_groups == 1) return SQ_OK;
    SQ_TRY(sq_alloc("columns of groups", layer->n_groups, sizeof(int64_t), &counts));
    *is_so_p = has_sizes(layer, group_size, counts);
    sq_free(counts);
    return SQ_OK;
}

static bool is_symmetric(const struct sq_gptq_layer *layer)
{
    uint8_t zeros[SQ_GPTQ_TILE];
    for (int64_t row = 0; row < layer->out_features; row += SQ_GPTQ_TILE) {
        int64_t rest = layer->out_features - row, rows = rest < SQ_GPTQ_TILE ? rest : SQ_GPTQ_TILE;
        sq_gptq_read_zeros(layer, 0, row, rows, zeros);
        for (int64_t r = 0; r < rows; r++)
            if (zeros[r] != 1 << (layer->bits - 1)) return false;
    }
    return true;
}

/* Symmetric zero points of the other format are not a matter of symmetry. */
static enum sq_status check_format(const struct sq_gptq_layer *layer)
{
    struct sq_gptq_layer other = *layer;
    const struct sq_quantization *said = layer->settings.quantization;
    other.settings.zeros_less_one = !layer->settings.zeros_less_one;
    if (!is_symmetric(&other)) return SQ_OK;
    sq_error("%s: %s: %s is %s, but the zero points of %s are those of %s", said->folder, said->file,
             said->format_key ? said->format_key : "checkpoint_format",
             said->format_key ? said->format : "missing, which stands for gptq", layer->prefix,
             other.settings.zeros_less_one ? "gptq" : "gptq_v2");
    return SQ_ERR_INPUT;
}

/* One that says that it is not symmetric may have such zero points, too. The first group speaks for all. */
static enum sq_status check_symmetry(const struct sq_gptq_layer *layer, int64_t symmetric, bool *is_so_p)
{
    *is_so_p = !symmetric || is_symmetric(layer);
    return *is_so_p ? SQ_OK : check_format(layer);
}

/* One whose groups may be in any order may have them in that of the columns, too. */
static enum sq_status check_order(const struct sq_gptq_layer *layer, int64_t activation_order, bool *is_so_p)
{
    *is_so_p = true;
    for (int64_t k = 1; k < layer->in_features && layer->g_idx && !activation_order && *is_so_p; k++)
        *is_so_p = group_of(layer, k) >= group_of(layer, k - 1);
    return SQ_OK;
}

static const struct {
    int key;
    enum sq_status (*check)(const struct sq_gptq_layer *layer, int64_t value, bool *is_so_p);
    const char *otherwise; /* what the layer has then, beside its bits and groups */
} checks[] = {{BITS, check_bits, ""},
              {GROUP_SIZE, check_count, ""},
              {GROUP_SIZE, check_sizes, ", and a g_idx that goes with another size"},
              {SYM, check_symmetry, ", and zero points that are not symmetric"},
              {DESC_ACT, check_order, ", and groups that are not in the order of columns"}};
#define N_CHECKS ((int)(sizeof checks / sizeof *checks))

static enum sq_status refuse(const struct sq_gptq_layer *layer, int check, int64_t value)
{
    const struct sq_gptq_settings *settings = &layer->settings;
    const struct sq_layer_facts facts = {layer->prefix, layer->bits, layer->n_groups, layer->in_features};
    bool is_of_rule = settings->rule && value_of(&settings->rule->stated, checks[check].key) != SQ_JSON_UNSTATED;
    return sq_quantization_refuse(settings->quantization, is_of_rule ? settings->rule : NULL, &keys[checks[check].key],
                                  value, &facts, checks[check].otherwise);
}

enum sq_status sq_gptq_settings_compare(const struct sq_gptq_layer *layer)
{
    for (int c = 0; c < N_CHECKS; c++) {
        bool is_so;
        int64_t value = value_of(&layer->settings.stated, checks[c].key);
        if (value == SQ_JSON_UNSTATED) continue;
        SQ_TRY(checks[c].check(layer, value, &is_so));
        if (!is_so) return refuse(layer, c, value);
    }
    return SQ_OK;
}
