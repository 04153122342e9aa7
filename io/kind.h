/* What lies at a path. */
#ifndef SQ_IO_KIND_H
#define SQ_IO_KIND_H

#include "base/status.h"

enum sq_path_kind {
    SQ_PATH_FOLDER, /* a folder: a model or a checkpoint */
    SQ_PATH_TOKENS, /* an HDF5 file with /tokens */
    SQ_PATH_STORE   /* an HDF5 file with /layers */
};

/* SQ_ERR_INPUT when there is nothing, or something else. Local. */
enum sq_status sq_path_kind_find(const char *path, enum sq_path_kind *kind_p) SQ_MUST_CHECK;

#endif
