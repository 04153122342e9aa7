/* quantization_config as GPTQModel, AutoGPTQ and vLLM read it. */
#include <ctype.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/describe.h"

#define PER_CHANNEL ((int64_t)-1)

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
    if (output->layer >= 0 || output->entry.n_dims != 2 || length <= ending) return false;
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
                                     struct sq_setting common, const struct sq_assemble_plan *plan)
{
    for (int64_t i = 0; i < plan->n_outputs; i++)
        if (is_block_linear(&plan->outputs[i])) SQ_TRY(add_skipped(dynamic, &plan->outputs[i]));
    for (int l = 0; l < n_layers; l++) {
        const struct sq_grid *grid = &layers[l].grid;
        if (sq_setting_fits(&layers[l], common)) continue;
        int64_t group_size = grid->group_size >= layers[l].in_features ? PER_CHANNEL : grid->group_size;
        json_t *value = json_pack("{s:i, s:I}", "bits", grid->bits, "group_size", (json_int_t)group_size);
        SQ_TRY(add_exception(dynamic, '+', layers[l].name, value));
    }
    return SQ_OK;
}

/* --- the whole ---------------------------------------------------------------------------------------------------- */

static bool has_lm_head(const struct sq_store_layer *layers, int n_layers)
{
    for (int l = 0; l < n_layers; l++)
        if (sq_layer_is_lm_head(&layers[l])) return true;
    return false;
}

static bool all_symmetric(const struct sq_store_layer *layers, int n_layers)
{
    for (int l = 0; l < n_layers; l++)
        if (!layers[l].grid.symmetric) return false;
    return true;
}

/* dynamic_p: the exceptions, null where there are none. */
static enum sq_status make_dynamic(const struct sq_description *description, struct sq_setting common,
                                   json_t **dynamic_p)
{
    int n_layers;
    const struct sq_store_layer *layers = sq_store_layers(description->store, &n_layers);
    json_t *dynamic = json_object();
    enum sq_status status = add_exceptions(dynamic, layers, n_layers, common, description->plan);
    if (status != SQ_OK || json_object_size(dynamic) == 0) {
        json_decref(dynamic);
        dynamic = json_null();
    }
    *dynamic_p = dynamic;
    return status;
}

enum sq_status sq_describe_gptq(const struct sq_description *description, json_t *config)
{
    int n_layers;
    json_t *dynamic;
    const struct sq_store_layer *layers = sq_store_layers(description->store, &n_layers);
    struct sq_setting common = sq_setting_find_common(layers, n_layers);
    SQ_TRY(make_dynamic(description, common, &dynamic));
    json_t *object = json_pack("{s:i, s:I, s:b, s:b, s:b, s:s, s:s, s:s, s:o, s:o}", "bits", common.bits, "group_size",
                               (json_int_t)common.group_size, "desc_act", 0, "sym",
                               (int)all_symmetric(layers, n_layers), "lm_head", (int)has_lm_head(layers, n_layers),
                               "quant_method", "gptq", description->format->mark, description->format->name,
                               "pack_dtype", "int32", "dynamic", dynamic, "meta", sq_describe_origin(description));
    if (json_object_set_new(config, "quantization_config", object) == 0) return SQ_OK;
    sq_error("cannot make quantization_config: out of memory");
    return SQ_ERR_MEMORY;
}
