/* quantization_config of GPTQ checkpoints, and whether the tensors are what it says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "io/gptq_private.h"
#include "tensor/grid.h"

enum sq_status sq_gptq_settings_read(const struct sq_linear_place *place, struct sq_gptq_settings *settings_p)
{
    const json_t *object;
    SQ_TRY(sq_linear_settings(place, "gptq", &object));
    const char *format = json_string_value(json_object_get(object, "checkpoint_format"));
    if (!format) format = json_string_value(json_object_get(object, "format"));
    if (!format) format = "gptq";
    if (strcmp(format, "gptq") && strcmp(format, "gptq_v2")) {
        sq_error("%s: config.json: checkpoint_format is %s; only gptq and gptq_v2 are read",
                 sq_checkpoint_folder(place->checkpoint), format);
        return SQ_ERR_INPUT;
    }
    settings_p->bits = json_integer_value(json_object_get(object, "bits"));
    settings_p->group_size = json_integer_value(json_object_get(object, "group_size"));
    settings_p->zeros_less_one = !strcmp(format, "gptq");
    return SQ_OK;
}

/* --- keys and tensors --------------------------------------------------------------------------------------------- */

static bool has_bits(const struct sq_gptq_layer *layer, const json_t *value)
{
    return json_is_integer(value) && json_integer_value(value) == layer->bits;
}

static bool has_groups(const struct sq_gptq_layer *layer, const json_t *value)
{
    return json_is_integer(value) && layer->n_groups == sq_group_count(layer->in_features, json_integer_value(value));
}

/* One that says that it is not symmetric may have such zero points, too. The first group speaks for all. */
static bool has_symmetry(const struct sq_gptq_layer *layer, const json_t *value)
{
    uint8_t zeros[SQ_GPTQ_TILE];
    for (int64_t row = 0; row < layer->out_features && json_is_true(value); row += SQ_GPTQ_TILE) {
        int64_t rest = layer->out_features - row, rows = rest < SQ_GPTQ_TILE ? rest : SQ_GPTQ_TILE;
        sq_gptq_read_zeros(layer, 0, row, rows, zeros);
        for (int64_t r = 0; r < rows; r++)
            if (zeros[r] != 1 << (layer->bits - 1)) return false;
    }
    return true;
}

/* One whose groups may be in any order may have them in that of the columns, too, of any sizes. */
static bool has_order(const struct sq_gptq_layer *layer, const json_t *value)
{
    if (json_is_true(value) || !layer->g_idx) return true;
    for (int64_t k = 1; k < layer->in_features; k++) {
        int32_t pair[2];
        memcpy(pair, (const char *)layer->g_idx->data + (size_t)(k - 1) * sizeof *pair, sizeof pair);
        if (pair[1] < pair[0]) return false;
    }
    return true;
}

static const struct {
    const char *name;
    bool (*is_so)(const struct sq_gptq_layer *layer, const json_t *value);
    const char *otherwise; /* what the layer has then, beside its bits and groups */
} keys[] = {{"bits", has_bits, ""},
            {"group_size", has_groups, ""},
            {"sym", has_symmetry, ", and zero points that are not symmetric"},
            {"desc_act", has_order, ", and groups that are not in the order of columns"}};
#define N_KEYS ((int)(sizeof keys / sizeof *keys))

/* Whether an entry of `dynamic` has a value of the key that the layer goes with. Its patterns are not matched. */
static bool is_exception(const json_t *settings, int k, const struct sq_gptq_layer *layer)
{
    const char *pattern;
    json_t *entry;
    json_object_foreach(json_object_get(settings, "dynamic"), pattern, entry)
    {
        const json_t *value = json_object_get(entry, keys[k].name);
        if (value && keys[k].is_so(layer, value)) return true;
    }
    return false;
}

static enum sq_status refuse_key(const struct sq_gptq_layer *layer, int k, const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY);
    sq_error("%s: config.json: %s is %.40s, but %s has %d bits, %lld group%s of its %lld inputs%s", layer->folder,
             keys[k].name, text ? text : "?", layer->prefix, layer->bits, (long long)layer->n_groups,
             layer->n_groups == 1 ? "" : "s", (long long)layer->in_features, keys[k].otherwise);
    free(text);
    return SQ_ERR_INPUT;
}

enum sq_status sq_gptq_settings_compare(const struct sq_linear_place *place, const struct sq_gptq_layer *layer)
{
    const json_t *settings;
    SQ_TRY(sq_linear_settings(place, "gptq", &settings));
    for (int k = 0; k < N_KEYS; k++) {
        const json_t *value = json_object_get(settings, keys[k].name);
        if (!value || json_is_null(value) || keys[k].is_so(layer, value)) continue;
        if (!is_exception(settings, k, layer)) return refuse_key(layer, k, value);
    }
    return SQ_OK;
}
