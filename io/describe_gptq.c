/* quantization_config of the formats gptq and gptq_v2. Exceptions are told twice: GPTQModel and vLLM read `dynamic` (a
 * regular expression for module names, behind "-:" for layers left as they are, "+:" for other settings; vLLM by the
 * names of the layers that it joins), transformers reads modules_in_block_to_quantize (endings of the names of all
 * layers that are quantized; vLLM reads it, too). */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/describe.h"

/* --- dynamic ------------------------------------------------------------------------------------------------------ */

/* One set of layers on its way into `dynamic`. */
struct exception {
    json_t *dynamic;
    char sign;
    const struct sq_setting *setting; /* NULL behind '-' */
};

static enum sq_status add_exception(void *context, const char *text, bool is_pattern)
{
    const struct exception *exception = context;
    const struct sq_setting *setting = exception->setting;
    char *body = NULL, *key = NULL;
    enum sq_status status = is_pattern ? sq_string_copy(text, &body) : sq_module_pattern(text, false, &body);
    if (status == SQ_OK) status = sq_string_format(&key, "%c:^%s$", exception->sign, body);
    if (status == SQ_OK) {
        json_t *value =
            setting ? json_pack("{s:i, s:I}", "bits", setting->bits, "group_size", (json_int_t)setting->group_size)
                    : json_object();
        status = sq_describe_set(exception->dynamic, key, value);
    }
    sq_free(key);
    sq_free(body);
    return status;
}

static enum sq_status add_exceptions(json_t *dynamic, const struct sq_modules *modules,
                                     const struct sq_setting *settings, int n_settings)
{
    struct exception kept = {.dynamic = dynamic, .sign = '-'};
    SQ_TRY(sq_modules_each(modules, SQ_MODULE_KEPT, add_exception, &kept));
    for (int s = 1; s < n_settings; s++) {
        struct exception other = {.dynamic = dynamic, .sign = '+', .setting = &settings[s]};
        SQ_TRY(sq_modules_each(modules, s, add_exception, &other));
    }
    return SQ_OK;
}

static enum sq_status fill_dynamic(json_t *dynamic, const struct sq_modules *modules)
{
    struct sq_modules joined;
    SQ_TRY(sq_modules_join(modules, &joined));
    enum sq_status status = add_exceptions(dynamic, modules, modules->settings, modules->n_settings);
    if (status == SQ_OK) status = add_exceptions(dynamic, &joined, modules->settings, modules->n_settings);
    sq_modules_release(&joined);
    return status;
}

/* dynamic_p: null where there are no exceptions. */
static enum sq_status make_dynamic(const struct sq_modules *modules, json_t **dynamic_p)
{
    json_t *dynamic = json_object();
    enum sq_status status = fill_dynamic(dynamic, modules);
    if (status != SQ_OK || json_object_size(dynamic) == 0) {
        json_decref(dynamic);
        dynamic = json_null();
    }
    *dynamic_p = dynamic;
    if (modules->n_settings > 1)
        sq_info("transformers reads one setting for all layers: the checkpoint is for GPTQModel and vLLM");
    return status;
}

/* --- modules_in_block_to_quantize --------------------------------------------------------------------------------- */

static const char *ending_of(const struct sq_module *module)
{
    const char *rest;
    return sq_module_is_in_block(module->name, &rest) ? rest : module->name;
}

/* Left as it is, in a block of the model: one behind the last, which predicts one token more, would have all layers of
 * all blocks named one by one, and readers of this list do not look for it there. */
static bool is_kept(const struct sq_module *module, int64_t n_blocks)
{
    const char *rest, *number;
    if (module->set != SQ_MODULE_KEPT || !sq_module_is_in_block(module->name, &rest)) return false;
    for (number = rest - 1; number > module->name && number[-1] != '.'; number--)
        ;
    return strtoll(number, NULL, 10) < n_blocks;
}

/* Whether a name with this ending is one of a layer that is left as it is. */
static bool is_kept_ending(const struct sq_modules *modules, int64_t n_blocks, const char *ending)
{
    for (int64_t i = 0; i < modules->n_items; i++)
        if (is_kept(&modules->items[i], n_blocks) && sq_text_ends_in(modules->items[i].name, ending)) return true;
    return false;
}

/* Endings ("mlp.up_proj") that say all of a block's layers of a kind, and whole names where only some are quantized. */
static enum sq_status fill_quantized(const struct sq_modules *modules, int64_t n_blocks, json_t *seen)
{
    for (int64_t i = 0; i < modules->n_items; i++) {
        const char *ending = ending_of(&modules->items[i]);
        if (modules->items[i].set < 0 || json_object_get(seen, ending)) continue;
        const char *name = is_kept_ending(modules, n_blocks, ending) ? modules->items[i].name : ending;
        SQ_TRY(sq_describe_set(seen, name, json_true()));
    }
    return SQ_OK;
}

/* [["self_attn.q_proj", ...]] */
static json_t *list_keys(json_t *object)
{
    const char *key;
    json_t *value, *list = json_array(), *outer = json_array();
    int failed = 0;
    json_object_foreach(object, key, value)
    {
        (void)value;
        failed |= json_array_append_new(list, json_string(key));
    }
    failed |= json_array_append_new(outer, list);
    if (!failed) return outer;
    json_decref(outer);
    return NULL;
}

static bool has_kept(const struct sq_modules *modules, int64_t n_blocks)
{
    return is_kept_ending(modules, n_blocks, "");
}

static int64_t count_blocks(const json_t *config)
{
    const json_t *count = json_object_get(config, "num_hidden_layers");
    return json_is_integer(count) ? json_integer_value(count) : INT64_MAX;
}

/* Layers of vLLM 0.32 that it does not connect with those in the file: it joins them without saying so in its
 * packed_modules_mapping, or (Glm4) says so of those that the file has joined. Without these names it takes them for
 * layers that are not quantized; `dynamic` still excepts those that are not. */
static const struct {
    const char *architecture, *names[2];
} unconnected[] = {
    {"GPTJForCausalLM", {"attn.qkv_proj"}},
    {"StableLmForCausalLM", {"self_attn.qkv_proj", "mlp.gate_up_proj"}},
    {"Glm4ForCausalLM", {"mlp.gate_proj", "mlp.up_proj"}},
    {"Qwen3MoeForCausalLM", {"mlp.gate_up_proj"}}, /* of blocks without experts */
};

/* Two names, of which the second or both may be NULL. */
static const char *const *find_unconnected(const json_t *config)
{
    static const char *const none[2];
    const char *name = json_string_value(json_array_get(json_object_get(config, "architectures"), 0));
    for (size_t i = 0; name && i < sizeof unconnected / sizeof *unconnected; i++)
        if (!strcmp(name, unconnected[i].architecture)) return unconnected[i].names;
    return none;
}

static enum sq_status fill_names(const struct sq_modules *modules, int64_t n_blocks, const char *const *names,
                                 json_t *seen)
{
    SQ_TRY(fill_quantized(modules, n_blocks, seen));
    for (int i = 0; i < 2 && names[i]; i++)
        SQ_TRY(sq_describe_set(seen, names[i], json_true()));
    return SQ_OK;
}

/* Where every layer of the blocks is quantized readers find that out themselves. */
static enum sq_status add_quantized(const struct sq_modules *modules, const json_t *config, json_t *object)
{
    const char *const *names = find_unconnected(config);
    int64_t n_blocks = count_blocks(config);
    if (!has_kept(modules, n_blocks) && !names[0]) return SQ_OK;
    json_t *seen = json_object();
    enum sq_status status = fill_names(modules, n_blocks, names, seen);
    if (status == SQ_OK) status = sq_describe_set(object, "modules_in_block_to_quantize", list_keys(seen));
    json_decref(seen);
    return status;
}

/* --- the whole ---------------------------------------------------------------------------------------------------- */

static enum sq_status describe(const struct sq_description *description, const struct sq_modules *modules,
                               json_t *config)
{
    json_t *dynamic;
    const struct sq_setting *common = &modules->settings[0];
    SQ_TRY(make_dynamic(modules, &dynamic));
    json_t *object = json_pack(
        "{s:i, s:I, s:b, s:b, s:b, s:s, s:s, s:s, s:o, s:o}", "bits", common->bits, "group_size",
        (json_int_t)common->group_size, "desc_act", 0, "sym", (int)sq_describe_is_symmetric(description->store),
        "lm_head", sq_modules_find_head(modules) != NULL, "quant_method", "gptq", description->format->mark,
        description->format->name, "pack_dtype", "int32", "dynamic", dynamic, "meta", sq_describe_origin(description));
    SQ_TRY(sq_describe_set(config, "quantization_config", object));
    return add_quantized(modules, config, object);
}

enum sq_status sq_describe_gptq(const struct sq_description *description, json_t *config)
{
    int n_layers;
    struct sq_modules modules;
    const struct sq_store_layer *layers = sq_store_layers(description->store, &n_layers);
    SQ_TRY(sq_modules_list(layers, n_layers, description->plan, &modules));
    enum sq_status status = describe(description, &modules, config);
    sq_modules_release(&modules);
    return status;
}
