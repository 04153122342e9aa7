/* What happens to the store's files beside HDF5: room on the disk, a name at the end. Local. */
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

#endif
