#include "gptq/layers.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "config/pattern.h"
#include "gptq/flags.h"

static const int64_t group_choices[] = {128, 64, 32};
#define N_GROUP_CHOICES (int)(sizeof group_choices / sizeof *group_choices)

/* The model's linears with the rule that applies to each, while the layers are resolved. */
struct resolving {
    const struct sq_model *model;
    const struct sq_config *config;
    const struct sq_rule **rules; /* [linears]; NULL where none matches */
};

static bool is_quantized(const struct resolving *r, int i)
{
    bool is_lm_head = sq_model_linear(r->model, i)->block == (int)sq_model_n_blocks(r->model);
    return !(r->rules[i] && r->rules[i]->skip) && (r->config->lm_head || !is_lm_head);
}

/* The group size a layer asks for, before it is resolved for its width. */
static int64_t wanted_group(const struct resolving *r, int i, int64_t job_group)
{
    return r->rules[i] && r->rules[i]->group_size != SQ_GROUP_AUTO ? r->rules[i]->group_size : job_group;
}

static bool fits(int64_t group_size, int64_t in_features)
{
    return group_size == SQ_GROUP_PER_CHANNEL || in_features % group_size == 0;
}

/* Whether the size fits every layer that takes the job's group size. */
static bool fits_all(const struct resolving *r, int64_t group_size)
{
    for (int i = 0; i < sq_model_n_linears(r->model); i++) {
        if (!is_quantized(r, i) || wanted_group(r, i, SQ_GROUP_AUTO) != SQ_GROUP_AUTO) continue;
        if (!fits(group_size, sq_model_linear(r->model, i)->in_features)) return false;
    }
    return true;
}

static int64_t resolve_group(const struct resolving *r)
{
    if (r->config->group_size != SQ_GROUP_AUTO) return r->config->group_size;
    for (int i = 0; i < N_GROUP_CHOICES; i++)
        if (fits_all(r, group_choices[i])) return group_choices[i];
    return SQ_GROUP_PER_CHANNEL;
}

static void refuse_group(const struct resolving *r, const struct sq_linear *linear, int64_t group_size)
{
    char fitting[64] = "";
    for (int i = 0; i < N_GROUP_CHOICES; i++)
        if (fits_all(r, group_choices[i]) && fits(group_choices[i], linear->in_features))
            snprintf(fitting + strlen(fitting), sizeof fitting - strlen(fitting), "%lld, ",
                     (long long)group_choices[i]);
    sq_error("group size %lld does not divide the %lld inputs of %s; sizes that fit every layer: %s-1 (per channel); "
             "--ragged allows a short last group, which most readers refuse",
             (long long)group_size, (long long)linear->in_features, linear->name, fitting);
}

static enum sq_status make_layer(const struct resolving *r, int i, int64_t job_group, struct sq_store_layer *layer)
{
    const struct sq_linear *linear = sq_model_linear(r->model, i);
    const struct sq_rule *rule = r->rules[i];
    int64_t group = wanted_group(r, i, job_group);
    if (!fits(group, linear->in_features) && !r->config->ragged) {
        refuse_group(r, linear, group);
        return SQ_ERR_USAGE;
    }
    if (group == SQ_GROUP_PER_CHANNEL || group > linear->in_features) group = linear->in_features;
    *layer = (struct sq_store_layer){.name = linear->name,
                                     .out_features = linear->out_features,
                                     .in_features = linear->in_features,
                                     .is_transposed = linear->is_transposed,
                                     .grid = {.bits = rule && rule->bits ? rule->bits : r->config->bits,
                                              .symmetric = r->config->symmetric,
                                              .group_size = group,
                                              .scale_dtype = r->config->scale_dtype}};
    return SQ_OK;
}

/* An lm_head that shares the embedding's tensor cannot be quantized without changing the embedding. */
static enum sq_status check_lm_head(const struct sq_model *model, const struct sq_config *config)
{
    if (!config->lm_head || !sq_model_is_tied(model)) return SQ_OK;
    sq_error("--lm-head: the output layer of %s is tied to its embedding and cannot be quantized",
             sq_checkpoint_folder(sq_model_checkpoint(model)));
    return SQ_ERR_USAGE;
}

/* A rule that is for no layer is most likely a name that is not written as the model has it; but a file may serve
 * several models. */
static void warn_of_misspelt(const struct resolving *r, const struct sq_rule *rule)
{
    sq_warning(SQ_WARNING_RULE, "rule \"%s\" matches no linear layer of %s; the first is called %s", rule->pattern,
               sq_checkpoint_folder(sq_model_checkpoint(r->model)), sq_model_linear(r->model, 0)->name);
}

/* first: the first linear it matches. */
static void warn_of_hidden(const struct resolving *r, const struct sq_rule *rule, int first)
{
    sq_warning(SQ_WARNING_RULE, "rule \"%s\" has no effect: earlier rules match all its layers, the first (%s) \"%s\"",
               rule->pattern, sq_model_linear(r->model, first)->name, r->rules[first]->pattern);
}

/* Of a rule that is no layer's. All linears of the model are looked at, whatever of them is done or to be done. */
static enum sq_status warn_of_rule(const struct resolving *r, const struct sq_rule *rule)
{
    int first = -1;
    for (int i = 0; i < sq_model_n_linears(r->model); i++) {
        bool matches = false;
        if (r->rules[i] == rule) return SQ_OK;
        if (first < 0) SQ_TRY(sq_pattern_matches(rule->regex, sq_model_linear(r->model, i)->name, &matches));
        if (matches) first = i;
    }
    if (sq_log_rank() != 0) return SQ_OK;
    if (first < 0)
        warn_of_misspelt(r, rule);
    else
        warn_of_hidden(r, rule, first);
    return SQ_OK;
}

/* Fills `layers`, whose arrays are as long as the model's list of linears. */
static enum sq_status fill(struct resolving *r, struct sq_layers *layers)
{
    int n_linears = sq_model_n_linears(r->model);
    for (int i = 0; i < n_linears; i++)
        SQ_TRY(sq_config_match_rule(r->config, sq_model_linear(r->model, i)->name, &r->rules[i]));
    for (int i = 0; i < r->config->n_rules; i++)
        SQ_TRY(warn_of_rule(r, &r->config->rules[i]));
    layers->group_size = resolve_group(r);
    for (int i = 0; i < n_linears; i++) {
        layers->of_linear[i] = -1;
        if (!is_quantized(r, i)) continue;
        SQ_TRY(make_layer(r, i, layers->group_size, &layers->layers[layers->n_layers]));
        layers->linears[layers->n_layers] = i;
        layers->of_linear[i] = layers->n_layers++;
    }
    if (layers->n_layers > 0) return SQ_OK;
    sq_error("the rules skip every linear layer of the model: nothing to quantize");
    return SQ_ERR_USAGE;
}

enum sq_status sq_layers_resolve(const struct sq_model *model, const struct sq_config *config,
                                 struct sq_layers *layers_p)
{
    int n_linears = sq_model_n_linears(model);
    struct sq_layers layers = {0};
    void *store_layers = NULL, *of_linear = NULL, *linears = NULL, *rules = NULL;
    SQ_TRY(check_lm_head(model, config));
    enum sq_status status = sq_alloc("the list of layers", n_linears, sizeof *layers.layers, &store_layers);
    if (status == SQ_OK) status = sq_alloc("the list of layers", n_linears, sizeof *layers.of_linear, &of_linear);
    if (status == SQ_OK) status = sq_alloc("the list of layers", n_linears, sizeof *layers.linears, &linears);
    if (status == SQ_OK) status = sq_alloc("the list of rules", n_linears, sizeof(struct sq_rule *), &rules);
    layers.layers = store_layers;
    layers.of_linear = of_linear;
    layers.linears = linears;
    struct resolving resolving = {model, config, rules};
    if (status == SQ_OK) status = fill(&resolving, &layers);
    sq_free(rules);
    if (status != SQ_OK) {
        sq_layers_release(&layers);
        return status;
    }
    *layers_p = layers;
    return SQ_OK;
}

void sq_layers_release(struct sq_layers *layers)
{
    sq_free(layers->layers);
    sq_free(layers->of_linear);
    sq_free(layers->linears);
    memset(layers, 0, sizeof *layers);
}

void sq_layers_warn_of_tokens(const struct sq_layers *layers, const struct sq_model *model, enum sq_solver solver,
                              const char *source, int64_t n_tokens)
{
    const struct sq_linear *widest = NULL;
    int count = 0;
    for (int i = 0; i < layers->n_layers; i++) {
        const struct sq_linear *linear = sq_model_linear(model, layers->linears[i]);
        if (linear->expert >= 0 || !sq_layer_has_few_tokens(n_tokens, solver, linear->in_features)) continue;
        if (!widest || linear->in_features > widest->in_features) widest = linear;
        count++;
    }
    if (!widest) return;
    sq_warning(SQ_WARNING_LAYER,
               "%s: %lld tokens are fewer than the inputs of %d of %d layers, the widest %s with %lld: without damping "
               "their Hessians would be singular",
               source, (long long)n_tokens, count, layers->n_layers, widest->name, (long long)widest->in_features);
}
