/* A model folder or a quantized checkpoint. */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "base/log.h"
#include "inspect.h"
#include "io/checkpoint.h"
#include "model/model.h"

enum sq_status sq_inspect_made(json_t *object, const json_error_t *error, json_t **object_p)
{
    if (!object) {
        sq_error("cannot put the result together: %s", error->text);
        return SQ_ERR_MEMORY;
    }
    *object_p = object;
    return SQ_OK;
}

static enum sq_status no_memory(void)
{
    sq_error("cannot put the result together: no memory");
    return SQ_ERR_MEMORY;
}

/* Quantized layers, and what they take. */
struct quantized {
    int64_t layers, weights, bytes;
};

static struct quantized count_quantized(const struct sq_model *model)
{
    struct quantized sum = {0};
    for (int i = 0; i < sq_model_n_linears(model); i++) {
        const struct sq_linear *linear = sq_model_linear(model, i);
        int64_t bytes = sq_checkpoint_quantized_bytes(sq_model_checkpoint(model), linear->name);
        if (bytes == 0) continue;
        sum.layers++;
        sum.weights += linear->out_features * linear->in_features;
        sum.bytes += bytes;
    }
    return sum;
}

/* How many bytes each dtype takes: {"BF16": ...}. */
static json_t *sum_dtypes(const struct sq_checkpoint *checkpoint, int64_t *total_p)
{
    json_t *object = json_object();
    *total_p = 0;
    for (int64_t i = 0; object && i < sq_checkpoint_n_tensors(checkpoint); i++) {
        const struct sq_tensor *tensor = sq_checkpoint_tensor(checkpoint, i);
        char key[32];
        snprintf(key, sizeof key, "%s_bytes", sq_dtype_name(tensor->dtype));
        json_int_t before = json_integer_value(json_object_get(object, key));
        *total_p += (int64_t)tensor->bytes;
        if (json_object_set_new(object, key, json_integer(before + (json_int_t)tensor->bytes))) break;
    }
    return object;
}

static int64_t count_linear_weights(const struct sq_model *model)
{
    int64_t weights = 0;
    for (int i = 0; i < sq_model_n_linears(model); i++) {
        const struct sq_linear *linear = sq_model_linear(model, i);
        if (linear->block < sq_model_n_blocks(model)) weights += linear->out_features * linear->in_features;
    }
    return weights;
}

static enum sq_status describe_model(const struct sq_model *model, json_t **object_p)
{
    const struct sq_checkpoint *checkpoint = sq_model_checkpoint(model);
    json_error_t error;
    char fingerprint[32];
    int64_t bytes;
    json_t *dtypes = sum_dtypes(checkpoint, &bytes);
    snprintf(fingerprint, sizeof fingerprint, "%016" PRIx64, sq_checkpoint_fingerprint(checkpoint));
    json_t *object = json_pack_ex(
        &error, 0, "{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:b, s:I, s:I, s:I, s:I, s:s, s:o}", "kind", "model", "path",
        sq_checkpoint_folder(checkpoint), "architecture", sq_model_architecture(model), "blocks",
        (json_int_t)sq_model_n_blocks(model), "hidden_size", (json_int_t)sq_model_hidden_size(model), "vocab_size",
        (json_int_t)sq_model_vocab_size(model), "max_length", (json_int_t)sq_model_max_length(model), "tied_embeddings",
        (int)sq_model_is_tied(model), "parameters", (json_int_t)sq_model_n_parameters(model), "block_linear_weights",
        (json_int_t)count_linear_weights(model), "tensors", (json_int_t)sq_checkpoint_n_tensors(checkpoint),
        "weight_bytes", (json_int_t)bytes, "fingerprint", fingerprint, "dtypes", dtypes);
    return sq_inspect_made(object, &error, object_p);
}

/* Adds what only a mixture of experts has. */
static enum sq_status describe_experts(const struct sq_model *model, json_t *object)
{
    int n_experts = 0, n_blocks = 0;
    int64_t shared_width, n_shared = sq_model_n_shared(model, &shared_width);
    for (int64_t block = 0; block < sq_model_n_blocks(model); block++) {
        if (sq_model_n_experts(model, block) == 0) continue;
        n_experts = sq_model_n_experts(model, block);
        n_blocks++;
    }
    if (n_experts == 0) return SQ_OK;
    json_t *more = json_pack("{s:i, s:i, s:i, s:I, s:I}", "experts", n_experts, "experts_of_a_token",
                             sq_model_n_chosen(model), "blocks_with_experts", n_blocks, "shared_experts",
                             (json_int_t)n_shared, "shared_width", (json_int_t)shared_width);
    bool failed = !more || json_object_update(object, more);
    json_decref(more);
    return failed ? no_memory() : SQ_OK;
}

/* Adds what only a quantized checkpoint has. */
static enum sq_status describe_quantization(const struct sq_model *model, json_t *object)
{
    const json_t *settings = sq_checkpoint_quantization(sq_model_checkpoint(model));
    if (!settings) return SQ_OK;
    struct quantized quantized = count_quantized(model);
    double bits = quantized.weights ? 8.0 * (double)quantized.bytes / (double)quantized.weights : 0;
    bool failed = json_object_set_new(object, "kind", json_string("checkpoint")) ||
                  json_object_set_new(object, "quantized_layers", json_integer(quantized.layers)) ||
                  json_object_set_new(object, "quantized_weights", json_integer(quantized.weights)) ||
                  json_object_set_new(object, "bits_per_weight", json_real(bits)) ||
                  json_object_set_new(object, "quantization_config", json_deep_copy(settings));
    return failed ? no_memory() : SQ_OK;
}

enum sq_status sq_inspect_folder(const char *path, json_t **object_p)
{
    struct sq_checkpoint *checkpoint = NULL;
    struct sq_model *model = NULL;
    json_t *object = NULL;
    SQ_TRY(sq_checkpoint_open(path, &checkpoint));
    enum sq_status status = sq_model_open(checkpoint, &model);
    if (status != SQ_OK) goto out_checkpoint;
    status = describe_model(model, &object);
    if (status == SQ_OK) status = describe_experts(model, object);
    if (status == SQ_OK) status = describe_quantization(model, object);
    if (status == SQ_OK)
        *object_p = object;
    else
        json_decref(object);
    sq_model_close(model);
out_checkpoint:
    sq_checkpoint_close(checkpoint);
    return status;
}
