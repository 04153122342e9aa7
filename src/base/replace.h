/* Files that are written as PATH.tmp and renamed. */
#ifndef SQ_BASE_REPLACE_H
#define SQ_BASE_REPLACE_H

#include "base/status.h"

/* Whether a file that is renamed to `path` may take the place of what is there: nothing or a regular file. Anything
 * else would be lost (a renamed file does not go through a link, nor into a device): SQ_ERR_USAGE. Local. */
enum sq_status sq_replace_check(const char *path) SQ_MUST_CHECK;

#endif
