#define _DEFAULT_SOURCE
#include "io/store_file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/stale.h"
#include "mpi/file_hints.h"

static enum sq_status reserve(const char *path, int fd, int64_t bytes)
{
    int code;
    do
        code = posix_fallocate(fd, 0, (off_t)bytes);
    while (code == EINTR);
    if (code == 0) return SQ_OK;
    char size[16];
    sq_error("cannot reserve %s on the disk for %s: %s", sq_size_format((double)bytes, size), path, strerror(code));
    return SQ_ERR_IO;
}

enum sq_status sq_file_probe(const struct sq_comm *comm, const char *path, int64_t bytes)
{
    SQ_TRY(sq_file_hints_make(comm, path));
    int fd = sq_stale_open(path, O_RDWR | O_CREAT | O_TRUNC);
    if (fd < 0) {
        sq_error("cannot create %s: %s", path, strerror(errno));
        return SQ_ERR_IO;
    }
    enum sq_status status = reserve(path, fd, bytes);
    close(fd);
    if (status != SQ_OK) unlink(path);
    return status;
}

static enum sq_status reserve_all(const char *path)
{
    struct stat info;
    enum sq_status status = SQ_ERR_IO;
    int fd = sq_stale_open(path, O_RDWR);
    if (fd >= 0 && fstat(fd, &info) == 0) {
        status = reserve(path, fd, (int64_t)info.st_size);
        if (status == SQ_OK && fsync(fd) != 0) {
            sq_error("cannot flush %s: %s", path, strerror(errno));
            status = SQ_ERR_IO;
        }
    } else {
        sq_error("cannot open %s: %s", path, strerror(errno));
    }
    if (fd >= 0) close(fd);
    return status;
}

/* The new name itself is on the disk only after its folder is flushed; a file system that cannot do so is no error. */
static void flush_folder(const char *folder)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    fsync(fd);
    close(fd);
}

enum sq_status sq_file_publish(const char *temporary, const char *path)
{
    char *copy;
    enum sq_status status = SQ_OK;
    SQ_TRY(reserve_all(temporary));
    SQ_TRY(sq_string_copy(path, &copy)); /* before there is a file of this name */
    if (rename(temporary, path) != 0) {
        sq_error("cannot rename %s to %s: %s", temporary, path, strerror(errno));
        status = SQ_ERR_IO;
    } else {
        flush_folder(dirname(copy));
    }
    sq_free(copy);
    return status;
}
