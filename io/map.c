#define _GNU_SOURCE /* madvise */
#include "io/map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "io/map_guard.h"
#include "io/stale.h"

static enum sq_status fail(const char *what, const char *path)
{
    sq_error("cannot %s %s: %s", what, path, strerror(errno));
    return SQ_ERR_IO;
}

static enum sq_status map_descriptor(int descriptor, const char *path, struct sq_map *map)
{
    struct stat info;
    if (fstat(descriptor, &info) != 0) return fail("examine", path);
    if (!S_ISREG(info.st_mode)) {
        sq_error("cannot read %s: it is not a regular file", path);
        return SQ_ERR_IO;
    }
    map->bytes = (size_t)info.st_size;
    map->data = "";
    if (map->bytes == 0) return SQ_OK; /* the system maps no empty files */
    void *data = mmap(NULL, map->bytes, PROT_READ, MAP_SHARED, descriptor, 0);
    if (data == MAP_FAILED) return fail("map", path);
    map->data = data;
    return SQ_OK;
}

enum sq_status sq_map_open(const char *path, struct sq_map *map_p)
{
    struct sq_map map;
    int descriptor = sq_stale_open(path, O_RDONLY | O_NONBLOCK); /* so that a named pipe does not block */
    if (descriptor < 0) return fail("open", path);
    enum sq_status status = sq_string_copy(path, &map.path);
    if (status != SQ_OK) goto out_close;
    status = map_descriptor(descriptor, path, &map);
    if (status != SQ_OK) goto out_free_path;
    close(descriptor);
    if (map.bytes > 0) sq_map_guard(map.data, map.bytes, map.path);
    *map_p = map;
    return SQ_OK;
out_free_path:
    sq_free(map.path);
out_close:
    close(descriptor);
    return status;
}

void sq_map_close(struct sq_map *map)
{
    if (map->bytes > 0) {
        sq_map_unguard(map->data);
        munmap((void *)(uintptr_t)map->data, map->bytes);
    }
    sq_free(map->path);
    *map = (struct sq_map){0};
}

void sq_map_give_back(const void *data, size_t bytes)
{
    if (bytes == 0) return;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = (uintptr_t)data / page * page;
    uintptr_t end = ((uintptr_t)data + bytes + page - 1) / page * page;
    (void)madvise((void *)first, end - first, MADV_DONTNEED); /* advice: a refusal costs memory, not correctness */
}
