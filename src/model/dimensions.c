#include "model/dimensions.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

/* Text of a JSON value for messages. */
static void value_text(const json_t *value, char text[64])
{
    char *dump = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    snprintf(text, 64, "%s", dump ? dump : "?");
    free(dump);
}

/* The key's value, NULL where it is absent or null. */
static const json_t *value_of(const json_t *config, const char *key)
{
    const json_t *value = json_object_get(config, key);
    return json_is_null(value) ? NULL : value;
}

/* --- one key ------------------------------------------------------------------------------------------------------ */

#define LARGEST_INT 268435456.0 /* 2^28: sums of products of two stay inside int64_t before tensors are looked at */

static bool set_int(const json_t *value, double smallest, int64_t *field)
{
    double number = json_number_value(value);
    if (!json_is_integer(value) || number < smallest || number > LARGEST_INT) return false;
    *field = (int64_t)json_integer_value(value);
    return true;
}

#define ACTIVATIONS "silu, relu, gelu, gelu_new, gelu_fast or gelu_pytorch_tanh"

static bool set_activation(const json_t *value, enum sq_activation *field)
{
    static const struct {
        const char *name;
        enum sq_activation kind;
    } names[] = {{"silu", SQ_ACT_SILU},          {"swish", SQ_ACT_SILU},
                 {"relu", SQ_ACT_RELU},          {"gelu", SQ_ACT_GELU},
                 {"gelu_new", SQ_ACT_GELU_TANH}, {"gelu_pytorch_tanh", SQ_ACT_GELU_TANH},
                 {"gelu_fast", SQ_ACT_GELU_TANH}};
    const char *text = json_string_value(value);
    for (int i = 0; text && i < SQ_COUNT(names); i++) {
        if (strcmp(text, names[i].name) != 0) continue;
        *field = names[i].kind;
        return true;
    }
    return false;
}

static bool set_topk_method(const json_t *value, bool *field)
{
    const char *text = json_string_value(value);
    *field = text && !strcmp(text, "group_limited_greedy");
    return *field || (text && !strcmp(text, "greedy"));
}

static bool set_float(const json_t *value, enum sq_key_kind kind, double *field)
{
    double number = json_number_value(value);
    if (!(number > 0) || !isfinite(1 / number)) return false;
    *field = kind == SQ_KEY_INVERSE ? 1 / number : kind == SQ_KEY_INVERSE_ROOT ? 1 / sqrt(number) : number;
    return true;
}

static bool set_field(const struct sq_config_key *key, const json_t *value, struct sq_dimensions *dims)
{
    void *field = (char *)dims + key->offset;
    switch (key->kind) {
    case SQ_KEY_INT:
        return set_int(value, key->required ? 1 : 0, field);
    case SQ_KEY_INT_OR_NULL:
        *(int64_t *)field = 0;
        return json_is_null(value) || set_int(value, 0, field);
    case SQ_KEY_FLOAT_OR_NULL:
        *(double *)field = 0;
        return json_is_null(value) || set_float(value, key->kind, field);
    case SQ_KEY_FLOAT:
    case SQ_KEY_INVERSE:
    case SQ_KEY_INVERSE_ROOT:
        return set_float(value, key->kind, field);
    case SQ_KEY_BOOL:
        *(bool *)field = json_is_true(value);
        return json_is_boolean(value);
    case SQ_KEY_TOPK_METHOD:
        return set_topk_method(value, field);
    case SQ_KEY_ACTIVATION:
        return set_activation(value, field);
    }
    return false;
}

static const char *wanted_value(enum sq_key_kind kind)
{
    static const char *const wanted[] = {[SQ_KEY_INT] = "a whole number in range (up to 268435456)",
                                         [SQ_KEY_INT_OR_NULL] = "a whole number in range (up to 268435456), or null",
                                         [SQ_KEY_FLOAT] = "a number above zero",
                                         [SQ_KEY_FLOAT_OR_NULL] = "a number above zero, or null",
                                         [SQ_KEY_INVERSE] = "a number above zero",
                                         [SQ_KEY_INVERSE_ROOT] = "a number above zero",
                                         [SQ_KEY_BOOL] = "true or false",
                                         [SQ_KEY_TOPK_METHOD] = "greedy or group_limited_greedy",
                                         [SQ_KEY_ACTIVATION] = ACTIVATIONS};
    return wanted[kind];
}

/* The name under which the configuration has the key, NULL where it does not. */
static const char *find_name(const struct sq_config_key *key, const json_t *config)
{
    bool counts_null = key->kind == SQ_KEY_INT_OR_NULL || key->kind == SQ_KEY_FLOAT_OR_NULL;
    const char *const names[2] = {key->name, key->alias};
    for (int i = 0; i < 2 && names[i]; i++)
        if (value_of(config, names[i]) || (counts_null && json_object_get(config, names[i]))) return names[i];
    return NULL;
}

static enum sq_status read_key(const struct sq_config_key *key, const json_t *config, const char *folder,
                               struct sq_dimensions *dims)
{
    const char *name = find_name(key, config);
    if (!name && !key->required) {
        json_t *fallback = json_loads(key->fallback, JSON_DECODE_ANY, NULL);
        bool is_set = set_field(key, fallback, dims);
        json_decref(fallback);
        if (is_set) return SQ_OK;
        sq_error("no memory for key '%s' of %s/config.json", key->name, folder);
        return SQ_ERR_MEMORY;
    }
    if (!name) {
        sq_error("%s/config.json: key '%s' is missing", folder, key->name);
        return SQ_ERR_INPUT;
    }
    const json_t *value = json_object_get(config, name);
    if (set_field(key, value, dims)) return SQ_OK;
    char text[64];
    value_text(value, text);
    sq_error("%s/config.json: key '%s' is %s; it must be %s", folder, name, text, wanted_value(key->kind));
    return SQ_ERR_INPUT;
}

/* 7 and 7.0 */
static bool is_same_number(const json_t *value, const char *only)
{
    char *end;
    double number = strtod(only, &end);
    return json_is_number(value) && *end == '\0' && json_number_value(value) == number;
}

static enum sq_status check_fixed(const struct sq_config_fixed *fixed, const json_t *config, const char *folder)
{
    const json_t *value = value_of(config, fixed->name);
    if (!value) return SQ_OK;
    char text[64];
    value_text(value, text);
    if (fixed->only && (!strcmp(text, fixed->only) || is_same_number(value, fixed->only))) return SQ_OK;
    sq_error("%s/config.json: key '%s' is %s; supported is %s", folder, fixed->name, text,
             fixed->only ? fixed->only : "only its absence");
    return SQ_ERR_INPUT;
}

/* --- all of them -------------------------------------------------------------------------------------------------- */

/* What is wrong with the value of the field at that offset, under the name that the configuration has for it. */
static enum sq_status bad_value(const struct sq_config_table *table, const json_t *config, const char *folder,
                                size_t offset, int64_t value, const char *wanted)
{
    const char *name = "?";
    for (int i = 0; i < table->n_keys; i++) {
        if (table->keys[i].offset != offset) continue;
        name = find_name(&table->keys[i], config);
        if (!name) name = table->keys[i].name;
    }
    sq_error("%s/config.json: key '%s' is %lld; %s", folder, name, (long long)value, wanted);
    return SQ_ERR_INPUT;
}

/* A token must find its experts in its groups. */
static enum sq_status check_experts(const struct sq_config_table *table, const json_t *config, const char *folder,
                                    const struct sq_dimensions *dims)
{
    int64_t open = dims->n_experts;
    if (dims->n_experts == 0) return SQ_OK;
    if (dims->n_expert_groups > 1) {
        if (dims->n_expert_groups > SQ_ROUTING_GROUPS || dims->n_experts % dims->n_expert_groups)
            return bad_value(table, config, folder, offsetof(struct sq_dimensions, n_expert_groups),
                             dims->n_expert_groups, "it must divide the number of experts and be at most 64");
        if (dims->n_chosen_groups < 1 || dims->n_chosen_groups > dims->n_expert_groups)
            return bad_value(table, config, folder, offsetof(struct sq_dimensions, n_chosen_groups),
                             dims->n_chosen_groups, "it must be from 1 to the number of groups");
        open = dims->n_experts / dims->n_expert_groups * dims->n_chosen_groups;
    }
    if (dims->n_chosen < 1 || dims->n_chosen > open)
        return bad_value(table, config, folder, offsetof(struct sq_dimensions, n_chosen), dims->n_chosen,
                         "it must be from 1 to the number of experts to choose from");
    if (dims->expert_ffn < 1)
        return bad_value(table, config, folder, offsetof(struct sq_dimensions, expert_ffn), dims->expert_ffn,
                         "it must be at least 1");
    return SQ_OK;
}

/* Values that follow from others, then what must hold between them. */
static enum sq_status resolve(const struct sq_config_table *table, const json_t *config, const char *folder,
                              struct sq_dimensions *dims)
{
    if (dims->head_dim == 0) {
        dims->head_dim = dims->hidden / dims->n_heads;
        if (dims->hidden % dims->n_heads)
            return bad_value(table, config, folder, offsetof(struct sq_dimensions, n_heads), dims->n_heads,
                             "it does not divide the hidden size");
    }
    if (dims->value_dim == 0) dims->value_dim = dims->head_dim;
    if (dims->ffn == 0) dims->ffn = 4 * dims->hidden;
    if (dims->n_kv_heads == 0) dims->n_kv_heads = dims->n_heads;
    if (dims->n_heads % dims->n_kv_heads)
        return bad_value(table, config, folder, offsetof(struct sq_dimensions, n_kv_heads), dims->n_kv_heads,
                         "it does not divide the number of heads");
    if (dims->embedding_dim && dims->embedding_dim != dims->hidden)
        return bad_value(table, config, folder, offsetof(struct sq_dimensions, embedding_dim), dims->embedding_dim,
                         "supported is only hidden_size");
    SQ_TRY(check_experts(table, config, folder, dims));
    if (dims->attention_scale == 0) dims->attention_scale = (double)(1.0f / sqrtf((float)dims->head_dim));
    return SQ_OK;
}

enum sq_status sq_dimensions_read(const struct sq_config_table *table, const json_t *config, const char *folder,
                                  struct sq_dimensions *dims_p)
{
    struct sq_dimensions dims = {
        .bias[SQ_BIAS_ALWAYS] = true, .embedding_scale = 1, .residual_scale = 1, .logit_scale = 1, .route_scale = 1};
    for (int i = 0; i < table->n_keys; i++)
        SQ_TRY(read_key(&table->keys[i], config, folder, &dims));
    for (int i = 0; i < table->n_fixed; i++)
        SQ_TRY(check_fixed(&table->fixed[i], config, folder));
    if (table->complete) table->complete(&dims);
    SQ_TRY(resolve(table, config, folder, &dims));
    *dims_p = dims;
    return SQ_OK;
}

static bool has_window(const struct sq_dimensions *dims, int64_t block)
{
    bool is_excepted = dims->window_pattern > 0 && (block + 1) % dims->window_pattern == 0;
    return dims->use_window && block >= dims->first_window && !is_excepted;
}

static enum sq_status windows_of_types(const json_t *types, const char *folder, const struct sq_dimensions *dims,
                                       int64_t *windows)
{
    if ((int64_t)json_array_size(types) != dims->n_blocks) {
        sq_error("%s/config.json: key 'layer_types' must list num_hidden_layers = %lld names", folder,
                 (long long)dims->n_blocks);
        return SQ_ERR_INPUT;
    }
    for (int64_t b = 0; b < dims->n_blocks; b++) {
        const char *type = json_string_value(json_array_get(types, (size_t)b));
        if (type && !strcmp(type, "sliding_attention")) {
            windows[b] = dims->use_window ? dims->window : 0;
        } else if (type && !strcmp(type, "full_attention")) {
            windows[b] = 0;
        } else {
            sq_error("%s/config.json: key 'layer_types': '%.64s' is not supported; supported are full_attention and "
                     "sliding_attention",
                     folder, type ? type : "?");
            return SQ_ERR_INPUT;
        }
    }
    return SQ_OK;
}

enum sq_status sq_windows_read(const struct sq_config_table *table, const json_t *config, const char *folder,
                               const struct sq_dimensions *dims, int64_t *windows)
{
    const json_t *types = table->has_layer_types ? value_of(config, "layer_types") : NULL;
    if (types) return windows_of_types(types, folder, dims, windows);
    for (int64_t b = 0; b < dims->n_blocks; b++)
        windows[b] = has_window(dims, b) ? dims->window : 0;
    return SQ_OK;
}

enum sq_status sq_sparse_blocks_read(const struct sq_config_table *table, const json_t *config, const char *folder,
                                     const struct sq_dimensions *dims, bool *sparse)
{
    const json_t *list = table->has_dense_list ? value_of(config, "mlp_only_layers") : NULL;
    for (int64_t b = 0; b < dims->n_blocks; b++)
        sparse[b] = dims->n_experts > 0 && b >= dims->first_sparse &&
                    (dims->sparse_step < 1 || (b + 1) % dims->sparse_step == 0);
    for (size_t i = 0; list && (!json_is_array(list) || i < json_array_size(list)); i++) {
        const json_t *item = json_array_get(list, i);
        int64_t block = json_is_integer(item) ? (int64_t)json_integer_value(item) : -1;
        if (block < 0 || block >= dims->n_blocks) {
            sq_error("%s/config.json: key 'mlp_only_layers' must be a list of blocks from 0 to %lld", folder,
                     (long long)dims->n_blocks - 1);
            return SQ_ERR_INPUT;
        }
        sparse[block] = false;
    }
    return SQ_OK;
}
