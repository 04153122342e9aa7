#include "io/fp8.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "io/checkpoint_private.h"
#include "io/mxfp4.h"

/* --- which part of the tensor a scale is for ---------------------------------------------------------------------- */

/* Rows and columns of a block; both 0 where config.json names none. */
struct block {
    int64_t rows, columns;
};

static bool read_block(const json_t *array, struct block *block_p)
{
    const json_t *rows = json_array_get(array, 0), *columns = json_array_get(array, 1);
    if (json_array_size(array) != 2 || json_integer_value(rows) < 1 || json_integer_value(columns) < 1) return false;
    *block_p = (struct block){json_integer_value(rows), json_integer_value(columns)};
    return true;
}

static struct block find_block(const json_t *config)
{
    const char *name;
    json_t *group;
    struct block block = {0};
    const json_t *settings = json_object_get(config, "quantization_config");
    if (read_block(json_object_get(settings, "weight_block_size"), &block)) return block;
    json_object_foreach(json_object_get(settings, "config_groups"), name, group)
    {
        (void)name;
        if (read_block(json_object_get(json_object_get(group, "weights"), "block_structure"), &block)) return block;
    }
    return block;
}

int64_t sq_fp8_block_rows(const struct sq_checkpoint *checkpoint)
{
    return find_block(checkpoint->config).rows;
}

static bool divides_into(int64_t length, int64_t part, int64_t count)
{
    return part > 0 && length / part + (length % part > 0) == count;
}

/* A part as long as the whole stands for any longer one. */
static int64_t at_most(int64_t part, int64_t length)
{
    return part > length && length > 0 ? length : part;
}

static int64_t dimension(const struct sq_tensor *tensor, int d)
{
    return d < tensor->n_dims ? tensor->shape[d] : 1;
}

static bool fits(const struct sq_tensor *tensor, const struct sq_tensor *scale, struct block block)
{
    return scale->n_dims <= 2 && divides_into(dimension(tensor, 0), block.rows, dimension(scale, 0)) &&
           divides_into(dimension(tensor, 1), block.columns, dimension(scale, 1));
}

/* The blocks of config.json, rows, or the whole: what explains the shape of the scales. */
static bool join(struct sq_tensor *tensor, const struct sq_tensor *scale, struct block block)
{
    if (tensor->dtype == SQ_MXFP4) {
        tensor->scale = sq_mxfp4_fits(tensor, scale) ? scale : NULL;
        return tensor->scale != NULL;
    }
    const struct block choices[] = {block, {1, dimension(tensor, 1)}, {dimension(tensor, 0), dimension(tensor, 1)}};
    bool is_float = scale->dtype == SQ_F32 || scale->dtype == SQ_F16 || scale->dtype == SQ_BF16;
    for (size_t i = 0; i < sizeof choices / sizeof *choices && is_float && tensor->n_dims == 2; i++) {
        if (!fits(tensor, scale, choices[i])) continue;
        tensor->scale = scale;
        tensor->scale_rows = at_most(choices[i].rows, dimension(tensor, 0));
        tensor->scale_columns = at_most(choices[i].columns, dimension(tensor, 1));
        return true;
    }
    return false;
}

/* --- joining ------------------------------------------------------------------------------------------------------ */

static const struct sq_tensor *find_scale(const struct sq_checkpoint *checkpoint, const struct sq_tensor *tensor)
{
    static const char *const endings[] = {"_scale_inv", "_scale"};
    const struct sq_tensor *scale = NULL;
    for (size_t i = 0; i < sizeof endings / sizeof *endings && !scale; i++) {
        char name[1100];
        int length = snprintf(name, sizeof name, "%s%s", tensor->name, endings[i]);
        if (length < (int)sizeof name) scale = sq_checkpoint_find(checkpoint, name);
    }
    return scale;
}

enum sq_status sq_fp8_join_scales(struct sq_checkpoint *checkpoint)
{
    struct block block = find_block(checkpoint->config);
    for (int64_t i = 0; i < checkpoint->n_tensors; i++) {
        struct sq_tensor *tensor = &checkpoint->tensors[i];
        bool may_have =
            sq_dtype_has_scales(tensor->dtype) && tensor->n_dims <= 2; /* fused experts that stay are not read */
        const struct sq_tensor *scale = may_have ? find_scale(checkpoint, tensor) : NULL;
        if (!scale) continue;
        if (join(tensor, scale, block)) continue;
        sq_error("%s: tensor %s: type %s with %d dimensions, the first %lld x %lld, are no scales for %s "
                 "[%lld, %lld] (blocks of config.json: %lld x %lld)",
                 scale->file, scale->name, sq_dtype_name(scale->dtype), scale->n_dims, (long long)dimension(scale, 0),
                 (long long)dimension(scale, 1), tensor->name, (long long)dimension(tensor, 0),
                 (long long)dimension(tensor, 1), (long long)block.rows, (long long)block.columns);
        return SQ_ERR_INPUT;
    }
    return SQ_OK;
}

/* --- use ---------------------------------------------------------------------------------------------------------- */

static float scale_at(const struct sq_tensor *scale, int64_t index)
{
    float value;
    sq_dtype_to_f32(scale->dtype, (const char *)scale->data + (size_t)index * sq_dtype_size(scale->dtype), 1, &value);
    return value;
}

void sq_fp8_scale(const struct sq_tensor *tensor, int64_t first, int64_t count, float *values)
{
    int64_t width = dimension(tensor, 1), block_columns = tensor->scale_columns;
    int64_t scales_per_row = (width + block_columns - 1) / block_columns;
    for (int64_t i = first, end; i < first + count; i = end) {
        int64_t row = i / width, column = i % width, block = column / block_columns;
        int64_t left = (block + 1) * block_columns < width ? (block + 1) * block_columns - column : width - column;
        float scale = scale_at(tensor->scale, row / tensor->scale_rows * scales_per_row + block);
        end = i + left < first + count ? i + left : first + count;
        for (int64_t j = i; j < end; j++)
            values[j - first] *= scale;
    }
}

bool sq_fp8_is_auxiliary(const struct sq_checkpoint *checkpoint, const struct sq_tensor *tensor)
{
    static const char *const endings[] = {".weight_scale_inv", ".weight_scale", ".input_scale", ".activation_scale"};
    size_t length = strlen(tensor->name);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        char prefix[1100];
        size_t ending = strlen(endings[i]);
        if (length <= ending || length - ending >= sizeof prefix) continue;
        if (strcmp(tensor->name + length - ending, endings[i]) != 0) continue;
        snprintf(prefix, sizeof prefix, "%.*s", (int)(length - ending), tensor->name);
        const struct sq_tensor *weight = sq_checkpoint_find_part(checkpoint, prefix, "weight");
        return weight && sq_dtype_has_scales(weight->dtype);
    }
    return false;
}
