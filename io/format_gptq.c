/* Layers in the formats gptq and gptq_v2. With N = out_features, K = in_features, G groups:
 *
 *   .qweight  I32 [ceil(K * bits / 32), N]   codes, packed along in_features
 *   .qzeros   I32 [G, ceil(N * bits / 32)]   zero points, packed along out_features; gptq stores them less one
 *   .scales   [G, N]
 *   .g_idx    I32 [K]                        column / group_size */
#include "io/format.h"
#include "io/pack.h"

enum { QWEIGHT, QZEROS, SCALES, G_IDX, N_PARTS };
_Static_assert(N_PARTS <= SQ_FORMAT_MAX_PARTS, "the parts have room");

int sq_gptq_list(const struct sq_store_layer *layer, enum sq_dtype source, struct sq_safetensors_entry *parts)
{
    (void)source;
    int64_t out = layer->out_features, in = layer->in_features, groups = sq_grid_n_groups(&layer->grid, in);
    int bits = layer->grid.bits;
    parts[QWEIGHT] = (struct sq_safetensors_entry){
        .name = ".qweight", .dtype = SQ_I32, .n_dims = 2, .shape = {sq_pack_words(in, bits), out}};
    parts[QZEROS] = (struct sq_safetensors_entry){
        .name = ".qzeros", .dtype = SQ_I32, .n_dims = 2, .shape = {groups, sq_pack_words(out, bits)}};
    parts[SCALES] = (struct sq_safetensors_entry){
        .name = ".scales", .dtype = layer->grid.scale_dtype, .n_dims = 2, .shape = {groups, out}};
    parts[G_IDX] = (struct sq_safetensors_entry){.name = ".g_idx", .dtype = SQ_I32, .n_dims = 1, .shape = {in}};
    return N_PARTS;
}

/* Rows become columns. */
void sq_gptq_pack_rows(const struct sq_packed_layer *packed, int64_t row, int64_t rows,
                       const struct sq_store_rows *tile, float *weights)
{
    (void)weights;
    const struct sq_store_layer *layer = packed->layer;
    int64_t out = layer->out_features, groups = sq_grid_n_groups(&layer->grid, layer->in_features);
    uint32_t *qweight = packed->data[QWEIGHT];
    uint16_t *scales = packed->data[SCALES];
    sq_pack_codes(layer->grid.bits, rows, layer->in_features, tile->codes, qweight + row, out);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t g = 0; g < groups; g++) {
            sq_dtype_from_f32(&tile->scales[r * groups + g], 1, layer->grid.scale_dtype, &scales[g * out + row + r]);
            packed->zeros[g * out + row + r] = tile->zeros[r * groups + g];
        }
}

void sq_gptq_finish_v2(const struct sq_packed_layer *packed)
{
    const struct sq_store_layer *layer = packed->layer;
    int64_t out = layer->out_features, groups = sq_grid_n_groups(&layer->grid, layer->in_features);
    int64_t words = sq_pack_words(out, layer->grid.bits);
    uint32_t *qzeros = packed->data[QZEROS];
    int32_t *g_idx = packed->data[G_IDX];
    for (int64_t g = 0; g < groups; g++)
        sq_pack_codes(layer->grid.bits, 1, out, packed->zeros + g * out, qzeros + g * words, 1);
    for (int64_t k = 0; k < layer->in_features; k++)
        g_idx[k] = (int32_t)(k / layer->grid.group_size);
}

void sq_gptq_finish_v1(const struct sq_packed_layer *packed)
{
    const struct sq_store_layer *layer = packed->layer;
    int64_t count = layer->out_features * sq_grid_n_groups(&layer->grid, layer->in_features);
    for (int64_t i = 0; i < count; i++)
        packed->zeros[i]--;
    sq_gptq_finish_v2(packed);
}
