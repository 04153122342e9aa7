/* Layers in the format compressed-tensors (pack-quantized); the tensors are drawn in io/packed_read.c. A row of the
 * store and a row of weight_packed are the same stream of bits, but for the bytes that fill the last word. Codes and
 * zero points are signed in that format and stored plus 2^(bits - 1): the store's own numbers. */
#include <string.h>

#include "io/codes.h"
#include "io/format.h"
#include "io/pack.h"

enum { PACKED, SCALE, SHAPE, ZERO_POINT, N_PARTS };
_Static_assert(N_PARTS <= SQ_FORMAT_MAX_PARTS, "the parts have room");

int sq_packed_list(const struct sq_store_layer *layer, enum sq_dtype source, struct sq_safetensors_entry *parts)
{
    (void)source;
    int64_t out = layer->out_features, in = layer->in_features, groups = sq_grid_n_groups(&layer->grid, in);
    int bits = layer->grid.bits;
    parts[PACKED] = (struct sq_safetensors_entry){
        .name = ".weight_packed", .dtype = SQ_I32, .n_dims = 2, .shape = {out, sq_pack_words(in, bits)}};
    parts[SCALE] = (struct sq_safetensors_entry){
        .name = ".weight_scale", .dtype = layer->grid.scale_dtype, .n_dims = 2, .shape = {out, groups}};
    parts[SHAPE] = (struct sq_safetensors_entry){.name = ".weight_shape", .dtype = SQ_I64, .n_dims = 1, .shape = {2}};
    if (layer->grid.symmetric) return ZERO_POINT;
    parts[ZERO_POINT] = (struct sq_safetensors_entry){
        .name = ".weight_zero_point", .dtype = SQ_I32, .n_dims = 2, .shape = {sq_pack_words(out, bits), groups}};
    return N_PARTS;
}

void sq_packed_pack_rows(const struct sq_packed_layer *packed, int64_t row, int64_t rows,
                         const struct sq_store_rows *tile, float *weights)
{
    (void)weights;
    const struct sq_store_layer *layer = packed->layer;
    int64_t out = layer->out_features, in = layer->in_features, groups = sq_grid_n_groups(&layer->grid, in);
    int64_t row_bytes = 4 * sq_pack_words(in, layer->grid.bits);
    uint16_t *scales = packed->data[SCALE];
    sq_dtype_from_f32(tile->scales, rows * groups, layer->grid.scale_dtype, scales + row * groups);
    for (int64_t r = 0; r < rows; r++) {
        sq_codes_pack_row(tile->codes + r * in, in, layer->grid.bits,
                          (uint8_t *)packed->data[PACKED] + (row + r) * row_bytes);
        for (int64_t g = 0; g < groups; g++)
            packed->zeros[g * out + row + r] = tile->zeros[r * groups + g];
    }
}

void sq_packed_finish(const struct sq_packed_layer *packed)
{
    const struct sq_store_layer *layer = packed->layer;
    const int64_t shape[2] = {layer->out_features, layer->in_features};
    int64_t groups = sq_grid_n_groups(&layer->grid, layer->in_features);
    memcpy(packed->data[SHAPE], shape, sizeof shape);
    if (!layer->grid.symmetric)
        sq_pack_codes(layer->grid.bits, groups, layer->out_features, packed->zeros, packed->data[ZERO_POINT], groups);
}
