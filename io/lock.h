/* One job at a time, of those that write the same file or folder. Local, and meant for one process of the job. */
#ifndef SQ_IO_LOCK_H
#define SQ_IO_LOCK_H

#include "base/status.h"

/* Takes the lock PATH.lock for this process until it ends or releases it: SQ_ERR_BUSY says that `result`, which is
 * what the user calls it, is in use when another process has it; a file that a killed job left is no lock.
 * SQ_ERR_IO when there can be no such file. lock_p: to be released with sq_lock_release(); -1 where the file system has
 * no locks (with a warning). */
enum sq_status sq_lock_take(const char *result, const char *path, int *lock_p) SQ_MUST_CHECK;

/* Removes PATH.lock and releases it; -1 is fine. */
void sq_lock_release(const char *path, int lock);

#endif
