/* quantization_config of the format compressed-tensors, with the keys of that library's QuantizationConfig. One group
 * of settings for each that is used; with a single one its target is the class name that all readers know, with several
 * each names its layers, because readers differ in whether a class or a name comes first. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "io/describe.h"

/* --- names -------------------------------------------------------------------------------------------------------- */

/* As the library writes sets of modules: "re:" before a pattern, else the whole name. */
static enum sq_status append_name(void *context, const char *text, bool is_pattern)
{
    char *name = NULL;
    SQ_TRY(sq_string_format(&name, is_pattern ? "re:^%s$" : "%s", text));
    int failed = json_array_append_new(context, json_string(name));
    sq_free(name);
    if (!failed) return SQ_OK;
    sq_error("cannot make quantization_config: out of memory");
    return SQ_ERR_MEMORY;
}

static bool has_name(const json_t *names, const char *wanted)
{
    size_t i;
    json_t *name;
    json_array_foreach((json_t *)names, i, name)
    {
        if (!strcmp(json_string_value(name), wanted)) return true;
    }
    return false;
}

/* An lm_head that shares the embedding's tensor is in no file, but is a module of the model. */
static enum sq_status fill_ignore(const struct sq_modules *modules, json_t *ignore)
{
    SQ_TRY(sq_modules_each(modules, SQ_MODULE_KEPT, append_name, ignore));
    SQ_TRY(sq_modules_each(modules, SQ_MODULE_OUTSIDE, append_name, ignore));
    if (sq_modules_find_head(modules) || has_name(ignore, "lm_head")) return SQ_OK;
    return append_name(ignore, "lm_head", false);
}

/* vLLM's output layer is no Linear: it is found by name only. */
static enum sq_status fill_targets(const struct sq_modules *modules, int set, json_t *targets)
{
    if (modules->n_settings > 1) return sq_modules_each(modules, set, append_name, targets);
    const char *head = sq_modules_find_head(modules);
    SQ_TRY(append_name(targets, "Linear", false));
    return head ? append_name(targets, head, false) : SQ_OK;
}

/* --- groups of settings ------------------------------------------------------------------------------------------- */

/* targets is taken over. */
static json_t *make_group(const struct sq_description *description, struct sq_setting setting, json_t *targets)
{
    bool is_channel = setting.group_size < 0;
    bool is_symmetric = sq_describe_is_symmetric(description->store);
    json_t *group_size = is_channel ? json_null() : json_integer(setting.group_size);
    json_t *order = description->options->activation_order ? json_string("weight") : json_null();
    json_t *weights = json_pack("{s:i, s:s, s:b, s:s, s:o, s:o, s:b}", "num_bits", setting.bits, "type", "int",
                                "symmetric", (int)is_symmetric, "strategy", is_channel ? "channel" : "group",
                                "group_size", group_size, "actorder", order, "dynamic", 0);
    return json_pack("{s:o, s:o, s:n, s:n, s:s}", "targets", targets, "weights", weights, "input_activations",
                     "output_activations", "format", "pack-quantized");
}

static enum sq_status fill_groups(const struct sq_description *description, const struct sq_modules *modules,
                                  json_t *groups)
{
    for (int s = 0; s < modules->n_settings; s++) {
        char name[32];
        json_t *targets = json_array();
        enum sq_status status = fill_targets(modules, s, targets);
        if (status != SQ_OK) {
            json_decref(targets);
            return status;
        }
        snprintf(name, sizeof name, "group_%d", s);
        SQ_TRY(sq_describe_set(groups, name, make_group(description, modules->settings[s], targets)));
    }
    return SQ_OK;
}

/* --- what the user should know ------------------------------------------------------------------------------------ */

/* Readers of this format turn scales into the model's type. */
static void show_rounded_scales(const struct sq_description *description, const json_t *config)
{
    int n_layers;
    const struct sq_store_layer *layers = sq_store_layers(description->store, &n_layers);
    const json_t *dtype = json_object_get(config, "dtype");
    if (!dtype) dtype = json_object_get(config, "torch_dtype");
    if (layers[0].grid.scale_dtype == SQ_F16 && json_is_string(dtype) && !strcmp(json_string_value(dtype), "bfloat16"))
        sq_info("the scales are F16 and the model bfloat16, to which readers round them; --scale-dtype bf16 avoids it");
}

/* --- the whole ---------------------------------------------------------------------------------------------------- */

/* Shows what vLLM will refuse; it finds the settings of joined layers by their parts. */
static enum sq_status check_joined(const struct sq_modules *modules)
{
    struct sq_modules joined;
    SQ_TRY(sq_modules_join(modules, &joined));
    sq_modules_release(&joined);
    return SQ_OK;
}

static enum sq_status describe(const struct sq_description *description, const struct sq_modules *modules,
                               json_t *config)
{
    json_t *groups = json_object(), *ignore = json_array();
    enum sq_status status = check_joined(modules);
    if (status == SQ_OK) status = fill_groups(description, modules, groups);
    if (status == SQ_OK) status = fill_ignore(modules, ignore);
    if (status != SQ_OK) {
        json_decref(groups);
        json_decref(ignore);
        return status;
    }
    json_t *object =
        json_pack("{s:s, s:s, s:s, s:o, s:o, s:n, s:n, s:{}, s:{}}", "quant_method", "compressed-tensors", "format",
                  "pack-quantized", "quantization_status", "compressed", "config_groups", groups, "ignore", ignore,
                  "kv_cache_scheme", "global_compression_ratio", "sparsity_config", "transform_config");
    SQ_TRY(sq_describe_set(config, "quantization_config", object));
    show_rounded_scales(description, config);
    return sq_describe_set(config, "shardq", sq_describe_origin(description));
}

enum sq_status sq_describe_packed(const struct sq_description *description, json_t *config)
{
    int n_layers;
    struct sq_modules modules;
    const struct sq_store_layer *layers = sq_store_layers(description->store, &n_layers);
    SQ_TRY(sq_modules_list(layers, n_layers, description->plan, &modules));
    enum sq_status status = describe(description, &modules, config);
    sq_modules_release(&modules);
    return status;
}
