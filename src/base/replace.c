#define _POSIX_C_SOURCE 200809L
#include "base/replace.h"

#include <sys/stat.h>

#include "base/log.h"

static const char *kind_of(mode_t mode)
{
    return S_ISLNK(mode) ? "symbolic link" : S_ISDIR(mode) ? "folder" : S_ISFIFO(mode) ? "FIFO" : "device or socket";
}

enum sq_status sq_replace_check(const char *path)
{
    struct stat info;
    if (lstat(path, &info) != 0 || S_ISREG(info.st_mode)) return SQ_OK;
    sq_error("%s is a %s: nothing but a regular file is replaced", path, kind_of(info.st_mode));
    return SQ_ERR_USAGE;
}
