#define _POSIX_C_SOURCE 200809L
#include "io/stale.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

#include "base/log.h"

#define N_PAUSES 6
#define FIRST_PAUSE_NS 500000000LL

bool sq_stale_wait(struct sq_stale *stale, int code, const char *path)
{
    if (code != ESTALE || stale->n_tries == N_PAUSES) return false;
    if (stale->n_tries == 0)
        sq_warning(SQ_WARNING_FILE, "%s: %s; it is tried again for half a minute", path, strerror(code));
    long long pause_ns = FIRST_PAUSE_NS << stale->n_tries++;
    struct timespec pause = {.tv_sec = pause_ns / 1000000000, .tv_nsec = pause_ns % 1000000000};
    nanosleep(&pause, NULL);
    errno = code; /* for the message, should the next try fail otherwise */
    return true;
}

int sq_stale_open(const char *path, int flags)
{
    struct sq_stale stale = {0};
    int fd;
    do
        fd = open(path, flags | O_CLOEXEC, 0666);
    while (fd < 0 && sq_stale_wait(&stale, errno, path));
    return fd;
}
