/* Linear layers of a compressed-tensors checkpoint in format pack-quantized. With N = out_features, K = in_features, G
 * groups of equal size:
 *
 *   PREFIX.weight_packed      I32 [N, ceil(K * bits / 32)]   codes plus 2^(bits - 1), each row a stream along K
 *   PREFIX.weight_scale       F16, BF16 or F32 [N, G]
 *   PREFIX.weight_shape       I64 [2]                        N, K
 *   PREFIX.weight_zero_point  I32 [ceil(N * bits / 32), G]   zero points plus 2^(bits - 1), packed along N; asymmetric
 *
 *   W[n, k] = scale[n, k / (K / G)] * (code[n, k] - zero[n, k / (K / G)]) */
#include <math.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "io/codes.h"
#include "io/pack.h"
#include "io/packed_private.h"

/* --- finding a layer and checking its shapes ---------------------------------------------------------------------- */

/* The number of bits that explains the words of a row; 0: none. The shape says it itself. */
static int find_bits(const struct sq_packed_layer *layer)
{
    static const int known[] = {4, 8, 2, 3};
    const struct sq_tensor *packed = layer->packed;
    if (packed->dtype != SQ_I32 || packed->n_dims != 2 || packed->shape[0] != layer->place->out_features) return 0;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (sq_pack_words(layer->place->in_features, known[i]) == packed->shape[1]) return known[i];
    return 0;
}

static bool is_scale(const struct sq_packed_layer *layer)
{
    const struct sq_tensor *scale = layer->scale;
    bool is_float = scale->dtype == SQ_F16 || scale->dtype == SQ_BF16 || scale->dtype == SQ_F32;
    return is_float && scale->n_dims == 2 && scale->shape[0] == layer->place->out_features && scale->shape[1] > 0 &&
           layer->place->in_features % scale->shape[1] == 0;
}

static bool is_zero_point(const struct sq_packed_layer *layer)
{
    const struct sq_tensor *zeros = layer->zero_point;
    return zeros->dtype == SQ_I32 && zeros->n_dims == 2 && zeros->shape[1] == layer->n_groups &&
           zeros->shape[0] == sq_pack_words(layer->place->out_features, layer->grid.bits);
}

static bool is_shape(const struct sq_packed_layer *layer)
{
    int64_t found[2];
    if (layer->shape->dtype != SQ_I64 || layer->shape->n_dims != 1 || layer->shape->shape[0] != 2) return false;
    memcpy(found, layer->shape->data, sizeof found);
    return found[0] == layer->place->out_features && found[1] == layer->place->in_features;
}

static enum sq_status check_order(const struct sq_linear_place *place)
{
    const struct sq_tensor *order = sq_checkpoint_find_part(place->checkpoint, place->prefix, "weight_g_idx");
    if (!order) return SQ_OK;
    sq_error("%s: %s is there: groups that are not in the order of columns are not read", order->file, order->name);
    return SQ_ERR_INPUT;
}

static enum sq_status find_layer(const struct sq_linear_place *place, struct sq_packed_layer *layer_p)
{
    struct sq_packed_layer layer = {
        .place = place,
        .packed = sq_checkpoint_find_part(place->checkpoint, place->prefix, "weight_packed"),
        .scale = sq_checkpoint_find_part(place->checkpoint, place->prefix, "weight_scale"),
        .shape = sq_checkpoint_find_part(place->checkpoint, place->prefix, "weight_shape"),
        .zero_point = sq_checkpoint_find_part(place->checkpoint, place->prefix, "weight_zero_point"),
    };
    SQ_TRY(sq_linear_settings(place, "compressed-tensors", &layer.quantization, &layer.rule));
    SQ_TRY(check_order(place));
    layer.grid.bits = find_bits(&layer);
    if (!layer.grid.bits) return sq_linear_report_part(place, "weight_packed", layer.packed);
    if (!layer.shape || !is_shape(&layer)) return sq_linear_report_part(place, "weight_shape", layer.shape);
    if (!layer.scale || !is_scale(&layer)) return sq_linear_report_part(place, "weight_scale", layer.scale);
    layer.n_groups = layer.scale->shape[1];
    layer.grid.group_size = place->in_features / layer.n_groups;
    layer.grid.symmetric = !layer.zero_point;
    if (layer.zero_point && !is_zero_point(&layer))
        return sq_linear_report_part(place, "weight_zero_point", layer.zero_point);
    *layer_p = layer;
    return SQ_OK;
}

enum sq_status sq_packed_check(const struct sq_linear_place *place)
{
    struct sq_packed_layer layer;
    SQ_TRY(find_layer(place, &layer));
    return sq_packed_settings_compare(&layer);
}

/* --- dequantizing ------------------------------------------------------------------------------------------------- */

static enum sq_status read_scales(const struct sq_packed_layer *layer, int64_t row, float *scales)
{
    const struct sq_tensor *scale = layer->scale;
    size_t row_bytes = (size_t)layer->n_groups * sq_dtype_size(scale->dtype);
    sq_dtype_to_f32(scale->dtype, (const char *)scale->data + (size_t)row * row_bytes, layer->n_groups, scales);
    for (int64_t g = 0; g < layer->n_groups; g++) {
        if (isfinite(scales[g])) continue;
        sq_error("%s: %s[%lld, %lld] is %g", scale->file, scale->name, (long long)row, (long long)g, (double)scales[g]);
        return SQ_ERR_INPUT;
    }
    return SQ_OK;
}

static void read_zeros(const struct sq_packed_layer *layer, int64_t row, uint8_t *zeros)
{
    if (layer->zero_point)
        sq_unpack_codes(layer->grid.bits, layer->n_groups, row, 1, layer->zero_point->data, layer->n_groups, zeros);
    else
        memset(zeros, 1 << (layer->grid.bits - 1), (size_t)layer->n_groups);
}

/* scales f32 [G], zeros u8 [G], codes u8 [K]: room for one row. */
static enum sq_status read_rows(const struct sq_packed_layer *layer, int64_t row, int64_t rows, float *scales,
                                uint8_t *zeros, uint8_t *codes, float *weights)
{
    int64_t in = layer->place->in_features, row_bytes = 4 * layer->packed->shape[1];
    for (int64_t r = row; r < row + rows; r++) {
        SQ_TRY(read_scales(layer, r, scales));
        read_zeros(layer, r, zeros);
        sq_codes_unpack_row((const uint8_t *)layer->packed->data + r * row_bytes, in, layer->grid.bits, codes);
        sq_grid_dequantize(&layer->grid, 1, in, codes, scales, zeros, weights + (r - row) * in);
    }
    return SQ_OK;
}

enum sq_status sq_packed_read(const struct sq_linear_place *place, int64_t row, int64_t rows, float *weights)
{
    struct sq_packed_layer layer;
    void *scales = NULL, *zeros = NULL, *codes = NULL;
    SQ_TRY(find_layer(place, &layer));
    enum sq_status status = sq_alloc("scales", layer.n_groups, sizeof(float), &scales);
    if (status == SQ_OK) status = sq_alloc("zeros", layer.n_groups, 1, &zeros);
    if (status == SQ_OK) status = sq_alloc("codes", place->in_features, 1, &codes);
    if (status == SQ_OK) status = read_rows(&layer, row, rows, scales, zeros, codes, weights);
    sq_free(codes);
    sq_free(zeros);
    sq_free(scales);
    return status;
}
