#define _POSIX_C_SOURCE 200809L
#include "io/safetensors_write.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "io/stale.h"

int64_t sq_safetensors_entry_bytes(const struct sq_safetensors_entry *entry)
{
    int64_t bytes = (int64_t)sq_dtype_size(entry->dtype);
    for (int i = 0; i < entry->n_dims; i++)
        bytes *= entry->shape[i];
    return bytes;
}

int64_t sq_safetensors_entry_bound(const struct sq_safetensors_entry *entry)
{
    /* "name":{"dtype":"BF16","shape":[...],"data_offsets":[...,...]}, where JSON may write a byte as \u00xx, and a
     * number has up to 19 digits and a comma */
    int64_t text = 6 * (int64_t)strlen(entry->name) + 64 + 20 * (entry->n_dims + 2);
    return sq_safetensors_entry_bytes(entry) + text;
}

static json_t *describe_entry(const struct sq_safetensors_entry *entry, int64_t begin)
{
    json_t *shape = json_array();
    for (int i = 0; i < entry->n_dims && shape; i++)
        if (json_array_append_new(shape, json_integer(entry->shape[i]))) goto fail;
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", sq_dtype_name(entry->dtype), "shape", shape, "data_offsets",
                     (json_int_t)begin, (json_int_t)(begin + sq_safetensors_entry_bytes(entry)));
fail:
    json_decref(shape);
    return NULL;
}

/* The header's JSON; offsets of the entries become positions in the data. */
static char *make_json(struct sq_safetensors_entry *entries, int64_t n_entries, int64_t *data_bytes_p)
{
    char *text = NULL;
    int64_t position = 0;
    json_t *root = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    if (!root) return NULL;
    for (int64_t i = 0; i < n_entries; i++) {
        if (json_object_set_new(root, entries[i].name, describe_entry(&entries[i], position))) goto out_release;
        entries[i].offset = position;
        position += sq_safetensors_entry_bytes(&entries[i]);
    }
    *data_bytes_p = position;
    text = json_dumps(root, JSON_COMPACT);
out_release:
    json_decref(root);
    return text;
}

enum sq_status sq_safetensors_layout(struct sq_safetensors_entry *entries, int64_t n_entries,
                                     struct sq_safetensors_header *header_p)
{
    int64_t data_bytes = 0;
    void *bytes = NULL;
    char *text = make_json(entries, n_entries, &data_bytes);
    if (!text) {
        sq_error("cannot make the header of a safetensors file with %lld tensors", (long long)n_entries);
        return SQ_ERR_MEMORY;
    }
    size_t n_text = strlen(text), n_padded = (n_text + 7) / 8 * 8;
    enum sq_status status = sq_alloc("a safetensors header", (int64_t)n_padded + 8, 1, &bytes);
    if (status != SQ_OK) goto out_free_text;
    for (int i = 0; i < 8; i++)
        ((unsigned char *)bytes)[i] = (unsigned char)((uint64_t)n_padded >> (8 * i));
    memset((char *)bytes + 8, ' ', n_padded);
    memcpy((char *)bytes + 8, text, n_text);
    for (int64_t i = 0; i < n_entries; i++)
        entries[i].offset += (int64_t)n_padded + 8;
    *header_p = (struct sq_safetensors_header){bytes, n_padded + 8, data_bytes + (int64_t)n_padded + 8};
out_free_text:
    free(text);
    return status;
}

void sq_safetensors_header_release(struct sq_safetensors_header *header)
{
    sq_free(header->bytes);
    *header = (struct sq_safetensors_header){0};
}

/* File systems without reservation get the size only; there a full disk is found in sq_file_write_at(). */
static enum sq_status reserve(int fd, const char *path, int64_t bytes)
{
    int error = posix_fallocate(fd, 0, (off_t)bytes);
    if (error == EOPNOTSUPP || error == EINVAL) error = ftruncate(fd, (off_t)bytes) ? errno : 0;
    if (!error) return SQ_OK;
    sq_error("cannot reserve %lld bytes for %s: %s", (long long)bytes, path, strerror(error));
    return SQ_ERR_IO;
}

enum sq_status sq_safetensors_create(const char *path, const struct sq_safetensors_header *header)
{
    int fd;
    SQ_TRY(sq_file_create(path, &fd));
    enum sq_status status = reserve(fd, path, header->file_bytes);
    if (status == SQ_OK) status = sq_file_write_at(fd, path, 0, header->bytes, header->n_bytes);
    enum sq_status closed = sq_file_close_synced(fd, path);
    return status == SQ_OK ? closed : status;
}

enum sq_status sq_file_create(const char *path, int *fd_p)
{
    int fd = sq_stale_open(path, O_WRONLY | O_CREAT | O_EXCL);
    if (fd < 0) {
        sq_error("cannot create %s: %s", path, strerror(errno));
        return SQ_ERR_IO;
    }
    *fd_p = fd;
    return SQ_OK;
}

enum sq_status sq_file_open_write(const char *path, int *fd_p)
{
    int fd = sq_stale_open(path, O_WRONLY);
    if (fd < 0) {
        sq_error("cannot open %s for writing: %s", path, strerror(errno));
        return SQ_ERR_IO;
    }
    *fd_p = fd;
    return SQ_OK;
}

enum sq_status sq_file_write_at(int fd, const char *path, int64_t offset, const void *data, size_t bytes)
{
    const size_t piece = (size_t)1 << 30; /* one call moves less than 2 GiB */
    size_t done = 0;
    struct sq_stale stale = {0};
    while (done < bytes) {
        size_t wanted = bytes - done < piece ? bytes - done : piece;
        ssize_t n = pwrite(fd, (const char *)data + done, wanted, (off_t)(offset + (int64_t)done));
        if (n < 0 && (errno == EINTR || sq_stale_wait(&stale, errno, path))) continue;
        if (n <= 0) {
            sq_error("cannot write %zu bytes at %lld of %s (%zu written): %s", bytes, (long long)offset, path, done,
                     n < 0 ? strerror(errno) : "nothing was taken");
            return SQ_ERR_IO;
        }
        done += (size_t)n;
    }
    return SQ_OK;
}

enum sq_status sq_file_close_synced(int fd, const char *path)
{
    int error = fsync(fd) ? errno : 0;
    if (close(fd) && !error) error = errno;
    if (!error) return SQ_OK;
    sq_error("cannot bring %s to the disk: %s", path, strerror(error));
    return SQ_ERR_IO;
}
