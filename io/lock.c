#define _DEFAULT_SOURCE
#include "io/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/stale.h"

/* Whether the file behind fd is still the one with this name: its last owner may have removed it. */
static bool is_current(int fd, const char *name)
{
    struct stat held, named;
    return fstat(fd, &held) == 0 && stat(name, &named) == 0 && held.st_ino == named.st_ino &&
           held.st_dev == named.st_dev;
}

/* Takes the lock of the file with this name. */
static enum sq_status take(const char *result, const char *name, int *lock_p)
{
    for (;;) {
        int fd = sq_stale_open(name, O_RDWR | O_CREAT);
        if (fd < 0) {
            sq_error("cannot create lock file %s: %s", name, strerror(errno));
            return SQ_ERR_IO;
        }
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
            *lock_p = fd;
            if (is_current(fd, name)) return SQ_OK;
            close(fd);
            continue;
        }
        int code = errno;
        close(fd);
        if (code == EINTR) continue;
        if (code == EWOULDBLOCK) {
            sq_error("%s is in use by another job, which holds the lock %s", result, name);
            return SQ_ERR_BUSY;
        }
        sq_warning(SQ_WARNING_FILE, "cannot lock %s (%s): make sure that no other job writes %s", name, strerror(code),
                   result);
        *lock_p = -1;
        return SQ_OK;
    }
}

enum sq_status sq_lock_take(const char *result, const char *path, int *lock_p)
{
    char *name;
    SQ_TRY(sq_string_format(&name, "%s.lock", path));
    enum sq_status status = take(result, name, lock_p);
    sq_free(name);
    return status;
}

void sq_lock_release(const char *path, int lock)
{
    char *name;
    if (lock < 0) return;
    if (sq_string_format(&name, "%s.lock", path) == SQ_OK) {
        unlink(name); /* while it is still held: whoever opened it meanwhile sees that it has gone */
        sq_free(name);
    }
    close(lock);
}
