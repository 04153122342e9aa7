/* Linear layers of a GPTQ checkpoint (formats gptq and gptq_v2). With N = out_features, K = in_features, G groups:
 *
 *   PREFIX.qweight  I32 [ceil(K * bits / 32), N]   codes, packed along in_features (io/pack.h)
 *   PREFIX.qzeros   I32 [G, ceil(N * bits / 32)]   zero points, packed along out_features; gptq stores them less one
 *   PREFIX.scales   F16, BF16 or F32 [G, N]
 *   PREFIX.g_idx    I32 [K]                        group of each column; may be missing: column / group_size
 *
 *   W[n, k] = scales[g_idx[k], n] * (code[k, n] - zero[g_idx[k], n]) */
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "io/gptq_private.h"
#include "io/pack.h"
#include "tensor/grid.h"

/* What dequantizing some rows needs, besides the tensors. */
struct gptq_workspace {
    int32_t *groups; /* [in_features] */
    float *scales;   /* [n_groups, SQ_GPTQ_TILE] */
    uint8_t *zeros;  /* [n_groups, SQ_GPTQ_TILE] */
    uint8_t *codes;  /* [SQ_GPTQ_TILE columns, SQ_GPTQ_TILE rows] */
    float *values;   /* the same */
};

static bool has_shape(const struct sq_tensor *tensor, enum sq_dtype dtype, int n_dims, int64_t rows, int64_t columns)
{
    return tensor->dtype == dtype && tensor->n_dims == n_dims && tensor->shape[0] == rows &&
           (n_dims == 1 || tensor->shape[1] == columns);
}

/* --- finding a layer and checking its shapes ---------------------------------------------------------------------- */

/* The number of bits that explains the height of qweight; 0: none. */
static int find_bits(const struct sq_gptq_layer *layer, int64_t stated)
{
    static const int known[] = {4, 8, 3, 2};
    int64_t words = layer->qweight->shape[0];
    if (sq_pack_bits_known(stated) && sq_pack_words(layer->in_features, (int)stated) == words) return (int)stated;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (sq_pack_words(layer->in_features, known[i]) == words) return known[i];
    return 0;
}

/* The group size that explains the number of groups; 0: none. */
static int64_t find_group_size(const struct sq_gptq_layer *layer, int64_t stated)
{
    int64_t n_groups = layer->n_groups, in_features = layer->in_features;
    if (n_groups == 1) return in_features;
    if (stated > 0 && sq_group_count(in_features, stated) == n_groups) return stated;
    return n_groups > 0 && in_features % n_groups == 0 ? in_features / n_groups : 0;
}

static bool is_scales(const struct sq_tensor *tensor, int64_t out_features)
{
    return (tensor->dtype == SQ_F16 || tensor->dtype == SQ_BF16 || tensor->dtype == SQ_F32) && tensor->n_dims == 2 &&
           tensor->shape[0] > 0 && tensor->shape[1] == out_features;
}

/* Fills the layer from its tensors, all shapes checked. */
static enum sq_status find_layer(const struct sq_linear_place *place, struct sq_gptq_layer *layer_p)
{
    const struct sq_checkpoint *checkpoint = place->checkpoint;
    struct sq_gptq_layer layer = {.folder = sq_checkpoint_folder(checkpoint),
                                  .prefix = place->prefix,
                                  .qweight = sq_checkpoint_find_part(checkpoint, place->prefix, "qweight"),
                                  .qzeros = sq_checkpoint_find_part(checkpoint, place->prefix, "qzeros"),
                                  .scales = sq_checkpoint_find_part(checkpoint, place->prefix, "scales"),
                                  .g_idx = sq_checkpoint_find_part(checkpoint, place->prefix, "g_idx"),
                                  .out_features = place->out_features,
                                  .in_features = place->in_features};
    SQ_TRY(sq_gptq_settings_find(place, &layer.settings));
    layer.bits = layer.qweight->n_dims == 2 ? find_bits(&layer, layer.settings.stated.bits) : 0;
    if (!layer.bits || !has_shape(layer.qweight, SQ_I32, 2, layer.qweight->shape[0], layer.out_features))
        return sq_linear_report_part(place, "qweight", layer.qweight);
    if (!layer.scales || !is_scales(layer.scales, layer.out_features))
        return sq_linear_report_part(place, "scales", layer.scales);
    layer.n_groups = layer.scales->shape[0];
    layer.group_size = find_group_size(&layer, layer.settings.stated.group_size);
    if (!layer.qzeros ||
        !has_shape(layer.qzeros, SQ_I32, 2, layer.n_groups, sq_pack_words(layer.out_features, layer.bits)))
        return sq_linear_report_part(place, "qzeros", layer.qzeros);
    if (layer.g_idx ? !has_shape(layer.g_idx, SQ_I32, 1, layer.in_features, 0) : !layer.group_size)
        return sq_linear_report_part(place, "g_idx", layer.g_idx);
    *layer_p = layer;
    return SQ_OK;
}

enum sq_status sq_gptq_check(const struct sq_linear_place *place)
{
    struct sq_gptq_layer layer;
    SQ_TRY(find_layer(place, &layer));
    return sq_gptq_settings_compare(&layer);
}

/* --- dequantizing ------------------------------------------------------------------------------------------------- */

static void release_workspace(struct gptq_workspace *workspace)
{
    sq_free(workspace->groups);
    sq_free(workspace->scales);
    sq_free(workspace->zeros);
    sq_free(workspace->codes);
    sq_free(workspace->values);
}

static enum sq_status read_groups(const struct sq_gptq_layer *layer, int32_t *groups)
{
    if (layer->g_idx)
        memcpy(groups, layer->g_idx->data, (size_t)layer->in_features * sizeof *groups);
    else
        for (int64_t k = 0; k < layer->in_features; k++)
            groups[k] = (int32_t)(k / layer->group_size);
    for (int64_t k = 0; k < layer->in_features; k++) {
        if (groups[k] >= 0 && groups[k] < layer->n_groups) continue;
        sq_error("%s: %s.g_idx[%lld] is %d, but there are %lld groups", layer->folder, layer->prefix, (long long)k,
                 (int)groups[k], (long long)layer->n_groups);
        return SQ_ERR_INPUT;
    }
    return SQ_OK;
}

static enum sq_status make_workspace(const struct sq_gptq_layer *layer, struct gptq_workspace *workspace_p)
{
    struct gptq_workspace w = {0};
    enum sq_status status = sq_alloc("g_idx", layer->in_features, sizeof *w.groups, (void **)&w.groups);
    if (status == SQ_OK)
        status = sq_alloc("scales", layer->n_groups, SQ_GPTQ_TILE * sizeof *w.scales, (void **)&w.scales);
    if (status == SQ_OK) status = sq_alloc("zeros", layer->n_groups, SQ_GPTQ_TILE, (void **)&w.zeros);
    if (status == SQ_OK) status = sq_alloc("codes", SQ_GPTQ_TILE, SQ_GPTQ_TILE, (void **)&w.codes);
    if (status == SQ_OK)
        status = sq_alloc("weights", SQ_GPTQ_TILE, SQ_GPTQ_TILE * sizeof *w.values, (void **)&w.values);
    if (status == SQ_OK) status = read_groups(layer, w.groups);
    if (status != SQ_OK) {
        release_workspace(&w);
        return status;
    }
    *workspace_p = w;
    return SQ_OK;
}

static enum sq_status read_scales(const struct sq_gptq_layer *layer, int64_t row, int64_t rows, float *scales)
{
    size_t size = sq_dtype_size(layer->scales->dtype);
    for (int64_t g = 0; g < layer->n_groups; g++) {
        int64_t first = g * layer->out_features + row;
        if (!sq_tensor_is_finite(layer->scales, first, rows)) return SQ_ERR_NUMERIC;
        sq_dtype_to_f32(layer->scales->dtype, (const char *)layer->scales->data + (size_t)first * size, rows,
                        scales + g * SQ_GPTQ_TILE);
    }
    return SQ_OK;
}

/* The less-one form came into the world by subtracting one from every field of a whole word at once, borrows between
 * fields included; adding it back to the whole word undoes exactly that. With 3 bits, where fields straddle words, it
 * was done field by field. */
void sq_gptq_read_zeros(const struct sq_gptq_layer *layer, int64_t group, int64_t row, int64_t rows, uint8_t *zeros)
{
    int bits = layer->bits;
    uint32_t mask = (1u << bits) - 1, ones = bits == 3 ? 0 : UINT32_MAX / mask, words[8] = {0};
    int64_t row_words = layer->qzeros->shape[1], first = row / SQ_GPTQ_TILE * bits;
    int64_t n_words = row_words - first < bits ? row_words - first : bits;
    const char *source = (const char *)layer->qzeros->data + 4 * (group * row_words + first);
    memcpy(words, source, (size_t)n_words * sizeof *words);
    for (int64_t w = 0; w < n_words && layer->settings.zeros_less_one; w++)
        words[w] += ones;
    sq_unpack_codes(bits, 1, row % SQ_GPTQ_TILE, rows, words, 1, zeros);
    for (int64_t c = 0; c < rows && layer->settings.zeros_less_one && bits == 3; c++)
        zeros[c] = (uint8_t)((zeros[c] + 1u) & mask);
}

/* Columns [column, column + columns) of the tile's rows; weights: the first of them in the tile's first row. */
static void dequantize_columns(const struct sq_gptq_layer *layer, const struct gptq_workspace *w, int64_t row,
                               int64_t rows, int64_t column, int64_t columns, float *weights)
{
    const char *words = (const char *)layer->qweight->data + 4 * row;
    sq_unpack_codes(layer->bits, rows, column, columns, words, layer->out_features, w->codes);
    for (int64_t k = 0; k < columns; k++) {
        const float *scales = w->scales + w->groups[column + k] * SQ_GPTQ_TILE;
        const uint8_t *zeros = w->zeros + w->groups[column + k] * SQ_GPTQ_TILE;
        for (int64_t c = 0; c < rows; c++)
            w->values[k * SQ_GPTQ_TILE + c] = scales[c] * (float)(w->codes[k * rows + c] - zeros[c]);
    }
    for (int64_t c = 0; c < rows; c++)
        for (int64_t k = 0; k < columns; k++)
            weights[c * layer->in_features + k] = w->values[k * SQ_GPTQ_TILE + c];
}

static enum sq_status dequantize_tile(const struct sq_gptq_layer *layer, const struct gptq_workspace *w, int64_t row,
                                      int64_t rows, float *weights)
{
    SQ_TRY(read_scales(layer, row, rows, w->scales));
    for (int64_t g = 0; g < layer->n_groups; g++)
        sq_gptq_read_zeros(layer, g, row, rows, w->zeros + g * SQ_GPTQ_TILE);
    for (int64_t k = 0; k < layer->in_features; k += SQ_GPTQ_TILE) {
        int64_t columns = k + SQ_GPTQ_TILE < layer->in_features ? SQ_GPTQ_TILE : layer->in_features - k;
        dequantize_columns(layer, w, row, rows, k, columns, weights + k);
    }
    return SQ_OK;
}

static enum sq_status dequantize_rows(const struct sq_gptq_layer *layer, int64_t row, int64_t rows, float *weights)
{
    struct gptq_workspace workspace;
    SQ_TRY(make_workspace(layer, &workspace));
    enum sq_status status = SQ_OK;
    int64_t end = row + rows;
    for (int64_t r = row; r < end && status == SQ_OK;) {
        int64_t next = (r / SQ_GPTQ_TILE + 1) * SQ_GPTQ_TILE < end ? (r / SQ_GPTQ_TILE + 1) * SQ_GPTQ_TILE : end;
        status = dequantize_tile(layer, &workspace, r, next - r, weights + (r - row) * layer->in_features);
        r = next;
    }
    release_workspace(&workspace);
    return status;
}

enum sq_status sq_gptq_read(const struct sq_linear_place *place, int64_t row, int64_t rows, float *weights)
{
    struct sq_gptq_layer layer;
    SQ_TRY(find_layer(place, &layer));
    return dequantize_rows(&layer, row, rows, weights);
}

bool sq_checkpoint_report_linear(const struct sq_checkpoint *checkpoint, const char *prefix)
{
    const struct sq_tensor *values = sq_checkpoint_find_part(checkpoint, prefix, "weight");
    if (!values) values = sq_checkpoint_find_part(checkpoint, prefix, "scales");
    return values && sq_tensor_report_not_finite(values);
}
