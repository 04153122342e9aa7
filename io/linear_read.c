#include <string.h>

#include "base/log.h"
#include "io/checkpoint_private.h"
#include "io/linear_form.h"

/* --- plain weights ------------------------------------------------------------------------------------------------ */

static enum sq_status find_plain(const struct sq_linear_place *place, const struct sq_tensor **weight_p)
{
    const struct sq_tensor *weight = sq_checkpoint_find_part(place->checkpoint, place->prefix, "weight");
    const int64_t shape[] = {place->is_transposed ? place->in_features : place->out_features,
                             place->is_transposed ? place->out_features : place->in_features};
    return sq_checkpoint_require(place->checkpoint, weight->name, 2, shape, weight_p);
}

static enum sq_status check_plain(const struct sq_linear_place *place)
{
    const struct sq_tensor *weight;
    return find_plain(place, &weight);
}

static enum sq_status read_plain(const struct sq_linear_place *place, int64_t row, int64_t rows, float *weights)
{
    const struct sq_tensor *weight;
    SQ_TRY(find_plain(place, &weight));
    return place->is_transposed ? sq_tensor_read_columns_f32(weight, row, rows, weights)
                                : sq_tensor_read_f32(weight, row, rows, weights);
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

static const struct sq_linear_form forms[] = {
    {.parts = {"weight"}, .check = check_plain, .read = read_plain},
    {.parts = {"qweight", "qzeros", "scales"}, .check = sq_gptq_check, .read = sq_gptq_read},
    {.parts = {"weight_packed", "weight_zero_point", "weight_scale"}, .check = sq_packed_check, .read = sq_packed_read},
};
#define N_FORMS ((int)(sizeof forms / sizeof *forms))

static const struct sq_linear_form *find_form(const struct sq_linear_place *place)
{
    for (int f = 0; f < N_FORMS; f++)
        if (sq_checkpoint_find_part(place->checkpoint, place->prefix, forms[f].parts[0])) return &forms[f];
    sq_error("%s: %s has neither weight nor qweight nor weight_packed", sq_checkpoint_folder(place->checkpoint),
             place->prefix);
    return NULL;
}

static struct sq_linear_place place_of(const struct sq_checkpoint *checkpoint,
                                       const struct sq_checkpoint_linear *linear)
{
    return (struct sq_linear_place){checkpoint, linear->name, linear->out_features, linear->in_features,
                                    linear->is_transposed};
}

enum sq_status sq_checkpoint_check_linear(const struct sq_checkpoint *checkpoint,
                                          const struct sq_checkpoint_linear *linear)
{
    const struct sq_linear_place place = place_of(checkpoint, linear);
    const struct sq_linear_form *form = find_form(&place);
    return form ? form->check(&place) : SQ_ERR_INPUT;
}

enum sq_status sq_checkpoint_read_linear(const struct sq_checkpoint *checkpoint,
                                         const struct sq_checkpoint_linear *linear, int64_t row, int64_t rows,
                                         float *weights)
{
    const struct sq_linear_place place = place_of(checkpoint, linear);
    if (row < 0 || rows < 0 || row > place.out_features - rows) {
        sq_error("%s: rows %lld ... %lld of %s are asked for, which has %lld", sq_checkpoint_folder(checkpoint),
                 (long long)row, (long long)(row + rows - 1), place.prefix, (long long)place.out_features);
        return SQ_ERR_INPUT;
    }
    const struct sq_linear_form *form = find_form(&place);
    return form ? form->read(&place, row, rows, weights) : SQ_ERR_INPUT;
}

int64_t sq_checkpoint_quantized_bytes(const struct sq_checkpoint *checkpoint, const char *name)
{
    int64_t bytes = 0;
    const struct sq_tensor *weight = sq_checkpoint_find_part(checkpoint, name, "weight");
    if (weight && weight->scale) return (int64_t)(weight->bytes + weight->scale->bytes);
    for (int f = 1; f < N_FORMS; f++) {
        if (!sq_checkpoint_find_part(checkpoint, name, forms[f].parts[0])) continue;
        for (int p = 0; forms[f].parts[p]; p++) {
            const struct sq_tensor *tensor = sq_checkpoint_find_part(checkpoint, name, forms[f].parts[p]);
            bytes += tensor ? (int64_t)tensor->bytes : 0;
        }
    }
    return bytes;
}

/* --- what the quantized forms share ------------------------------------------------------------------------------- */

static enum sq_status check_method(const struct sq_linear_place *place, const char *method)
{
    const char *folder = sq_checkpoint_folder(place->checkpoint);
    const struct sq_quantization *quantization = place->checkpoint->quantization;
    if (!quantization->object) {
        sq_error("%s: %s has no weight, and config.json has no quantization_config", folder, place->prefix);
        return SQ_ERR_INPUT;
    }
    const char *found = quantization->method;
    if (found && !strcmp(found, method)) return SQ_OK;
    sq_error("%s: %s: quant_method is %s; the tensors of %s need %s", folder, quantization->file,
             found ? found : "missing", place->prefix, method);
    return SQ_ERR_INPUT;
}

enum sq_status sq_linear_settings(const struct sq_linear_place *place, const char *method,
                                  const struct sq_quantization **quantization_p, const struct sq_layer_rule **rule_p)
{
    const struct sq_layer_rule *rule;
    const struct sq_quantization *quantization = place->checkpoint->quantization;
    SQ_TRY(check_method(place, method));
    SQ_TRY(sq_quantization_find(quantization, place->prefix, place->is_transposed, &rule));
    if (rule && rule->is_exempt) {
        sq_error("%s: %s: %s leaves %s as it is, but its tensors are quantized", quantization->folder,
                 quantization->file, rule->key, place->prefix);
        return SQ_ERR_INPUT;
    }
    *quantization_p = quantization;
    *rule_p = rule;
    return SQ_OK;
}

enum sq_status sq_linear_report_part(const struct sq_linear_place *place, const char *part,
                                     const struct sq_tensor *tensor)
{
    if (!tensor)
        sq_error("%s: %s has neither weight nor %s", sq_checkpoint_folder(place->checkpoint), place->prefix, part);
    else
        sq_error("%s: %s.%s: type %s with %d dimensions, the first %lld x %lld, does not fit a layer of %lld outputs "
                 "and %lld inputs",
                 tensor->file, place->prefix, part, sq_dtype_name(tensor->dtype), tensor->n_dims,
                 (long long)sq_tensor_dimension(tensor, 0), (long long)sq_tensor_dimension(tensor, 1),
                 (long long)place->out_features, (long long)place->in_features);
    return SQ_ERR_INPUT;
}
