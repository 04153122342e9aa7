/* Whether a layer of a checkpoint is what the store's fixture has, as its reader reads it and by the raw tensors. */
#ifndef SQ_TESTS_ASSEMBLE_RAW_H
#define SQ_TESTS_ASSEMBLE_RAW_H

#include "assemble_fixture.h"

/* Bits [position, position + bits) of a stream whose words lie `stride` apart. */
static inline int raw_field(const struct sq_tensor *tensor, int64_t first, int64_t stride, int64_t position, int bits)
{
    int value = 0;
    for (int64_t b = 0; b < bits; b++) {
        uint32_t word;
        memcpy(&word, (const char *)tensor->data + 4 * (first + (position + b) / 32 * stride), 4);
        value |= (int)(word >> (position + b) % 32 & 1) << b;
    }
    return value;
}

static inline const struct sq_tensor *find_part(const struct sq_checkpoint *written, const char *prefix,
                                                const char *part)
{
    char name[256];
    snprintf(name, sizeof name, "%s.%s", prefix, part);
    return sq_checkpoint_find(written, name);
}

/* One weight from the raw tensors, by the formula of the format alone. */
static inline float raw_weight(const struct sq_checkpoint *written, const struct sq_store_layer *layer, bool v2,
                               int64_t n, int64_t k)
{
    const struct sq_tensor *scales = find_part(written, layer->name, "scales");
    const struct sq_tensor *qzeros = find_part(written, layer->name, "qzeros");
    const struct sq_tensor *qweight = find_part(written, layer->name, "qweight");
    int64_t out = layer->out_features;
    int bits = layer->grid.bits;
    int32_t g;
    float scale;
    memcpy(&g, (const char *)find_part(written, layer->name, "g_idx")->data + 4 * k, 4);
    sq_dtype_to_f32(scales->dtype, (const char *)scales->data + 2 * (g * out + n), 1, &scale);
    int code = raw_field(qweight, n, out, k * bits, bits);
    int zero = raw_field(qzeros, g * qzeros->shape[1], 1, n * bits, bits) + (v2 ? 0 : 1);
    return scale * (float)(code - zero);
}

/* The same of compressed-tensors: rows stay rows, codes and zero points are signed. */
static inline float raw_packed(const struct sq_checkpoint *written, const struct sq_store_layer *layer, int64_t n,
                               int64_t k)
{
    const struct sq_tensor *scale = find_part(written, layer->name, "weight_scale");
    const struct sq_tensor *packed = find_part(written, layer->name, "weight_packed");
    const struct sq_tensor *zeros = find_part(written, layer->name, "weight_zero_point");
    int64_t groups = scale->shape[1], g = k / (layer->in_features / groups);
    int bits = layer->grid.bits, offset = 1 << (bits - 1);
    float value;
    sq_dtype_to_f32(scale->dtype, (const char *)scale->data + 2 * (n * groups + g), 1, &value);
    int code = raw_field(packed, n * packed->shape[1], 1, k * bits, bits) - offset;
    int zero = zeros ? raw_field(zeros, g, groups, n * bits, bits) - offset : 0;
    return value * (float)(code - zero);
}

static inline float raw_of(enum sq_format format, const struct sq_checkpoint *written,
                           const struct sq_store_layer *layer, int64_t n, int64_t k)
{
    return format == SQ_FORMAT_COMPRESSED_TENSORS ? raw_packed(written, layer, n, k)
                                                  : raw_weight(written, layer, format == SQ_FORMAT_GPTQ_V2, n, k);
}

static inline bool layer_is_right(const struct sq_checkpoint *written, const struct sq_store_layer *layer,
                                  enum sq_format format)
{
    static float rows[96 * MAX_IN];
    int64_t out = layer->out_features, in = layer->in_features;
    struct sq_checkpoint_linear linear = in_folder(layer);
    if (sq_checkpoint_check_linear(written, &linear) != SQ_OK) return false;
    if (sq_checkpoint_read_linear(written, &linear, 0, out, rows) != SQ_OK) return false;
    for (int64_t n = 0; n < out; n++) {
        struct fixture_row row;
        fixture_row(layer, n, &row);
        if (memcmp(row.weights, rows + n * in, (size_t)in * sizeof *rows)) return false;
        for (int64_t k = n % 5; k < in; k += 5)
            if (raw_of(format, written, layer, n, k) != row.weights[k]) return false;
    }
    return !find_part(written, layer->name, "weight");
}

#endif
