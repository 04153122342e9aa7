#include <assert.h>
#include <math.h>

#include "base/half.h"
#include "base/log.h"
#include "io/checkpoint.h"
#include "io/fp8.h"
#include "io/map.h"

#define CHUNK 4096                          /* elements converted and checked while they are in the first cache */
#define GIVE_BACK_MIN_BYTES ((size_t)65536) /* below, a system call and new page faults cost more than the copy */

static int64_t row_elements(const struct sq_tensor *tensor)
{
    int64_t elements = 1;
    for (int i = 1; i < tensor->n_dims; i++)
        elements *= tensor->shape[i];
    return elements;
}

static bool all_finite(const float *values, int64_t count)
{
    uint32_t bad = 0;
    for (int64_t i = 0; i < count; i++)
        bad |= (sq_f32_bits(values[i]) & 0x7f800000u) == 0x7f800000u;
    return !bad;
}

static enum sq_status report_not_finite(const struct sq_tensor *tensor, int64_t first, const float *values)
{
    int64_t i = 0, elements = row_elements(tensor);
    while (isfinite(values[i]))
        i++;
    sq_error("%s: tensor %s: value %g in row %lld, column %lld", tensor->file, tensor->name, (double)values[i],
             (long long)((first + i) / elements), (long long)((first + i) % elements));
    return SQ_ERR_INPUT;
}

enum sq_status sq_tensor_check_readable(const struct sq_tensor *tensor)
{
    if (!sq_dtype_is_floating(tensor->dtype)) {
        sq_error("%s: tensor %s has dtype %s where F32, F16, BF16 or F8_E4M3 is needed", tensor->file, tensor->name,
                 sq_dtype_name(tensor->dtype));
        return SQ_ERR_INPUT;
    }
    if (tensor->dtype != SQ_F8_E4M3 || tensor->scale) return SQ_OK;
    sq_error("%s: tensor %s has dtype F8_E4M3, and there is neither %s_scale_inv nor %s_scale", tensor->file,
             tensor->name, tensor->name, tensor->name);
    return SQ_ERR_INPUT;
}

/* Elements [first, first + count). */
enum sq_status sq_tensor_read_elements_f32(const struct sq_tensor *tensor, int64_t first, int64_t count, float *values)
{
    const unsigned char *source = (const unsigned char *)tensor->data + (size_t)first * sq_dtype_size(tensor->dtype);
    for (int64_t done = 0; done < count; done += CHUNK) {
        int64_t n = count - done < CHUNK ? count - done : CHUNK;
        sq_dtype_to_f32(tensor->dtype, source + (size_t)done * sq_dtype_size(tensor->dtype), n, values + done);
        if (tensor->scale) sq_fp8_scale(tensor, first + done, n, values + done);
        if (!all_finite(values + done, n)) return report_not_finite(tensor, first + done, values + done);
    }
    return SQ_OK;
}

enum sq_status sq_tensor_read_f32(const struct sq_tensor *tensor, int64_t row, int64_t rows, float *values)
{
    SQ_TRY(sq_tensor_check_readable(tensor));
    assert(row >= 0 && rows >= 0 && row + rows <= (tensor->n_dims > 0 ? tensor->shape[0] : 1));
    int64_t elements = row_elements(tensor);
    enum sq_status status = sq_tensor_read_elements_f32(tensor, row * elements, rows * elements, values);
    size_t row_bytes = (size_t)elements * sq_dtype_size(tensor->dtype);
    if (tensor->is_mapped && (size_t)rows * row_bytes >= GIVE_BACK_MIN_BYTES)
        sq_map_give_back((const unsigned char *)tensor->data + (size_t)row * row_bytes, (size_t)rows * row_bytes);
    return status;
}

enum sq_status sq_tensor_read_columns_f32(const struct sq_tensor *tensor, int64_t column, int64_t columns,
                                          float *values)
{
    enum { PIECE = 256 };
    float piece[PIECE];
    SQ_TRY(sq_tensor_check_readable(tensor));
    int64_t rows = tensor->shape[0], width = row_elements(tensor);
    assert(tensor->n_dims == 2 && column >= 0 && columns >= 0 && column + columns <= width);
    for (int64_t row = 0; row < rows; row++)
        for (int64_t first = 0, n; first < columns; first += n) {
            n = columns - first < PIECE ? columns - first : PIECE;
            SQ_TRY(sq_tensor_read_elements_f32(tensor, row * width + column + first, n, piece));
            for (int64_t i = 0; i < n; i++)
                values[(first + i) * rows + row] = piece[i];
        }
    if (column + columns == width) sq_tensor_give_back(tensor);
    return SQ_OK;
}

void sq_tensor_give_back(const struct sq_tensor *tensor)
{
    if (tensor->is_mapped) sq_map_give_back(tensor->data, tensor->bytes);
}
