/* Writing safetensors files by many processes at once: the layout of a file is computed by everybody, one process makes
 * the file with its header and its whole size, and then each writes its tensors, or parts of them, where they belong.
 */
#ifndef SQ_IO_SAFETENSORS_WRITE_H
#define SQ_IO_SAFETENSORS_WRITE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "io/checkpoint.h"
#include "tensor/dtype.h"

/* One tensor of the file; the name is borrowed. */
struct sq_safetensors_entry {
    const char *name;
    enum sq_dtype dtype;
    int n_dims;
    int64_t shape[SQ_TENSOR_MAX_DIMS];
    int64_t offset; /* where its data begins in the file; set by sq_safetensors_layout() */
};

/* Bytes of the tensor's data. */
int64_t sq_safetensors_entry_bytes(const struct sq_safetensors_entry *entry);

/* The first bytes of a file, and how large the whole file will be. */
struct sq_safetensors_header {
    char *bytes; /* owned */
    size_t n_bytes;
    int64_t file_bytes;
};

/* An upper bound of what the entry adds to a file: data and its part of the header. */
int64_t sq_safetensors_entry_bound(const struct sq_safetensors_entry *entry);

/* Bytes of a file without any tensor, at most. */
#define SQ_SAFETENSORS_EMPTY_BOUND 64

/* Places the entries behind each other in the given order and makes the header: 8 bytes of length, then JSON with
 * __metadata__ {"format": "pt"}, padded with spaces to a multiple of 8. Released with sq_safetensors_header_release().
 * Local. */
enum sq_status sq_safetensors_layout(struct sq_safetensors_entry *entries, int64_t n_entries,
                                     struct sq_safetensors_header *header_p) SQ_MUST_CHECK;
void sq_safetensors_header_release(struct sq_safetensors_header *header);

/* Makes the file, which must not exist, with all of its size reserved on the disk (SQ_ERR_IO when there is no room) and
 * its header written. Local, by one process. */
enum sq_status sq_safetensors_create(const char *path, const struct sq_safetensors_header *header) SQ_MUST_CHECK;

/* Makes an empty file, which must not exist, for sq_file_write_at(). Local. */
enum sq_status sq_file_create(const char *path, int *fd_p) SQ_MUST_CHECK;

/* Opens a file made by sq_safetensors_create() for sq_file_write_at(). Local. */
enum sq_status sq_file_open_write(const char *path, int *fd_p) SQ_MUST_CHECK;

/* Writes all bytes at this place of the file; other processes may write other places. SQ_ERR_IO names path, place and
 * count. Local. */
enum sq_status sq_file_write_at(int fd, const char *path, int64_t offset, const void *data, size_t bytes) SQ_MUST_CHECK;

/* Brings what was written to the disk and closes, also on failure. Local. */
enum sq_status sq_file_close_synced(int fd, const char *path) SQ_MUST_CHECK;

#endif
