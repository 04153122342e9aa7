#include "io/safetensors.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "io/json.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "safetensors data is little-endian and used in place");

#define LENGTH_BYTES 8
#define NAME_MAX_BYTES 1024

/* The three parts of a file. */
struct layout {
    const char *file;
    const char *header;
    size_t header_bytes;
    const unsigned char *data;
    size_t data_bytes;
};

static enum sq_status find_layout(const void *bytes, size_t size, const char *file, struct layout *layout_p)
{
    if (size < LENGTH_BYTES) {
        sq_error("%s: %zu bytes are no safetensors file", file, size);
        return SQ_ERR_INPUT;
    }
    uint64_t length;
    memcpy(&length, bytes, sizeof length);
    if (length > size - LENGTH_BYTES) {
        sq_error("%s: header length %llu, but the file has only %zu bytes", file, (unsigned long long)length, size);
        return SQ_ERR_INPUT;
    }
    const unsigned char *header = (const unsigned char *)bytes + LENGTH_BYTES;
    *layout_p = (struct layout){file, (const char *)header, (size_t)length, header + length,
                                size - LENGTH_BYTES - (size_t)length};
    return SQ_OK;
}

/* Text that can stand in a one-line message. */
static bool is_plain(const char *text)
{
    size_t length = strlen(text);
    if (length == 0 || length > NAME_MAX_BYTES) return false;
    for (const char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) return false;
    return true;
}

static enum sq_status check_name(const char *name, const char *file)
{
    if (is_plain(name)) return SQ_OK;
    sq_error("%s: a tensor name of %zu bytes is empty, too long or holds control characters", file, strlen(name));
    return SQ_ERR_INPUT;
}

static enum sq_status read_dtype(const json_t *json, struct sq_tensor *tensor)
{
    const char *text = json_string_value(json);
    int dtype = text ? sq_dtype_parse(text) : -1;
    if (dtype < 0) {
        sq_error("%s: tensor %s: dtype %s is not known", tensor->file, tensor->name,
                 text && is_plain(text) ? text : "(none)");
        return SQ_ERR_INPUT;
    }
    tensor->dtype = (enum sq_dtype)dtype;
    return SQ_OK;
}

/* shape and, from it and the dtype, bytes. */
static enum sq_status read_shape(const json_t *json, struct sq_tensor *tensor)
{
    if (!json_is_array(json) || json_array_size(json) > SQ_TENSOR_MAX_DIMS) {
        sq_error("%s: tensor %s: shape is not a list of at most %d numbers", tensor->file, tensor->name,
                 SQ_TENSOR_MAX_DIMS);
        return SQ_ERR_INPUT;
    }
    tensor->n_dims = (int)json_array_size(json);
    int64_t bytes = (int64_t)sq_dtype_size(tensor->dtype);
    for (int i = 0; i < tensor->n_dims; i++) {
        const json_t *item = json_array_get(json, (size_t)i);
        tensor->shape[i] = json_is_integer(item) ? (int64_t)json_integer_value(item) : -1;
        if (tensor->shape[i] < 0) {
            sq_error("%s: tensor %s: dimension %d of its shape is no count", tensor->file, tensor->name, i);
            return SQ_ERR_INPUT;
        }
        if (__builtin_mul_overflow(bytes, tensor->shape[i], &bytes)) {
            sq_error("%s: tensor %s: the size of its shape overflows", tensor->file, tensor->name);
            return SQ_ERR_INPUT;
        }
    }
    tensor->bytes = (size_t)bytes;
    return SQ_OK;
}

/* data, after checking that the offsets lie in the file and span as many bytes as the shape asks for. */
static enum sq_status read_offsets(const json_t *json, const struct layout *layout, struct sq_tensor *tensor)
{
    const json_t *first = json_array_get(json, 0), *second = json_array_get(json, 1);
    if (json_array_size(json) != 2 || !json_is_integer(first) || !json_is_integer(second)) {
        sq_error("%s: tensor %s: data_offsets are not two integers", tensor->file, tensor->name);
        return SQ_ERR_INPUT;
    }
    int64_t begin = json_integer_value(first), end = json_integer_value(second);
    if (begin < 0 || end < begin || (uint64_t)end > layout->data_bytes) {
        sq_error("%s: tensor %s: data_offsets [%lld, %lld] do not lie in the file's %zu bytes of data", tensor->file,
                 tensor->name, (long long)begin, (long long)end, layout->data_bytes);
        return SQ_ERR_INPUT;
    }
    if ((size_t)(end - begin) != tensor->bytes) {
        sq_error("%s: tensor %s: data_offsets [%lld, %lld] span %lld bytes, its shape and dtype %s take %zu",
                 tensor->file, tensor->name, (long long)begin, (long long)end, (long long)(end - begin),
                 sq_dtype_name(tensor->dtype), tensor->bytes);
        return SQ_ERR_INPUT;
    }
    tensor->data = layout->data + begin;
    return SQ_OK;
}

static enum sq_status read_tensor(const char *name, const json_t *json, const struct layout *layout,
                                  struct sq_tensor *tensor)
{
    SQ_TRY(check_name(name, layout->file));
    SQ_TRY(sq_string_copy(name, &tensor->name));
    tensor->file = layout->file;
    if (!json_is_object(json)) {
        sq_error("%s: tensor %s: its entry in the header is not an object", tensor->file, name);
        return SQ_ERR_INPUT;
    }
    SQ_TRY(read_dtype(json_object_get(json, "dtype"), tensor));
    SQ_TRY(read_shape(json_object_get(json, "shape"), tensor));
    return read_offsets(json_object_get(json, "data_offsets"), layout, tensor);
}

static enum sq_status read_entries(json_t *header, const struct layout *layout, struct sq_tensor_list *tensors)
{
    const char *name;
    json_t *entry;
    json_object_foreach(header, name, entry)
    {
        if (!strcmp(name, "__metadata__")) continue;
        SQ_TRY(read_tensor(name, entry, layout, &tensors->items[tensors->count++]));
    }
    return SQ_OK;
}

static int compare_data(const void *left, const void *right)
{
    const struct sq_tensor *a = left, *b = right;
    if (a->data != b->data) return (const char *)a->data < (const char *)b->data ? -1 : 1;
    return (a->bytes > b->bytes) - (a->bytes < b->bytes);
}

/* Tensors in the order of data must follow each other without overlap or hole, to the end of the file. */
static enum sq_status check_coverage(const struct sq_tensor_list *tensors, const struct layout *layout)
{
    size_t covered = 0;
    for (int64_t i = 0; i < tensors->count; i++) {
        const struct sq_tensor *tensor = &tensors->items[i];
        size_t begin = (size_t)((const unsigned char *)tensor->data - layout->data);
        if (begin < covered) {
            sq_error("%s: tensor %s: its data overlap those of tensor %s", layout->file, tensor->name, tensor[-1].name);
            return SQ_ERR_INPUT;
        }
        if (begin > covered) {
            sq_error("%s: tensor %s: a hole of %zu bytes lies before its data", layout->file, tensor->name,
                     begin - covered);
            return SQ_ERR_INPUT;
        }
        covered += tensor->bytes;
    }
    if (covered == layout->data_bytes) return SQ_OK;
    sq_error("%s: %zu bytes behind the last tensor%s%s belong to no tensor", layout->file, layout->data_bytes - covered,
             tensors->count > 0 ? " " : "", tensors->count > 0 ? tensors->items[tensors->count - 1].name : "");
    return SQ_ERR_INPUT;
}

static enum sq_status list_tensors(json_t *header, const struct layout *layout, struct sq_tensor_list *tensors_p)
{
    if (!json_is_object(header)) {
        sq_error("%s: the header is not a JSON object", layout->file);
        return SQ_ERR_INPUT;
    }
    void *items;
    SQ_TRY(sq_alloc("the tensors of a file", (int64_t)json_object_size(header), sizeof(struct sq_tensor), &items));
    struct sq_tensor_list tensors = {.items = items};
    enum sq_status status = read_entries(header, layout, &tensors);
    if (status != SQ_OK) goto out_release;
    qsort(tensors.items, (size_t)tensors.count, sizeof *tensors.items, compare_data);
    status = check_coverage(&tensors, layout);
    if (status != SQ_OK) goto out_release;
    *tensors_p = tensors;
    return SQ_OK;
out_release:
    sq_tensor_list_release(&tensors);
    return status;
}

enum sq_status sq_safetensors_parse(const void *bytes, size_t size, const char *file, struct sq_tensor_list *tensors_p)
{
    struct layout layout;
    json_t *header;
    SQ_TRY(find_layout(bytes, size, file, &layout));
    SQ_TRY(sq_json_parse(layout.header, layout.header_bytes, file, &header));
    enum sq_status status = list_tensors(header, &layout, tensors_p);
    json_decref(header);
    return status;
}

void sq_tensor_list_release(struct sq_tensor_list *tensors)
{
    for (int64_t i = 0; i < tensors->count; i++)
        sq_free(tensors->items[i].name);
    sq_free(tensors->items);
    *tensors = (struct sq_tensor_list){0};
}
