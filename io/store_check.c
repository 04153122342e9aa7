#include "io/store_private.h"

#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "io/fingerprint.h"

enum sq_status sq_store_check_fingerprint(const char *path, const char *stored, const char *wanted)
{
    char *text = NULL;
    SQ_TRY(sq_fingerprint_compare(stored, "store", wanted, "this run", &text));
    if (!text) return SQ_OK;
    sq_error("%s belongs to another run: %s", path, text);
    sq_free(text);
    return SQ_ERR_USAGE;
}

/* --- layers ------------------------------------------------------------------------------------------------------ */

static bool same_layer(const struct sq_store_layer *a, const struct sq_store_layer *b)
{
    return strcmp(a->name, b->name) == 0 && a->is_transposed == b->is_transposed &&
           a->out_features == b->out_features && a->in_features == b->in_features && a->grid.bits == b->grid.bits &&
           a->grid.symmetric == b->grid.symmetric && a->grid.group_size == b->grid.group_size &&
           a->grid.scale_dtype == b->grid.scale_dtype;
}

static enum sq_status describe(const struct sq_store_layer *layer, char **text_p)
{
    return sq_string_format(text_p, "%s [%lld, %lld]%s, %d bits, groups of %lld, %s, %s", layer->name,
                            (long long)layer->out_features, (long long)layer->in_features,
                            layer->is_transposed ? " transposed" : "", layer->grid.bits,
                            (long long)layer->grid.group_size, layer->grid.symmetric ? "symmetric" : "asymmetric",
                            sq_dtype_name(layer->grid.scale_dtype));
}

static enum sq_status report_difference(const char *path, int l, const struct sq_store_layer *stored,
                                        const struct sq_store_layer *wanted)
{
    char *a, *b;
    SQ_TRY(describe(stored, &a));
    enum sq_status status = describe(wanted, &b);
    if (status == SQ_OK) {
        sq_error("%s: layer %d is %s; this run has %s", path, l, a, b);
        sq_free(b);
        status = SQ_ERR_INPUT;
    }
    sq_free(a);
    return status;
}

enum sq_status sq_store_check_layers(const char *path, const struct sq_store_index *index,
                                     const struct sq_store_layer *layers, int n_layers)
{
    if (index->n_layers != n_layers) {
        sq_error("%s has %d layers; this run has %d", path, index->n_layers, n_layers);
        return SQ_ERR_INPUT;
    }
    for (int l = 0; l < n_layers; l++)
        if (!same_layer(&index->layers[l], &layers[l]))
            return report_difference(path, l, &index->layers[l], &layers[l]);
    return SQ_OK;
}
