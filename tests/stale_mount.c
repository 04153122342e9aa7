/* To be preloaded: a file system that is being mounted anew. The first STALE_COUNT writes to, and (unless STALE_WRITES
 * is set) openings for writing of (with STALE_READS: also for reading), files whose path ends in STALE_PATH fail with
 * ESTALE, on rank STALE_RANK alone where that is set; pauses take no time. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int is_stale(const char *path)
{
    static atomic_int used;
    const char *part = getenv("STALE_PATH"), *count = getenv("STALE_COUNT");
    const char *rank = getenv("OMPI_COMM_WORLD_RANK"), *only = getenv("STALE_RANK");
    if (only && (!rank || strcmp(rank, only) != 0)) return 0;
    if (!part || !count || strlen(path) < strlen(part)) return 0;
    if (strcmp(path + strlen(path) - strlen(part), part) != 0 || atomic_fetch_add(&used, 1) >= atoi(count)) return 0;
    errno = ESTALE;
    return 1;
}

static int is_stale_file(int file)
{
    char link[64], path[1024] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    return readlink(link, path, sizeof path - 1) > 0 && is_stale(path);
}

static int open_by(const char *name, const char *path, int flags, mode_t mode)
{
    int (*next)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, name);
    int is_counted = ((flags & O_ACCMODE) != O_RDONLY || getenv("STALE_READS")) && !getenv("STALE_WRITES");
    return is_counted && is_stale(path) ? -1 : next(path, flags, mode);
}

static mode_t mode_of(int flags, va_list args)
{
    return flags & O_CREAT ? va_arg(args, mode_t) : 0;
}

int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = mode_of(flags, args);
    va_end(args);
    return open_by("open", path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = mode_of(flags, args);
    va_end(args);
    return open_by("open64", path, flags, mode);
}

static ssize_t write_by(const char *name, int file, const void *data, size_t bytes, off64_t offset)
{
    ssize_t (*next)(int, const void *, size_t, off64_t) =
        (ssize_t(*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, name);
    return is_stale_file(file) ? -1 : next(file, data, bytes, offset);
}

ssize_t pwrite(int file, const void *data, size_t bytes, off_t offset)
{
    return write_by("pwrite", file, data, bytes, offset);
}

ssize_t pwrite64(int file, const void *data, size_t bytes, off64_t offset)
{
    return write_by("pwrite64", file, data, bytes, offset);
}

int nanosleep(const struct timespec *pause, struct timespec *rest)
{
    int (*next)(const struct timespec *, struct timespec *) =
        (int (*)(const struct timespec *, struct timespec *))dlsym(RTLD_NEXT, "nanosleep");
    const struct timespec none = {.tv_nsec = 1000};
    return next(pause->tv_sec > 0 || pause->tv_nsec >= 500000000 ? &none : pause, rest);
}
