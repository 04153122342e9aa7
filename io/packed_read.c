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
#include "io/linear_form.h"
#include "io/pack.h"
#include "tensor/grid.h"

struct packed_layer {
    const struct sq_linear_place *place;
    const struct sq_tensor *packed, *scale, *shape, *zero_point; /* zero_point: NULL when symmetric */
    struct sq_grid grid;
    int64_t n_groups;
};

/* --- finding a layer and checking its shapes ---------------------------------------------------------------------- */

static enum sq_status check_settings(const struct sq_linear_place *place)
{
    const json_t *settings;
    SQ_TRY(sq_linear_settings(place, "compressed-tensors", &settings));
    const char *format = json_string_value(json_object_get(settings, "format"));
    if (format && (!strcmp(format, "pack-quantized") || !strcmp(format, "mixed-precision"))) return SQ_OK;
    sq_error("%s: config.json: format is %s; only pack-quantized is read", sq_checkpoint_folder(place->checkpoint),
             format ? format : "missing");
    return SQ_ERR_INPUT;
}

/* The number of bits that explains the words of a row; 0: none. Settings differ between layers, and which applies to
 * which is said in patterns; the shape says it itself. */
static int find_bits(const struct packed_layer *layer)
{
    static const int known[] = {4, 8, 2, 3};
    const struct sq_tensor *packed = layer->packed;
    if (packed->dtype != SQ_I32 || packed->n_dims != 2 || packed->shape[0] != layer->place->out_features) return 0;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (sq_pack_words(layer->place->in_features, known[i]) == packed->shape[1]) return known[i];
    return 0;
}

static bool is_scale(const struct packed_layer *layer)
{
    const struct sq_tensor *scale = layer->scale;
    bool is_float = scale->dtype == SQ_F16 || scale->dtype == SQ_BF16 || scale->dtype == SQ_F32;
    return is_float && scale->n_dims == 2 && scale->shape[0] == layer->place->out_features && scale->shape[1] > 0 &&
           layer->place->in_features % scale->shape[1] == 0;
}

static bool is_zero_point(const struct packed_layer *layer)
{
    const struct sq_tensor *zeros = layer->zero_point;
    return zeros->dtype == SQ_I32 && zeros->n_dims == 2 && zeros->shape[1] == layer->n_groups &&
           zeros->shape[0] == sq_pack_words(layer->place->out_features, layer->grid.bits);
}

static bool is_shape(const struct packed_layer *layer)
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

static enum sq_status find_layer(const struct sq_linear_place *place, struct packed_layer *layer_p)
{
    struct packed_layer layer = {
        .place = place,
        .packed = sq_checkpoint_find_part(place->checkpoint, place->prefix, "weight_packed"),
        .scale = sq_checkpoint_find_part(place->checkpoint, place->prefix, "weight_scale"),
        .shape = sq_checkpoint_find_part(place->checkpoint, place->prefix, "weight_shape"),
        .zero_point = sq_checkpoint_find_part(place->checkpoint, place->prefix, "weight_zero_point"),
    };
    SQ_TRY(check_settings(place));
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

/* weights: of an entry of config_groups. */
static bool is_described(const struct packed_layer *layer, const json_t *weights)
{
    int64_t size = json_integer_value(json_object_get(weights, "group_size")); /* 0, also for null: none */
    return json_integer_value(json_object_get(weights, "num_bits")) == layer->grid.bits &&
           layer->n_groups == sq_group_count(layer->place->in_features, size) &&
           json_is_false(json_object_get(weights, "symmetric")) != layer->grid.symmetric;
}

/* Readers that go by config_groups would take tensors that it does not describe for other weights. Its targets are not
 * matched. */
static enum sq_status compare_settings(const struct packed_layer *layer)
{
    const char *name;
    const json_t *settings;
    json_t *group;
    SQ_TRY(sq_linear_settings(layer->place, "compressed-tensors", &settings));
    json_t *groups = json_object_get(settings, "config_groups");
    if (json_object_size(groups) == 0) return SQ_OK;
    json_object_foreach(groups, name, group)
    {
        if (is_described(layer, json_object_get(group, "weights"))) return SQ_OK;
    }
    sq_error(
        "%s: config.json: config_groups has nothing with the num_bits %d, %lld group%s of %lld inputs and symmetric "
        "%s of %s",
        sq_checkpoint_folder(layer->place->checkpoint), layer->grid.bits, (long long)layer->n_groups,
        layer->n_groups == 1 ? "" : "s", (long long)layer->place->in_features, layer->grid.symmetric ? "true" : "false",
        layer->place->prefix);
    return SQ_ERR_INPUT;
}

enum sq_status sq_packed_check(const struct sq_linear_place *place)
{
    struct packed_layer layer;
    SQ_TRY(find_layer(place, &layer));
    return compare_settings(&layer);
}

/* --- dequantizing ------------------------------------------------------------------------------------------------- */

static enum sq_status read_scales(const struct packed_layer *layer, int64_t row, float *scales)
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

static void read_zeros(const struct packed_layer *layer, int64_t row, uint8_t *zeros)
{
    if (layer->zero_point)
        sq_unpack_codes(layer->grid.bits, layer->n_groups, row, 1, layer->zero_point->data, layer->n_groups, zeros);
    else
        memset(zeros, 1 << (layer->grid.bits - 1), (size_t)layer->n_groups);
}

/* scales f32 [G], zeros u8 [G], codes u8 [K]: room for one row. */
static enum sq_status read_rows(const struct packed_layer *layer, int64_t row, int64_t rows, float *scales,
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
    struct packed_layer layer;
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
