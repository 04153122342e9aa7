/* A file system that is mounted anew, or whose server starts again, answers ESTALE for a while. */
#ifndef SQ_IO_STALE_H
#define SQ_IO_STALE_H

#include <stdbool.h>

/* Tries of one call; starts as {0}. */
struct sq_stale {
    int n_tries;
};

/* After a call on `path` that has failed with `code` (of errno): whether to try it again, after a pause that grows from
 * half a second to 16; about half a minute in all, and never for another code. The first time is warned of. Local. */
bool sq_stale_wait(struct sq_stale *stale, int code, const char *path);

/* As open() with O_CLOEXEC and mode 0666, tried again so. Local. */
int sq_stale_open(const char *path, int flags);

#endif
