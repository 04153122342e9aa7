#define _GNU_SOURCE /* madvise */
#include "model/activations.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"

#define PAGE ((size_t)4096) /* areas start at multiples of it; madvise asks for whole pages */

/* A file without a name in folder, of this size, the space reserved. */
static enum sq_status open_file(const char *folder, size_t bytes, int *file_p)
{
    char *path;
    SQ_TRY(sq_string_format(&path, "%s/shardq-activations-XXXXXX", folder));
    enum sq_status status = SQ_OK;
    int file = mkstemp(path);
    if (file < 0) {
        sq_error("cannot make a file for activations in %s: %s", folder, strerror(errno));
        status = SQ_ERR_IO;
        goto out_free;
    }
    unlink(path);
    int code = posix_fallocate(file, 0, (off_t)bytes);
    if (code != 0) {
        sq_error("cannot reserve %zu bytes for activations in %s: %s", bytes, folder, strerror(code));
        close(file);
        status = SQ_ERR_IO;
        goto out_free;
    }
    *file_p = file;
out_free:
    sq_free(path);
    return status;
}

static enum sq_status map_file(const char *folder, size_t bytes, char **memory_p)
{
    int file;
    SQ_TRY(open_file(folder, bytes, &file));
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) sq_error("cannot map %zu bytes of activations: %s", bytes, strerror(errno));
    close(file);
    if (memory == MAP_FAILED) return SQ_ERR_IO;
    *memory_p = memory;
    return SQ_OK;
}

static size_t area_bytes(int64_t stride, int64_t rows)
{
    return ((size_t)(rows * stride) + PAGE - 1) / PAGE * PAGE;
}

size_t sq_activations_bytes(const struct sq_slot_map *map, int64_t rows)
{
    size_t bytes = PAGE;
    for (int i = 0; i < map->n_persistent; i++)
        bytes += area_bytes(map->persistent_stride[i], rows);
    return bytes;
}

const char *sq_activations_where(enum sq_activations_place place)
{
    static const char *const words[] = {
        [SQ_ACTIVATIONS_NEAR] = "", [SQ_ACTIVATIONS_ON_HOST] = "on the host", [SQ_ACTIVATIONS_IN_FILE] = "in a file"};
    return words[place];
}

enum sq_activations_place sq_activations_away(bool is_host)
{
    return is_host ? SQ_ACTIVATIONS_IN_FILE : SQ_ACTIVATIONS_ON_HOST;
}

static enum sq_status take(struct sq_backend *backend, const char *folder, struct sq_activations *a)
{
    const char *what = "activations";
    switch (a->place) {
    case SQ_ACTIVATIONS_IN_FILE:
        return map_file(folder, a->bytes, &a->memory);
    case SQ_ACTIVATIONS_ON_HOST:
        return backend->ops->alloc_host(backend, what, a->bytes, (void **)&a->memory);
    case SQ_ACTIVATIONS_NEAR:
        break;
    }
    return backend->ops->alloc(backend, what, a->bytes, (void **)&a->memory);
}

enum sq_status sq_activations_create(struct sq_backend *backend, const struct sq_slot_map *map, int64_t rows,
                                     enum sq_activations_place place, const char *folder,
                                     struct sq_activations *activations_p)
{
    struct sq_activations a = {.n_areas = map->n_persistent, .bytes = PAGE, .place = place};
    size_t starts[SQ_N_SLOTS];
    for (int i = 0; i < a.n_areas; i++) {
        a.strides[i] = map->persistent_stride[i];
        starts[i] = a.bytes - PAGE;
        a.bytes += area_bytes(a.strides[i], rows);
    }
    SQ_TRY(take(backend, folder, &a));
    for (int i = 0; i < a.n_areas; i++)
        a.areas[i] = a.memory + starts[i];
    *activations_p = a;
    return SQ_OK;
}

void sq_activations_destroy(struct sq_backend *backend, struct sq_activations *activations)
{
    switch (activations->place) {
    case SQ_ACTIVATIONS_IN_FILE:
        munmap(activations->memory, activations->bytes);
        break;
    case SQ_ACTIVATIONS_ON_HOST:
        backend->ops->free_host(backend, activations->memory);
        break;
    case SQ_ACTIVATIONS_NEAR:
        backend->ops->free(backend, activations->memory);
    }
}

void sq_activations_forget(const struct sq_activations *activations, int64_t row, int64_t rows)
{
    if (activations->place != SQ_ACTIVATIONS_IN_FILE) return;
    for (int i = 0; i < activations->n_areas; i++) {
        size_t start = (size_t)(activations->areas[i] - activations->memory);
        size_t first = (start + (size_t)(row * activations->strides[i])) / PAGE * PAGE;
        size_t end = start + (size_t)((row + rows) * activations->strides[i]);
        madvise(activations->memory + first, end - first,
                MADV_DONTNEED); /* advice: nothing is wrong if it is not taken */
    }
}
