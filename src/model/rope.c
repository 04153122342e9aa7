#define _GNU_SOURCE /* M_PI */
#include "model/rope.h"

#include <math.h>
#include <stdbool.h>
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

static enum sq_status read_kind(const json_t *parameters, const char *folder, const char *key,
                                enum sq_rope_kind *kind_p)
{
    static const struct {
        const char *name;
        enum sq_rope_kind kind;
    } names[] = {{"default", SQ_ROPE_PLAIN}, {"linear", SQ_ROPE_LINEAR}, {"llama3", SQ_ROPE_LLAMA3}};
    const json_t *value = value_of(parameters, "rope_type");
    if (!value) value = value_of(parameters, "type");
    const char *name = value ? json_string_value(value) : "default";
    for (int i = 0; name && i < 3; i++) {
        if (strcmp(name, names[i].name) != 0) continue;
        *kind_p = names[i].kind;
        return SQ_OK;
    }
    sq_error("%s/config.json: key '%s': rope_type '%.64s' is not supported; supported are default, linear, llama3",
             folder, key, name ? name : "?");
    return SQ_ERR_INPUT;
}

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

static enum sq_status check_whole_head(const json_t *object, const char *folder)
{
    const json_t *part = value_of(object, "partial_rotary_factor");
    if (!part || json_number_value(part) == 1.0) return SQ_OK;
    sq_error("%s/config.json: key 'partial_rotary_factor' is %g; supported is only 1", folder, json_number_value(part));
    return SQ_ERR_INPUT;
}

enum sq_status sq_rope_read(const json_t *config, const char *folder, int64_t max_length, struct sq_rope *rope_p)
{
    struct sq_rope rope = {0};
    const char *key = "rope_scaling"; /* the older of the two; where both are there it is the one that counts */
    const json_t *parameters = value_of(config, key);
    if (!parameters || json_object_size(parameters) == 0) {
        key = "rope_parameters";
        parameters = value_of(config, key);
    }
    SQ_TRY(check_flat(parameters, folder, key));
    double theta = 10000.0;
    SQ_TRY(read_number(config, folder, "rope_theta", theta, &theta));
    SQ_TRY(read_number(parameters, folder, "rope_theta", theta, &rope.theta));
    SQ_TRY(check_whole_head(config, folder));
    SQ_TRY(check_whole_head(parameters, folder));
    SQ_TRY(read_kind(parameters, folder, key, &rope.kind));
    if (rope.kind != SQ_ROPE_PLAIN) SQ_TRY(read_number(parameters, folder, "factor", 0, &rope.factor));
    if (rope.kind == SQ_ROPE_LLAMA3) {
        SQ_TRY(read_number(parameters, folder, "low_freq_factor", 0, &rope.low_factor));
        SQ_TRY(read_number(parameters, folder, "high_freq_factor", 0, &rope.high_factor));
        SQ_TRY(read_number(parameters, folder, "original_max_position_embeddings", (double)max_length,
                           &rope.original_length));
    }
    *rope_p = rope;
    return SQ_OK;
}

/* Llama 3.1: frequencies whose wavelength is beyond the original length are divided by factor, short ones stay, those
 * between are interpolated. */
static double scale_llama3(const struct sq_rope *rope, double frequency)
{
    double turns = rope->original_length * frequency / (2 * M_PI); /* within the original length */
    if (turns > rope->high_factor) return frequency;
    if (turns < rope->low_factor) return frequency / rope->factor;
    double smooth = (turns - rope->low_factor) / (rope->high_factor - rope->low_factor);
    return (1 - smooth) * frequency / rope->factor + smooth * frequency;
}

static double frequency_of(const struct sq_rope *rope, int64_t i, int64_t n_frequencies)
{
    double frequency = pow(rope->theta, -(double)i / (double)n_frequencies);
    switch (rope->kind) {
    case SQ_ROPE_LINEAR:
        return frequency / rope->factor;
    case SQ_ROPE_LLAMA3:
        return scale_llama3(rope, frequency);
    case SQ_ROPE_PLAIN:
        break;
    }
    return frequency;
}

void sq_rope_fill(const struct sq_rope *rope, int64_t length, int64_t n_frequencies, float *cosine, float *sine)
{
    for (int64_t i = 0; i < n_frequencies; i++) {
        float frequency = (float)frequency_of(rope, i, n_frequencies);
        for (int64_t t = 0; t < length; t++) {
            float angle = (float)t * frequency;
            cosine[t * n_frequencies + i] = (float)cos((double)angle);
            sine[t * n_frequencies + i] = (float)sin((double)angle);
        }
    }
}
