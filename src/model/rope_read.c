/* A rotary embedding out of config.json. */
#define _GNU_SOURCE /* M_PI */
#include "model/rope.h"

#include <math.h>
#include <string.h>

#include "base/log.h"

static const json_t *value_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

/* A number above zero; fallback where the key is absent, and it is required where fallback is 0. */
static enum sq_status read_number(const json_t *object, const char *folder, const char *key, double fallback,
                                  double *value_p)
{
    const json_t *value = value_of(object, key);
    double number = value ? json_number_value(value) : fallback;
    if (!(number > 0) || !isfinite(number)) {
        sq_error("%s/config.json: key '%s' of the rotary embedding must be a number above zero", folder, key);
        return SQ_ERR_INPUT;
    }
    *value_p = number;
    return SQ_OK;
}

/* --- where the parameters are ------------------------------------------------------------------------------------- */

/* One set of parameters for all layers: objects inside are sets by layer type. */
static enum sq_status check_flat(const json_t *parameters, const char *folder, const char *key)
{
    const char *name;
    json_t *value;
    if (parameters && !json_is_object(parameters)) {
        sq_error("%s/config.json: key '%s' must be an object", folder, key);
        return SQ_ERR_INPUT;
    }
    json_object_foreach((json_t *)(uintptr_t)parameters, name, value)
    {
        if (!json_is_object(value)) continue;
        sq_error("%s/config.json: key '%s': parameters by layer type ('%.64s') are not supported", folder, key, name);
        return SQ_ERR_INPUT;
    }
    return SQ_OK;
}

/* *parameters_p may be NULL: then everything is beside it. */
static enum sq_status find_parameters(const struct sq_rope_form *form, bool windowed, const json_t *config,
                                      const char *folder, const json_t **parameters_p, const char **key_p)
{
    *key_p = "rope_scaling"; /* the older of the two; where both are there it is the one that counts */
    *parameters_p = value_of(config, *key_p);
    bool is_empty = !*parameters_p || json_object_size(*parameters_p) == 0;
    if (form->use == SQ_ROPE_BY_WINDOW && windowed && !is_empty) {
        *parameters_p = NULL; /* it was about the other blocks */
        return SQ_OK;
    }
    if (is_empty) {
        *key_p = "rope_parameters";
        *parameters_p = value_of(config, *key_p);
        if (form->use == SQ_ROPE_BY_WINDOW)
            *parameters_p = value_of(*parameters_p, windowed ? "sliding_attention" : "full_attention");
    }
    return check_flat(*parameters_p, folder, *key_p);
}

/* --- values ------------------------------------------------------------------------------------------------------- */

static enum sq_status read_kind(const json_t *parameters, const char *folder, const char *key,
                                enum sq_rope_kind *kind_p)
{
    static const struct {
        const char *name;
        enum sq_rope_kind kind;
    } names[] = {{"default", SQ_ROPE_PLAIN}, {"dynamic", SQ_ROPE_DYNAMIC}, {"linear", SQ_ROPE_LINEAR},
                 {"llama3", SQ_ROPE_LLAMA3}, {"longrope", SQ_ROPE_LONG},   {"su", SQ_ROPE_LONG}, /* an older name */
                 {"yarn", SQ_ROPE_YARN}};
    const json_t *value = value_of(parameters, "rope_type");
    if (!value) value = value_of(parameters, "type");
    const char *name = value ? json_string_value(value) : "default";
    for (int i = 0; name && i < SQ_COUNT(names); i++) {
        if (strcmp(name, names[i].name) != 0) continue;
        *kind_p = names[i].kind;
        return SQ_OK;
    }
    sq_error("%s/config.json: key '%s': rope_type '%.64s' is not supported; supported are default, dynamic, linear, "
             "llama3, longrope, yarn",
             folder, key, name ? name : "?");
    return SQ_ERR_INPUT;
}

static enum sq_status read_theta(const struct sq_rope_form *form, bool windowed, const json_t *config,
                                 const json_t *parameters, const char *folder, double *theta_p)
{
    bool is_own = form->use == SQ_ROPE_BY_WINDOW && windowed;
    const char *key = is_own ? form->window_theta_key : form->theta_key ? form->theta_key : "rope_theta";
    double theta = form->theta > 0 && !is_own ? form->theta : 10000.0;
    SQ_TRY(read_number(config, folder, key, theta, &theta));
    return read_number(parameters, folder, "rope_theta", theta, theta_p);
}

static enum sq_status check_whole_head(const json_t *object, const char *folder)
{
    const json_t *part = value_of(object, "partial_rotary_factor");
    if (!part || json_number_value(part) == 1.0) return SQ_OK;
    sq_error("%s/config.json: key 'partial_rotary_factor' is %g; supported is only 1", folder, json_number_value(part));
    return SQ_ERR_INPUT;
}

/* Entries of a head that turn. */
static enum sq_status read_part(const struct sq_rope_form *form, const json_t *config, const json_t *parameters,
                                const char *folder, const struct sq_dimensions *dims, int64_t *entries_p)
{
    const char *key = form->part_key ? form->part_key : "partial_rotary_factor";
    double part = form->part;
    *entries_p = dims->rotary_dim > 0 ? dims->rotary_dim : dims->head_dim;
    if (part == 0) {
        SQ_TRY(check_whole_head(config, folder));
        return check_whole_head(parameters, folder);
    }
    SQ_TRY(read_number(config, folder, key, part, &part));
    SQ_TRY(read_number(parameters, folder, "partial_rotary_factor", part, &part));
    if (part > 1) {
        sq_error("%s/config.json: key '%s' is %g; it must be at most 1", folder, key, part);
        return SQ_ERR_INPUT;
    }
    *entries_p = (int64_t)((double)dims->head_dim * part);
    return SQ_OK;
}

static enum sq_status read_pairs(const struct sq_rope_form *form, const json_t *config, const json_t *parameters,
                                 const char *folder, const struct sq_dimensions *dims, int64_t *pairs_p)
{
    int64_t entries;
    SQ_TRY(read_part(form, config, parameters, folder, dims, &entries));
    *pairs_p = entries / 2;
    if (entries >= 2 && entries % 2 == 0 && entries <= dims->head_dim) return SQ_OK;
    if (entries == dims->head_dim)
        sq_error("%s/config.json: key 'head_dim' is %lld; the rotary embedding needs an even one", folder,
                 (long long)dims->head_dim);
    else
        sq_error("%s/config.json: %lld of the %lld entries of a head turn; the rotary embedding needs an even number "
                 "up to that",
                 folder, (long long)entries, (long long)dims->head_dim);
    return SQ_ERR_INPUT;
}

/* Beside the parameters it counts more than among them. */
static enum sq_status read_original_length(const json_t *config, const json_t *parameters, const char *folder,
                                           const struct sq_dimensions *dims, struct sq_rope *rope)
{
    const char *key = "original_max_position_embeddings";
    SQ_TRY(read_number(parameters, folder, key, (double)dims->max_length, &rope->original_length));
    return read_number(config, folder, key, rope->original_length, &rope->original_length);
}

static enum sq_status read_llama3(const json_t *config, const json_t *parameters, const char *folder,
                                  const struct sq_dimensions *dims, struct sq_rope *rope)
{
    SQ_TRY(read_number(parameters, folder, "low_freq_factor", 0, &rope->low_factor));
    SQ_TRY(read_number(parameters, folder, "high_freq_factor", 0, &rope->high_factor));
    return read_original_length(config, parameters, folder, dims, rope);
}

/* The index of the frequency (not a whole one) that turns so often within the original length. */
static double index_of_turns(const struct sq_rope *rope, double turns)
{
    return (double)rope->n_frequencies * log(rope->original_length / (turns * 2 * M_PI)) / log(rope->theta);
}

/* The ramp goes from the frequency with beta_fast turns to that with beta_slow, in whole steps unless `truncate` says
 * otherwise. */
static enum sq_status read_ramp(const json_t *parameters, const char *folder, struct sq_rope *rope)
{
    const json_t *truncate = json_object_get(parameters, "truncate");
    double fast, slow;
    SQ_TRY(read_number(parameters, folder, "beta_fast", 32, &fast));
    SQ_TRY(read_number(parameters, folder, "beta_slow", 1, &slow));
    if (truncate && !json_is_boolean(truncate)) {
        sq_error("%s/config.json: key 'truncate' of the rotary embedding must be true or false", folder);
        return SQ_ERR_INPUT;
    }
    rope->ramp_begin = index_of_turns(rope, fast);
    rope->ramp_end = index_of_turns(rope, slow);
    if (!json_is_false(truncate)) {
        rope->ramp_begin = floor(rope->ramp_begin);
        rope->ramp_end = ceil(rope->ramp_end);
    }
    rope->ramp_begin = fmax(rope->ramp_begin, 0);
    rope->ramp_end = fmin(rope->ramp_end, (double)(2 * rope->n_frequencies - 1));
    return SQ_OK;
}

/* What YaRN multiplies by for a context `factor` times longer. */
static double yarn_scale(double factor, double weight)
{
    return factor > 1 ? 0.1 * weight * log(factor) + 1 : 1;
}

/* 0 where the key is absent. */
static enum sq_status read_weight(const json_t *parameters, const char *folder, const char *key, double *weight_p)
{
    const json_t *value = value_of(parameters, key);
    *weight_p = 0;
    if (!value || (json_is_number(value) && json_number_value(value) == 0)) return SQ_OK;
    return read_number(parameters, folder, key, 0, weight_p);
}

static enum sq_status read_yarn(const json_t *config, const json_t *parameters, const char *folder,
                                const struct sq_dimensions *dims, struct sq_rope *rope)
{
    double some, all;
    SQ_TRY(read_original_length(config, parameters, folder, dims, rope));
    SQ_TRY(read_number(parameters, folder, "factor", (double)dims->max_length / rope->original_length, &rope->factor));
    SQ_TRY(read_ramp(parameters, folder, rope));
    SQ_TRY(read_weight(parameters, folder, "mscale", &some));
    SQ_TRY(read_weight(parameters, folder, "mscale_all_dim", &all));
    double usual = some > 0 && all > 0 ? yarn_scale(rope->factor, some) / yarn_scale(rope->factor, all)
                                       : yarn_scale(rope->factor, 1);
    return read_number(parameters, folder, "attention_factor", usual, &rope->scale);
}

static enum sq_status read_factors(const json_t *parameters, const char *folder, const char *key, int64_t count,
                                   const json_t **factors_p)
{
    const json_t *list = value_of(parameters, key);
    bool is_good = (int64_t)json_array_size(list) == count;
    for (size_t i = 0; is_good && i < (size_t)count; i++) {
        double factor = json_number_value(json_array_get(list, i));
        is_good = factor > 0 && isfinite(factor);
    }
    *factors_p = list;
    if (is_good) return SQ_OK;
    sq_error("%s/config.json: key '%s' of the rotary embedding must list %lld numbers above zero", folder, key,
             (long long)count);
    return SQ_ERR_INPUT;
}

/* LongRoPE (Ding et al., 2024): a factor for every frequency, other ones for samples beyond the original length, and
 * cosines and sines times sqrt(1 + ln(factor) / ln(original length)). */
static enum sq_status read_long(const json_t *config, const json_t *parameters, const char *folder,
                                const struct sq_dimensions *dims, struct sq_rope *rope)
{
    SQ_TRY(read_factors(parameters, folder, "short_factor", rope->n_frequencies, &rope->short_factors));
    SQ_TRY(read_factors(parameters, folder, "long_factor", rope->n_frequencies, &rope->long_factors));
    SQ_TRY(read_original_length(config, parameters, folder, dims, rope));
    double ratio = (double)dims->max_length / rope->original_length;
    SQ_TRY(read_number(parameters, folder, "factor", ratio, &rope->factor));
    double usual = rope->factor > 1 ? sqrt(1 + log(rope->factor) / log(rope->original_length)) : 1;
    return read_number(parameters, folder, "attention_factor", usual, &rope->scale);
}

static enum sq_status read_scaling(const json_t *config, const json_t *parameters, const char *folder,
                                   const struct sq_dimensions *dims, struct sq_rope *rope)
{
    switch (rope->kind) {
    case SQ_ROPE_LLAMA3:
        SQ_TRY(read_llama3(config, parameters, folder, dims, rope));
        break;
    case SQ_ROPE_YARN:
        return read_yarn(config, parameters, folder, dims, rope);
    case SQ_ROPE_LONG:
        return read_long(config, parameters, folder, dims, rope);
    case SQ_ROPE_DYNAMIC:
        rope->original_length = (double)dims->max_length;
        break;
    case SQ_ROPE_PLAIN:
        return SQ_OK;
    case SQ_ROPE_LINEAR:
        break;
    }
    return read_number(parameters, folder, "factor", 0, &rope->factor);
}

/* DeepSeek's YaRN multiplies queries and keys by the same factor, outside the angles. */
static enum sq_status read_score_scale(const struct sq_rope_form *form, const json_t *parameters, const char *folder,
                                       struct sq_rope *rope)
{
    double weight;
    if (!form->scales_scores || rope->kind == SQ_ROPE_PLAIN) return SQ_OK;
    SQ_TRY(read_weight(parameters, folder, "mscale_all_dim", &weight));
    if (weight > 0) rope->score_scale = pow(yarn_scale(rope->factor, weight), 2);
    return SQ_OK;
}

static enum sq_status read_order(const struct sq_rope_form *form, const json_t *config, const char *folder,
                                 enum sq_rope_pairs *pairs_p)
{
    const json_t *value = form->pairs_key ? json_object_get(config, form->pairs_key) : NULL;
    *pairs_p = form->pairs;
    if (!value) return SQ_OK;
    *pairs_p = json_is_true(value) ? SQ_ROPE_NEIGHBOURS : SQ_ROPE_HALVES;
    if (json_is_boolean(value)) return SQ_OK;
    sq_error("%s/config.json: key '%s' must be true or false", folder, form->pairs_key);
    return SQ_ERR_INPUT;
}

/* No tiny base or factor has made one infinite. */
static enum sq_status check_frequencies(const struct sq_rope *rope, const char *folder)
{
    for (int64_t i = 0; i < rope->n_frequencies; i++)
        for (int64_t length = 0; length <= INT32_MAX; length += INT32_MAX) { /* short, and long */
            if (isfinite((float)sq_rope_frequency(rope, i, length))) continue;
            sq_error("%s/config.json: frequency %lld of the rotary embedding is not finite", folder, (long long)i);
            return SQ_ERR_INPUT;
        }
    return SQ_OK;
}

enum sq_status sq_rope_read(const struct sq_rope_form *form, bool windowed, const json_t *config, const char *folder,
                            const struct sq_dimensions *dims, struct sq_rope *rope_p)
{
    struct sq_rope rope = {.scale = 1, .score_scale = 1};
    const json_t *parameters;
    const char *key;
    SQ_TRY(find_parameters(form, windowed, config, folder, &parameters, &key));
    SQ_TRY(read_theta(form, windowed, config, parameters, folder, &rope.theta));
    SQ_TRY(read_pairs(form, config, parameters, folder, dims, &rope.n_frequencies));
    SQ_TRY(read_kind(parameters, folder, key, &rope.kind));
    SQ_TRY(read_scaling(config, parameters, folder, dims, &rope));
    SQ_TRY(read_score_scale(form, parameters, folder, &rope));
    SQ_TRY(read_order(form, config, folder, &rope.pairs));
    SQ_TRY(check_frequencies(&rope, folder));
    *rope_p = rope;
    return SQ_OK;
}
