/* The safetensors format, reading: 8 bytes little-endian length, a JSON header, the data. */
#ifndef SQ_IO_SAFETENSORS_H
#define SQ_IO_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "io/checkpoint.h"

struct sq_tensor_list {
    struct sq_tensor *items;
    int64_t count;
};

/* Parses a whole file that lies in memory and checks all of it: header length, JSON, duplicate names, dtype, shape,
 * size, offsets inside the file, no overlap, no holes. The tensors come in the order of their data, which stays in
 * `bytes`; `file` is kept by reference for messages. SQ_ERR_INPUT naming file and tensor. Local. */
enum sq_status sq_safetensors_parse(const void *bytes, size_t size, const char *file,
                                    struct sq_tensor_list *tensors_p) SQ_MUST_CHECK;
void sq_tensor_list_release(struct sq_tensor_list *tensors);

#endif
