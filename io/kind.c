#define _POSIX_C_SOURCE 200809L
#include "io/kind.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "io/h5.h"

enum sq_status sq_path_kind_find(const char *path, enum sq_path_kind *kind_p)
{
    struct stat status;
    hid_t file;
    if (stat(path, &status)) {
        sq_error("cannot look at %s: %s", path, strerror(errno));
        return SQ_ERR_INPUT;
    }
    if (S_ISDIR(status.st_mode)) {
        *kind_p = SQ_PATH_FOLDER;
        return SQ_OK;
    }
    SQ_TRY(sq_h5_open(path, &file));
    bool has_tokens = H5Lexists(file, "tokens", H5P_DEFAULT) > 0;
    bool has_layers = H5Lexists(file, "layers", H5P_DEFAULT) > 0;
    H5Fclose(file);
    if (!has_tokens && !has_layers) {
        sq_error("%s: an HDF5 file with neither /tokens (a token file) nor /layers (a store)", path);
        return SQ_ERR_INPUT;
    }
    *kind_p = has_layers ? SQ_PATH_STORE : SQ_PATH_TOKENS;
    return SQ_OK;
}
