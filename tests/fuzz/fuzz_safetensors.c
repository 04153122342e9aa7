/* libFuzzer target: any bytes as a safetensors file. What is accepted must lie inside the file and be readable. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "io/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* Every value is read; NaN is a refusal, reading outside the file is the sanitizer's to see. */
static void read_values(const struct sq_tensor *tensor)
{
    int64_t rows = tensor->n_dims > 0 ? tensor->shape[0] : 1;
    if (tensor->dtype > SQ_BF16 || tensor->bytes == 0) return;
    float *values = malloc(tensor->bytes / sq_dtype_size(tensor->dtype) * sizeof *values);
    enum sq_status status = sq_tensor_read_f32(tensor, 0, rows, values);
    assert(status == SQ_OK || status == SQ_ERR_INPUT || status == SQ_ERR_NUMERIC);
    free(values);
}

static void parse(const uint8_t *bytes, size_t size)
{
    struct sq_tensor_list list;
    if (sq_safetensors_parse(bytes, size, "file", &list) != SQ_OK) return;
    size_t covered = 0;
    for (int64_t i = 0; i < list.count; i++) {
        const struct sq_tensor *tensor = &list.items[i];
        const uint8_t *data = tensor->data;
        assert(data >= bytes && tensor->bytes <= (size_t)(bytes + size - data));
        covered += tensor->bytes;
        read_values(tensor);
    }
    assert(covered <= size);
    sq_tensor_list_release(&list);
}

/* The same bytes as header and data behind a length that is right: header up to the last brace. */
static void parse_with_length(const uint8_t *bytes, size_t size)
{
    uint64_t length = size;
    while (length > 0 && bytes[length - 1] != '}')
        length--;
    uint8_t *file = malloc(size + 8);
    memcpy(file, &length, 8);
    if (size > 0) memcpy(file + 8, bytes, size);
    parse(file, size + 8);
    free(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    parse(bytes, size);
    parse_with_length(bytes, size);
    return 0;
}
