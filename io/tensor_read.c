#include <assert.h>
#include <string.h>

#include "base/log.h"
#include "io/checkpoint.h"
#include "io/fp8.h"
#include "io/map.h"
#include "io/mxfp4.h"

#define CHUNK 4096                          /* elements converted and checked while they are in the first cache */
#define GIVE_BACK_MIN_BYTES ((size_t)65536) /* below, a system call and new page faults cost more than the copy */

static int64_t row_elements(const struct sq_tensor *tensor)
{
    int64_t elements = 1;
    for (int i = 1; i < tensor->n_dims; i++)
        elements *= tensor->shape[i];
    return elements;
}

/* --- where elements are ------------------------------------------------------------------------------------------- */

bool sq_tensor_is_plain(const struct sq_tensor *tensor)
{
    return tensor->column_step == 0 && tensor->dtype != SQ_MXFP4;
}

int64_t sq_tensor_count(const struct sq_tensor *tensor)
{
    return (tensor->n_dims > 0 ? tensor->shape[0] : 1) * row_elements(tensor);
}

size_t sq_tensor_span(const struct sq_tensor *tensor)
{
    if (tensor->column_step == 0 || tensor->bytes == 0) return tensor->bytes;
    return (size_t)(tensor->shape[0] + (tensor->shape[1] - 1) * tensor->column_step) * sq_dtype_size(tensor->dtype);
}

/* --- NaN and infinity --------------------------------------------------------------------------------------------- */

/* Whether no value has an exponent of ones. The data may lie at any address. */
#define DEFINE_ALL_FINITE(name, type)                                                                                  \
    static bool name(const unsigned char *data, int64_t count, type exponent)                                          \
    {                                                                                                                  \
        int bad = 0;                                                                                                   \
        for (int64_t i = 0; i < count; i++) {                                                                          \
            type bits;                                                                                                 \
            memcpy(&bits, data + (size_t)i * sizeof bits, sizeof bits);                                                \
            bad |= (bits & exponent) == exponent;                                                                      \
        }                                                                                                              \
        return !bad;                                                                                                   \
    }
DEFINE_ALL_FINITE(all_finite_8, uint8_t)
DEFINE_ALL_FINITE(all_finite_16, uint16_t)
DEFINE_ALL_FINITE(all_finite_32, uint32_t)
DEFINE_ALL_FINITE(all_finite_64, uint64_t)

static bool all_finite(enum sq_dtype dtype, const unsigned char *data, int64_t count)
{
    switch (dtype) {
    case SQ_F8_E4M3:
        return all_finite_8(data, count, 0x7f); /* NaN; the type has no infinity */
    case SQ_F16:
        return all_finite_16(data, count, 0x7c00);
    case SQ_BF16:
        return all_finite_16(data, count, 0x7f80);
    case SQ_F32:
        return all_finite_32(data, count, 0x7f800000);
    case SQ_F64:
        return all_finite_64(data, count, UINT64_C(0x7ff0000000000000));
    default:
        return true; /* integers */
    }
}

static const unsigned char *element(const struct sq_tensor *tensor, int64_t index)
{
    return (const unsigned char *)tensor->data + (size_t)index * sq_dtype_size(tensor->dtype);
}

enum sq_status sq_tensor_check_readable(const struct sq_tensor *tensor)
{
    if (!sq_dtype_is_floating(tensor->dtype)) {
        sq_error("%s: tensor %s has dtype %s where F32, F16, BF16 or F8_E4M3 is needed", tensor->file, tensor->name,
                 sq_dtype_name(tensor->dtype));
        return SQ_ERR_INPUT;
    }
    if (!sq_dtype_has_scales(tensor->dtype) || tensor->scale) return SQ_OK;
    sq_error("%s: tensor %s has dtype %s, and there is neither %s_scale_inv nor %s_scale", tensor->file, tensor->name,
             sq_dtype_name(tensor->dtype), tensor->name, tensor->name);
    return SQ_ERR_INPUT;
}

/* n elements of 2 or 4 bytes, `step` elements apart. */
static void gather(const unsigned char *source, size_t size, int64_t step, int64_t n, unsigned char *target)
{
    if (size == 2)
        for (int64_t i = 0; i < n; i++)
            memcpy(target + 2 * i, source + 2 * i * step, 2);
    else
        for (int64_t i = 0; i < n; i++)
            memcpy(target + 4 * i, source + 4 * i * step, 4);
}

/* n <= CHUNK elements of a row of a tensor that lies turned. */
static void load_turned(const struct sq_tensor *tensor, int64_t row, int64_t column, int64_t n, float *values)
{
    unsigned char raw[CHUNK * sizeof(float)];
    gather(element(tensor, row + column * tensor->column_step), sq_dtype_size(tensor->dtype), tensor->column_step, n,
           raw);
    sq_dtype_to_f32(tensor->dtype, raw, n, values);
}

/* Elements [first, first + count), at most CHUNK, in the order of rows, as they are: with scales, finite or not. */
static void load(const struct sq_tensor *tensor, int64_t first, int64_t count, float *values)
{
    if (tensor->dtype == SQ_MXFP4) {
        sq_mxfp4_load(tensor, first, count, values);
        return;
    }
    if (sq_tensor_is_plain(tensor)) {
        sq_dtype_to_f32(tensor->dtype, element(tensor, first), count, values);
        if (tensor->scale) sq_fp8_scale(tensor, first, count, values);
        return;
    }
    int64_t width = tensor->shape[1];
    for (int64_t done = 0, n; done < count; done += n) {
        int64_t row = (first + done) / width, column = (first + done) % width;
        n = count - done < width - column ? count - done : width - column;
        load_turned(tensor, row, column, n, values + done);
    }
}

bool sq_tensor_is_finite(const struct sq_tensor *tensor, int64_t first, int64_t count)
{
    assert(sq_tensor_is_plain(tensor));
    return all_finite(tensor->dtype, element(tensor, first), count);
}

/* Elements of a tensor with scales may be finite, and too large when multiplied. */
static bool is_finite_as_read(const struct sq_tensor *tensor, int64_t first, int64_t count)
{
    float values[CHUNK];
    if (!tensor->scale && sq_tensor_is_plain(tensor)) return sq_tensor_is_finite(tensor, first, count);
    return sq_tensor_read_elements_f32(tensor, first, count, values) == SQ_OK;
}

/* The first element that is not finite; -1: there is none. */
static int64_t find_not_finite(const struct sq_tensor *tensor)
{
    int64_t count = sq_tensor_count(tensor);
    for (int64_t first = 0; first < count; first += CHUNK) {
        int64_t i = first, n = count - first < CHUNK ? count - first : CHUNK;
        if (is_finite_as_read(tensor, first, n)) continue;
        while (is_finite_as_read(tensor, i, 1))
            i++;
        return i;
    }
    return -1;
}

static double value_at(const struct sq_tensor *tensor, int64_t index)
{
    float value;
    double wide;
    if (tensor->dtype == SQ_F64) {
        memcpy(&wide, element(tensor, index), sizeof wide);
        return wide;
    }
    load(tensor, index, 1, &value);
    return (double)value;
}

bool sq_tensor_report_not_finite(const struct sq_tensor *tensor)
{
    int64_t i = find_not_finite(tensor), elements = row_elements(tensor);
    sq_tensor_give_back(tensor);
    if (i < 0) return false;
    sq_error("%s: tensor %s: value %g in row %lld, column %lld%s%s", tensor->file, tensor->name, value_at(tensor, i),
             (long long)(i / elements), (long long)(i % elements), tensor->scale ? ", scaled by " : "",
             tensor->scale ? tensor->scale->name : "");
    return true;
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

/* Elements [first, first + count). */
enum sq_status sq_tensor_read_elements_f32(const struct sq_tensor *tensor, int64_t first, int64_t count, float *values)
{
    bool is_plain = sq_tensor_is_plain(tensor);
    for (int64_t done = 0; done < count; done += CHUNK) {
        int64_t n = count - done < CHUNK ? count - done : CHUNK;
        if (is_plain && !sq_tensor_is_finite(tensor, first + done, n)) return SQ_ERR_NUMERIC;
        load(tensor, first + done, n, values + done);
        if (is_plain && !tensor->scale) continue;
        if (!all_finite(SQ_F32, (const unsigned char *)(values + done), n)) return SQ_ERR_NUMERIC;
    }
    return SQ_OK;
}

/* Rows of a tensor that lies turned: by columns, in pieces. */
static enum sq_status read_turned(const struct sq_tensor *tensor, int64_t row, int64_t rows, float *values)
{
    int64_t width = tensor->shape[1];
    float column[CHUNK];
    for (int64_t first = 0, n; first < rows; first += n) {
        n = rows - first < CHUNK ? rows - first : CHUNK;
        for (int64_t j = 0; j < width; j++) {
            sq_dtype_to_f32(tensor->dtype, element(tensor, row + first + j * tensor->column_step), n, column);
            if (!all_finite(SQ_F32, (const unsigned char *)column, n)) return SQ_ERR_NUMERIC;
            for (int64_t i = 0; i < n; i++)
                values[(first + i) * width + j] = column[i];
        }
    }
    return SQ_OK;
}

/* Pages of what lies turned are those of other parts, too: given back with the last row. */
static enum sq_status read_part(const struct sq_tensor *tensor, int64_t row, int64_t rows, float *values)
{
    int64_t elements = row_elements(tensor);
    enum sq_status status = tensor->column_step
                                ? read_turned(tensor, row, rows, values)
                                : sq_tensor_read_elements_f32(tensor, row * elements, rows * elements, values);
    if (row + rows == tensor->shape[0] && sq_tensor_span(tensor) >= GIVE_BACK_MIN_BYTES) sq_tensor_give_back(tensor);
    return status;
}

enum sq_status sq_tensor_read_f32(const struct sq_tensor *tensor, int64_t row, int64_t rows, float *values)
{
    SQ_TRY(sq_tensor_check_readable(tensor));
    if (!tensor->data) return SQ_OK;
    assert(row >= 0 && rows >= 0 && row + rows <= (tensor->n_dims > 0 ? tensor->shape[0] : 1));
    if (!sq_tensor_is_plain(tensor)) return read_part(tensor, row, rows, values);
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
    if (!tensor->data) return SQ_OK;
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
    if (tensor->is_mapped) sq_map_give_back(tensor->data, sq_tensor_span(tensor));
}
