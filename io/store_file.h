/* What happens to the store's files beside HDF5: room on the disk, a name at the end, one job at a time. Local. */
#ifndef SQ_IO_STORE_FILE_H
#define SQ_IO_STORE_FILE_H

#include <stdint.h>

#include "base/status.h"
#include "mpi/comm.h"

/* Makes `path` anew, with comm's hints, and with this many bytes on the disk, to see that there is room; what is in it
 * is undefined. SQ_ERR_IO names file and size, and leaves no file. */
enum sq_status sq_file_probe(const struct sq_comm *comm, const char *path, int64_t bytes) SQ_MUST_CHECK;

/* Reserves the disk's blocks for the whole of `temporary`, flushes it and gives it its final name. SQ_ERR_IO. */
enum sq_status sq_file_publish(const char *temporary, const char *path) SQ_MUST_CHECK;

/* Takes the lock PATH.lock for this process until it ends or releases it: SQ_ERR_USAGE names it when another process
 * has it. lock_p: to be released with sq_file_unlock(); -1 where the file system has no locks (with a warning). */
enum sq_status sq_file_lock(const char *path, int *lock_p) SQ_MUST_CHECK;

/* Removes PATH.lock and releases it; -1 is fine. */
void sq_file_unlock(const char *path, int lock);

#endif
