#include "io/fused_parts.h"

#include "io/mxfp4.h"

static const char *find_shape_problem(enum sq_fused_layout layout, int n_parts, const struct sq_tensor *tensor)
{
    static const struct {
        int n_dims, outputs; /* the dimension of outputs */
        const char *shape, *even;
    } layouts[] = {
        [SQ_FUSED_ROWS] = {3, 1, "three dimensions: experts, outputs, inputs",
                           "an even number of outputs: gate, then up"},
        [SQ_FUSED_COLUMNS] = {3, 2, "three dimensions: experts, inputs, outputs",
                              "an even number of outputs, the third dimension: gate and up"},
        [SQ_FUSED_BIASES] = {2, 1, "two dimensions: experts, outputs", "an even number of outputs: gate and up"},
        [SQ_FUSED_BLOCKS] = {4, 1, "four dimensions: experts, outputs, blocks, 16",
                             "an even number of outputs: gate and up"},
        [SQ_FUSED_SCALES] = {3, 1, "three dimensions: experts, outputs, blocks",
                             "an even number of outputs: gate and up"},
    };
    if (tensor->n_dims != layouts[layout].n_dims) return layouts[layout].shape;
    if (layout == SQ_FUSED_BLOCKS && tensor->shape[3] != SQ_MXFP4_BLOCK / 2) return layouts[layout].shape;
    if (tensor->shape[layouts[layout].outputs] % n_parts) return layouts[layout].even;
    return tensor->bytes == 0 ? "elements" : NULL;
}

const char *sq_fused_find_problem(enum sq_fused_layout layout, int n_parts, const struct sq_tensor *tensor)
{
    bool is_packed = layout == SQ_FUSED_BLOCKS || layout == SQ_FUSED_SCALES;
    const char *problem = find_shape_problem(layout, n_parts, tensor);
    if (problem) return problem;
    if (is_packed) return tensor->dtype == SQ_U8 ? NULL : "bytes (U8)";
    bool is_dense =
        layout == SQ_FUSED_ROWS || tensor->dtype == SQ_F32 || tensor->dtype == SQ_F16 || tensor->dtype == SQ_BF16;
    return is_dense ? NULL : "F32, F16 or BF16";
}

bool sq_fused_is_match(enum sq_fused_layout layout, const struct sq_tensor *gate_up, const struct sq_tensor *down)
{
    const int64_t *a = gate_up->shape, *b = down->shape;
    if (gate_up->n_dims != down->n_dims) return true; /* said by others */
    switch (layout) {
    case SQ_FUSED_ROWS:
        return a[0] == b[0] && a[1] == 2 * b[2] && a[2] == b[1];
    case SQ_FUSED_COLUMNS:
        return a[0] == b[0] && a[2] == 2 * b[1] && a[1] == b[2];
    case SQ_FUSED_BLOCKS:
    case SQ_FUSED_SCALES:
        return a[0] == b[0] && a[1] == 2 * SQ_MXFP4_BLOCK * b[2] && SQ_MXFP4_BLOCK * a[2] == b[1];
    case SQ_FUSED_BIASES:
        break;
    }
    return a[0] == b[0];
}

/* One expert's part of so many elements, from the first of them on, as rows of a tensor of n_dims. */
static struct sq_tensor part_of(const struct sq_tensor *whole, int64_t first, int n_dims, int64_t rows, int64_t columns)
{
    struct sq_tensor part = *whole;
    size_t size = sq_dtype_size(whole->dtype);
    part.n_dims = n_dims;
    part.shape[0] = rows;
    part.shape[1] = n_dims == 1 ? 0 : columns;
    part.shape[2] = part.shape[3] = 0;
    part.bytes = (size_t)(rows * columns) * size;
    part.data = (const char *)whole->data + (size_t)first * size;
    return part;
}

struct sq_tensor sq_fused_part(enum sq_fused_layout layout, int n_parts, const struct sq_tensor *whole, int64_t expert,
                               int part)
{
    const int64_t *shape = whole->shape;
    int64_t outputs = shape[layout == SQ_FUSED_COLUMNS ? 2 : 1], rows = outputs / n_parts;
    int64_t first = expert * outputs + part * rows;
    struct sq_tensor found;
    switch (layout) {
    case SQ_FUSED_COLUMNS:
        found = part_of(whole, expert * shape[1] * outputs + part * rows, 2, rows, shape[1]);
        found.column_step = outputs;
        return found;
    case SQ_FUSED_BIASES:
        return part_of(whole, first, 1, rows, 1);
    case SQ_FUSED_BLOCKS:
        found = part_of(whole, first * shape[2] * shape[3], 2, rows, shape[2] * shape[3]);
        found.dtype = SQ_MXFP4;
        found.shape[1] = shape[2] * SQ_MXFP4_BLOCK;
        return found;
    case SQ_FUSED_SCALES:
    case SQ_FUSED_ROWS:
        break;
    }
    return part_of(whole, first * shape[2], 2, rows, shape[2]);
}
