/* Mapped files whose data vanish: when another process cuts a file short, or its file system goes away, the next access
 * to a page of it raises SIGBUS. With a guard the process then ends with a message that names the file, as after any
 * other file that cannot be read. Local; for the main thread alone. */
#ifndef SQ_IO_MAP_GUARD_H
#define SQ_IO_MAP_GUARD_H

#include <stddef.h>

/* Guards bytes of a map until sq_map_unguard(); path is borrowed until then. Beyond a thousand files there is no
 * guard. */
void sq_map_guard(const void *data, size_t bytes, const char *path);
void sq_map_unguard(const void *data);

#endif
