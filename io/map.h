/* A file mapped into memory, read only. */
#ifndef SQ_IO_MAP_H
#define SQ_IO_MAP_H

#include <stddef.h>

#include "base/status.h"

struct sq_map {
    char *path;
    const void *data; /* never NULL; page aligned unless the file is empty */
    size_t bytes;
};

/* Maps a regular file. SQ_ERR_IO naming the path and the system's words. Data that vanish
 * later end the process with a message (io/map_guard.h). Closed with sq_map_close(). Local. */
enum sq_status sq_map_open(const char *path, struct sq_map *map_p) SQ_MUST_CHECK;
void sq_map_close(struct sq_map *map);

/* Takes the pages that hold these bytes out of the process; they stay in the system's cache and come back on the next
 * access. Only for memory inside a map. */
void sq_map_give_back(const void *data, size_t bytes);

#endif
