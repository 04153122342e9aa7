#include "io/fp8.h"

/* --- which part of the tensor a scale is for ---------------------------------------------------------------------- */

static bool read_block(const json_t *array, struct sq_fp8_block *block_p)
{
    const json_t *rows = json_array_get(array, 0), *columns = json_array_get(array, 1);
    if (json_array_size(array) != 2 || json_integer_value(rows) < 1 || json_integer_value(columns) < 1) return false;
    *block_p = (struct sq_fp8_block){json_integer_value(rows), json_integer_value(columns)};
    return true;
}

struct sq_fp8_block sq_fp8_find_block(const json_t *config)
{
    const char *name;
    json_t *group;
    struct sq_fp8_block block = {0};
    const json_t *settings = json_object_get(config, "quantization_config");
    if (read_block(json_object_get(settings, "weight_block_size"), &block)) return block;
    json_object_foreach(json_object_get(settings, "config_groups"), name, group)
    {
        (void)name;
        if (read_block(json_object_get(json_object_get(group, "weights"), "block_structure"), &block)) return block;
    }
    return block;
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

static bool fits(const struct sq_tensor *tensor, const struct sq_tensor *scale, struct sq_fp8_block block)
{
    return scale->n_dims <= 2 &&
           divides_into(sq_tensor_dimension(tensor, 0), block.rows, sq_tensor_dimension(scale, 0)) &&
           divides_into(sq_tensor_dimension(tensor, 1), block.columns, sq_tensor_dimension(scale, 1));
}

/* The blocks of config.json, rows, or the whole: what explains the shape of the scales. */
bool sq_fp8_join(struct sq_tensor *tensor, const struct sq_tensor *scale, struct sq_fp8_block block)
{
    const struct sq_fp8_block choices[] = {
        block, {1, sq_tensor_dimension(tensor, 1)}, {sq_tensor_dimension(tensor, 0), sq_tensor_dimension(tensor, 1)}};
    bool is_float = scale->dtype == SQ_F32 || scale->dtype == SQ_F16 || scale->dtype == SQ_BF16;
    for (size_t i = 0; i < sizeof choices / sizeof *choices && is_float && tensor->n_dims == 2; i++) {
        if (!fits(tensor, scale, choices[i])) continue;
        tensor->scale = scale;
        tensor->scale_rows = at_most(choices[i].rows, sq_tensor_dimension(tensor, 0));
        tensor->scale_columns = at_most(choices[i].columns, sq_tensor_dimension(tensor, 1));
        return true;
    }
    return false;
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
    int64_t width = sq_tensor_dimension(tensor, 1), block_columns = tensor->scale_columns;
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
