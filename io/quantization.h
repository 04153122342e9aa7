/* What a folder says of its quantized layers: quantization_config of config.json or, where that has none, the file
 * quantize_config.json, as older programs wrote it. */
#ifndef SQ_IO_QUANTIZATION_H
#define SQ_IO_QUANTIZATION_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "config/pattern.h"
#include "io/checkpoint.h"
#include "io/json_keys.h"

/* What is said of a layer: each a number, a truth (0 or 1), or SQ_JSON_UNSTATED. */
struct sq_stated {
    int64_t bits, group_size, symmetric, activation_order;
};

/* How a rule finds its layers, in the order in which compressed-tensors looks. */
enum sq_layer_rule_kind { SQ_BY_NAME, SQ_BY_PATTERN, SQ_BY_CLASS, SQ_BY_OTHER_CLASS };

/* Layers with settings of their own, or without any. */
struct sq_layer_rule {
    enum sq_layer_rule_kind kind;
    char *text; /* name, pattern or class, as the file has it; owned */
    struct sq_pattern *pattern;
    char *key;      /* that has the settings: "dynamic.+:.*down_proj", "config_groups.group_0.weights"; owned */
    bool is_exempt; /* its layers are left as they are */
    struct sq_stated stated;
};

struct sq_quantization {
    const char *folder, *file; /* for messages; folder: the checkpoint's */
    json_t *object;            /* owned */
    const char *method;        /* quant_method */
    const char *format;        /* as stated, else the one that stands for */
    const char *format_key;    /* that states it; NULL: none */
    struct sq_stated stated;   /* of layers that no rule is for */
    struct sq_layer_rule *rules;
    int n_rules; /* the first that is for a layer decides */
};

/* Reads them into the checkpoint when it has quantized layers. SQ_ERR_INPUT naming file and key when a key has another
 * type than its readers need, a pattern is none, or the two files contradict each other. Local. */
enum sq_status sq_quantization_open(struct sq_checkpoint *checkpoint) SQ_MUST_CHECK;
void sq_quantization_close(struct sq_quantization *quantization);

/* Fills rules and stated from the object of either method (io/gptq_settings.c, io/packed_settings.c). */
enum sq_status sq_gptq_settings_read(struct sq_quantization *quantization) SQ_MUST_CHECK;
enum sq_status sq_packed_settings_read(struct sq_quantization *quantization) SQ_MUST_CHECK;

/* SQ_ERR_INPUT naming a key in which two files of a folder, both read, differ: what one does not state agrees. Local.
 */
enum sq_status sq_gptq_settings_agree(const struct sq_quantization *quantization,
                                      const struct sq_quantization *other) SQ_MUST_CHECK;

/* "KEY is VALUE in FILE, but OTHER_VALUE in OTHER's file". Returns SQ_ERR_INPUT. */
enum sq_status sq_quantization_refuse_other(const struct sq_quantization *quantization,
                                            const struct sq_quantization *other, const char *key, const char *value,
                                            const char *other_value);

/* Room for so many rules, and one more of them; text and key are copied, `pattern` is compiled from its first character
 * on (NULL: none). */
enum sq_status sq_quantization_reserve(struct sq_quantization *quantization, size_t n_rules) SQ_MUST_CHECK;
enum sq_status sq_quantization_add(struct sq_quantization *quantization, const struct sq_layer_rule *rule,
                                   const char *pattern) SQ_MUST_CHECK;

/* A layer as its tensors are. */
struct sq_layer_facts {
    const char *name;
    int bits;
    int64_t n_groups, in_features;
};

/* The rule for a layer; NULL: none. SQ_ERR_INPUT when its pattern cannot be matched. Local. */
enum sq_status sq_quantization_find(const struct sq_quantization *quantization, const char *name, bool is_transposed,
                                    const struct sq_layer_rule **rule_p) SQ_MUST_CHECK;

/* "FILE: KEY.NAME is VALUE, but LAYER has ..., OTHERWISE". rule: NULL for the common settings. Returns SQ_ERR_INPUT. */
enum sq_status sq_quantization_refuse(const struct sq_quantization *quantization, const struct sq_layer_rule *rule,
                                      const struct sq_json_key *key, int64_t value, const struct sq_layer_facts *layer,
                                      const char *otherwise);

#endif
