#include "io/format.h"

#include "io/describe.h"
#include "tensor/dtype.h"

/* --- plain weights, rounded: NAME.weight [out, in], or [in, out], in the source's type ---------------------------- */

static int list_plain(const struct sq_store_layer *layer, enum sq_dtype source, struct sq_safetensors_entry *parts)
{
    parts[0] = (struct sq_safetensors_entry){.name = ".weight", .dtype = source, .n_dims = 2};
    parts[0].shape[layer->is_transposed ? 1 : 0] = layer->out_features;
    parts[0].shape[layer->is_transposed ? 0 : 1] = layer->in_features;
    return 1;
}

/* Rows become columns. */
static void pack_turned(const struct sq_packed_layer *packed, int64_t row, int64_t rows, const float *weights)
{
    int64_t in = packed->layer->in_features, out = packed->layer->out_features;
    enum sq_dtype dtype = packed->parts[0].dtype;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < in; k++)
            sq_dtype_from_f32(&weights[r * in + k], 1, dtype,
                              (char *)packed->data[0] + (k * out + row + r) * (int64_t)sq_dtype_size(dtype));
}

static void pack_plain(const struct sq_packed_layer *packed, int64_t row, int64_t rows,
                       const struct sq_store_rows *tile, float *weights)
{
    int64_t in = packed->layer->in_features;
    enum sq_dtype dtype = packed->parts[0].dtype;
    sq_grid_dequantize(&packed->layer->grid, rows, in, tile->codes, tile->scales, tile->zeros, weights);
    if (packed->layer->is_transposed)
        pack_turned(packed, row, rows, weights);
    else
        sq_dtype_from_f32(weights, rows * in, dtype,
                          (char *)packed->data[0] + row * in * (int64_t)sq_dtype_size(dtype));
}

static void finish_plain(const struct sq_packed_layer *packed)
{
    (void)packed; /* the rows are all there is */
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

static const struct sq_format_writer plain = {
    .name = "plain",
    .list = list_plain,
    .pack_rows = pack_plain,
    .finish = finish_plain,
    .describe = sq_describe_plain,
};

static const struct sq_format_writer writers[] = {
    [SQ_FORMAT_GPTQ] = {.name = "gptq",
                        .mark = "checkpoint_format",
                        .has_quantize_config = true,
                        .list = sq_gptq_list,
                        .pack_rows = sq_gptq_pack_rows,
                        .finish = sq_gptq_finish_v1,
                        .describe = sq_describe_gptq},
    [SQ_FORMAT_GPTQ_V2] = {.name = "gptq_v2",
                           .mark = "checkpoint_format",
                           .has_quantize_config = true,
                           .list = sq_gptq_list,
                           .pack_rows = sq_gptq_pack_rows,
                           .finish = sq_gptq_finish_v2,
                           .describe = sq_describe_gptq},
    [SQ_FORMAT_COMPRESSED_TENSORS] = {.name = "compressed-tensors",
                                      .mark = "quant_method",
                                      .list = sq_packed_list,
                                      .pack_rows = sq_packed_pack_rows,
                                      .finish = sq_packed_finish,
                                      .describe = sq_describe_packed},
};

const struct sq_format_writer *sq_format_writer_find(enum sq_format format, bool dequantized)
{
    return dequantized ? &plain : &writers[format];
}
