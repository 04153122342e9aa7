/* Reading a Hugging Face folder: config.json and one or many safetensors files, memory-mapped and checked whole before
 * use. */
#ifndef SQ_IO_CHECKPOINT_H
#define SQ_IO_CHECKPOINT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "io/json.h"
#include "tensor/dtype.h"

#define SQ_TENSOR_MAX_DIMS 8

struct sq_tensor {
    char *name;
    enum sq_dtype dtype;
    int n_dims;
    int64_t shape[SQ_TENSOR_MAX_DIMS];
    const void *data; /* into the map, read only; at any address: older writers do not align it. NULL: of a bare
                         checkpoint */
    size_t bytes;
    const char *file; /* the file's path, for messages */
    bool is_mapped;   /* data lie in a file map, whose pages may be given back */

    /* F8_E4M3 and MXFP4 only: a tensor of scales, of which one counts for scale_rows x scale_columns elements; NULL:
     * none was found, and the tensor cannot be read as numbers */
    const struct sq_tensor *scale;
    int64_t scale_rows, scale_columns;

    /* A part of a larger tensor that lies turned in it: element (i, j) is i + column_step j elements behind the first;
     * 0: rows follow each other, as usual */
    int64_t column_step;
};

struct sq_checkpoint;

/* Opens a folder: config.json, model.safetensors or model.safetensors.index.json with its shards. Every header is
 * checked: length, JSON, duplicate names (also across shards), dtype, shape, offsets inside the file, not overlapping,
 * no holes; every tensor of the index is in the shard it names. Tensors that have scales are joined with them
 * (io/scales.h); fused experts are taken apart (io/fused.h). Local. */
enum sq_status sq_checkpoint_open(const char *folder, struct sq_checkpoint **checkpoint_p) SQ_MUST_CHECK;
void sq_checkpoint_close(struct sq_checkpoint *checkpoint);

/* Opens config.json alone, by its own path or that of its folder: a checkpoint that is bare. Every tensor is then
 * there, of any shape, and reading one leaves the values as they are. For plans. Local. */
enum sq_status sq_checkpoint_open_bare(const char *path, struct sq_checkpoint **checkpoint_p) SQ_MUST_CHECK;
bool sq_checkpoint_is_bare(const struct sq_checkpoint *checkpoint);

const char *sq_checkpoint_folder(const struct sq_checkpoint *checkpoint);
const json_t *sq_checkpoint_config(const struct sq_checkpoint *checkpoint); /* config.json, borrowed */

/* quantization_config of config.json or, where layers are quantized and it has none, quantize_config.json; NULL where
 * there is neither. Borrowed. */
const json_t *sq_checkpoint_quantization(const struct sq_checkpoint *checkpoint);

/* All tensors in the order of name; NULL where the name is absent. Borrowed. Local. */
int64_t sq_checkpoint_n_tensors(const struct sq_checkpoint *checkpoint);
const struct sq_tensor *sq_checkpoint_tensor(const struct sq_checkpoint *checkpoint, int64_t index);
const struct sq_tensor *sq_checkpoint_find(const struct sq_checkpoint *checkpoint, const char *name);

/* As find, of "prefix.part". */
const struct sq_tensor *sq_checkpoint_find_part(const struct sq_checkpoint *checkpoint, const char *prefix,
                                                const char *part);

/* As find, but absence or another shape is SQ_ERR_INPUT with one message naming folder, tensor and both shapes;
 * the dtype must be F32, F16 or BF16, or F8_E4M3 or MXFP4 with scales. */
enum sq_status sq_checkpoint_require(const struct sq_checkpoint *checkpoint, const char *name, int n_dims,
                                     const int64_t *shape, const struct sq_tensor **tensor_p) SQ_MUST_CHECK;

/* Whether `data` are the elements, one behind the other, as numbers of the tensor's type. Local. */
bool sq_tensor_is_plain(const struct sq_tensor *tensor);

/* Number of elements; and bytes from the first to the end of the last, in the map. Local. */
int64_t sq_tensor_count(const struct sq_tensor *tensor);
size_t sq_tensor_span(const struct sq_tensor *tensor);

/* Dimension d; 1 behind the last. Local. */
static inline int64_t sq_tensor_dimension(const struct sq_tensor *tensor, int d)
{
    return d < tensor->n_dims ? tensor->shape[d] : 1;
}

/* SQ_ERR_INPUT naming the tensor when it does not hold numbers that sq_tensor_read_f32() reads. Local. */
enum sq_status sq_tensor_check_readable(const struct sq_tensor *tensor) SQ_MUST_CHECK;

/* Elements [first, first + count), in the order of storage, as float; fails as sq_tensor_read_f32(). Local. */
enum sq_status sq_tensor_read_elements_f32(const struct sq_tensor *tensor, int64_t first, int64_t count,
                                           float *values) SQ_MUST_CHECK;

/* Rows [row, row + rows) of a tensor (all dims after the first flattened) as float, times its scales. NaN or
 * infinity is SQ_ERR_NUMERIC without a message: many ranks and threads read parts of a tensor, and one of them says it
 * once, with sq_tensor_report_not_finite(). The pages are given back to the system afterwards, except by reads of less
 * than 64 KiB (single rows of an embedding table), where that would cost more than the copy: see
 * sq_tensor_give_back(). Local. */
enum sq_status sq_tensor_read_f32(const struct sq_tensor *tensor, int64_t row, int64_t rows,
                                  float *values) SQ_MUST_CHECK;

/* Whether elements [first, first + count) of a plain tensor, in the order of storage, are neither NaN nor infinite;
 * integers always are finite. Local. */
bool sq_tensor_is_finite(const struct sq_tensor *tensor, int64_t first, int64_t count);

/* Looks through the whole tensor and prints its first value that is NaN or infinite, with file, name and place. Returns
 * whether there is one. Local. */
bool sq_tensor_report_not_finite(const struct sq_tensor *tensor);

/* Columns [column, column + columns) of a tensor of two dimensions [rows, width] as float, turned: values [columns,
 * rows]. Fails as sq_tensor_read_f32(); the pages are given back with the last column. Local. */
enum sq_status sq_tensor_read_columns_f32(const struct sq_tensor *tensor, int64_t column, int64_t columns,
                                          float *values) SQ_MUST_CHECK;

/* Takes the tensor's pages out of the process after its data were used directly or in small reads; they come back on
 * the next access. Local. */
void sq_tensor_give_back(const struct sq_tensor *tensor);

/* XXH3 over config.json (and quantize_config.json where that is read), the names, dtypes and shapes of all tensors and,
 * of each, 34 evenly spaced pages of 4 KiB, the first and the last bytes among them; tensors of up to 136 KiB are
 * covered whole. Cheap, and another model or another training step shows; a change confined to the bytes between the
 * pages does not. */
uint64_t sq_checkpoint_fingerprint(const struct sq_checkpoint *checkpoint);

/* --- linear layers, plain or quantized (io/linear_read.c) ----------------------------------------------------------
 */

/* A linear layer y = x W' with W [out_features, in_features]. */
struct sq_checkpoint_linear {
    const char *name; /* "model.layers.0.mlp.up_proj" */
    int64_t out_features, in_features;
    bool is_transposed; /* NAME.weight holds W'; a quantized layer has one form only */
};

/* Rows [row, row + rows) of W as float [rows, in_features]: from NAME.weight, or dequantized from NAME.qweight, qzeros,
 * scales, g_idx (gptq and gptq_v2), or from NAME.weight_packed, weight_scale, weight_shape, weight_zero_point
 * (compressed-tensors, pack-quantized), with 2, 3, 4 or 8 bits. Rows that the layer does not have are SQ_ERR_INPUT; a
 * weight or scale that is NaN or infinite is SQ_ERR_NUMERIC without a message, which sq_checkpoint_report_linear()
 * gives. Local. */
enum sq_status sq_checkpoint_read_linear(const struct sq_checkpoint *checkpoint,
                                         const struct sq_checkpoint_linear *linear, int64_t row, int64_t rows,
                                         float *weights) SQ_MUST_CHECK;

/* sq_tensor_report_not_finite() of the layer's weight or scales. Local. */
bool sq_checkpoint_report_linear(const struct sq_checkpoint *checkpoint, const char *prefix);

/* Checks that the layer is there, in any of the forms, with this shape. Local. */
enum sq_status sq_checkpoint_check_linear(const struct sq_checkpoint *checkpoint,
                                          const struct sq_checkpoint_linear *linear) SQ_MUST_CHECK;

/* Bytes of the layer's codes, scales and zero points; 0 when it is not quantized. Local. */
int64_t sq_checkpoint_quantized_bytes(const struct sq_checkpoint *checkpoint, const char *name);

#endif
