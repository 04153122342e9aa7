/* Does the store belong to the checkpoint? */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "io/assemble_plan.h"
#include "io/scales.h"

enum sq_dtype sq_assemble_kept_dtype(const struct sq_tensor *source)
{
    return sq_dtype_has_scales(source->dtype) ? SQ_BF16 : source->dtype;
}

static bool has_layer_shape(const struct sq_tensor *tensor, const struct sq_store_layer *layer)
{
    int out = layer->is_transposed ? 1 : 0;
    return sq_dtype_is_floating(tensor->dtype) && tensor->n_dims == 2 && tensor->shape[out] == layer->out_features &&
           tensor->shape[1 - out] == layer->in_features;
}

const struct sq_tensor *sq_assemble_find_source(const struct sq_checkpoint *checkpoint,
                                                const struct sq_store_layer *layer)
{
    const struct sq_tensor *weight = sq_checkpoint_find_part(checkpoint, layer->name, "weight");
    return weight && has_layer_shape(weight, layer) ? weight : NULL;
}

/* No part of the layer may have the name of a tensor that is copied. */
static enum sq_status check_parts(const struct sq_checkpoint *checkpoint, const struct sq_store_layer *layer,
                                  const struct sq_format_writer *format)
{
    struct sq_safetensors_entry parts[SQ_FORMAT_MAX_PARTS];
    int n_parts = format->list(layer, SQ_BF16, parts);
    for (int part = 0; part < n_parts; part++) {
        const struct sq_tensor *found = sq_checkpoint_find_part(checkpoint, layer->name, parts[part].name + 1);
        if (!found || !strcmp(parts[part].name, ".weight") || sq_scales_is_auxiliary(checkpoint, found)) continue;
        sq_error("%s: already has %s", sq_checkpoint_folder(checkpoint), found->name);
        return SQ_ERR_INPUT;
    }
    return SQ_OK;
}

static enum sq_status check_layer(const struct sq_checkpoint *checkpoint, const struct sq_store_layer *layer,
                                  const struct sq_format_writer *format)
{
    const char *folder = sq_checkpoint_folder(checkpoint);
    const struct sq_tensor *source = sq_assemble_find_source(checkpoint, layer);
    if (!source && !sq_checkpoint_find_part(checkpoint, layer->name, "weight") &&
        sq_checkpoint_quantized_bytes(checkpoint, layer->name) > 0) {
        sq_error("%s: %s is quantized already: only plain weights can be", folder, layer->name);
        return SQ_ERR_INPUT;
    }
    if (!source) {
        sq_error("%s: has no %s.weight [%lld, %lld]%s, a layer of the store", folder, layer->name,
                 (long long)layer->out_features, (long long)layer->in_features,
                 layer->is_transposed ? " transposed" : "");
        return SQ_ERR_INPUT;
    }
    SQ_TRY(sq_tensor_check_readable(source));
    return check_parts(checkpoint, layer, format);
}

/* Tensors of 8 or 4 bits that are kept are written in another type: they need their scales. */
static enum sq_status check_kept(const struct sq_checkpoint *checkpoint)
{
    for (int64_t i = 0; i < sq_checkpoint_n_tensors(checkpoint); i++) {
        const struct sq_tensor *tensor = sq_checkpoint_tensor(checkpoint, i);
        if (sq_assemble_kept_dtype(tensor) != tensor->dtype) SQ_TRY(sq_tensor_check_readable(tensor));
    }
    return SQ_OK;
}

/* The fingerprint's line "model_hash: " of the model that was quantized; a store without one is taken as it is. */
static enum sq_status check_model_hash(const struct sq_checkpoint *checkpoint, const struct sq_store *store)
{
    static const char key[] = "model_hash: ";
    const char *line = strstr(sq_store_fingerprint(store), key);
    uint64_t found = sq_checkpoint_fingerprint(checkpoint);
    if (!line || strtoull(line + strlen(key), NULL, 16) == found) return SQ_OK;
    sq_error("%s is not the model that the store was made from: its hash is %016llx, the store has %.16s",
             sq_checkpoint_folder(checkpoint), (unsigned long long)found, line + strlen(key));
    return SQ_ERR_USAGE;
}

enum sq_status sq_assemble_check_layers(const struct sq_checkpoint *checkpoint, const struct sq_store *store,
                                        const struct sq_format_writer *format)
{
    int n_layers;
    const struct sq_store_layer *layers = sq_store_layers(store, &n_layers);
    for (int l = 0; l < n_layers; l++)
        SQ_TRY(check_layer(checkpoint, &layers[l], format));
    return check_kept(checkpoint);
}

enum sq_status sq_assemble_check_source(const struct sq_checkpoint *checkpoint, const struct sq_store *store)
{
    int n_layers, n_open = 0, first_open = 0;
    const struct sq_store_layer *layers = sq_store_layers(store, &n_layers);
    for (int l = n_layers - 1; l >= 0; l--) {
        if (sq_store_is_done(store, l)) continue;
        first_open = l;
        n_open++;
    }
    if (n_open > 0) {
        sq_error("%d of the store's %d layers are not quantized yet, the first is %s; quantize --resume finishes them",
                 n_open, n_layers, layers[first_open].name);
        return SQ_ERR_USAGE;
    }
    if (n_layers == 0) {
        sq_error("the store has no layers");
        return SQ_ERR_INPUT;
    }
    return check_model_hash(checkpoint, store);
}
