#define _POSIX_C_SOURCE 200809L
#include "io/h5.h"

#include <string.h>

#include "base/log.h"
#include "base/memory.h"

static enum sq_status write_scalar(hid_t object, const char *name, hid_t file_type, hid_t memory_type,
                                   const void *value)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate2(object, name, file_type, space, H5P_DEFAULT, H5P_DEFAULT);
    bool written = attribute >= 0 && H5Awrite(attribute, memory_type, value) >= 0;
    if (!written) sq_h5_error(object, "write attribute", name);
    if (attribute >= 0) H5Aclose(attribute);
    H5Sclose(space);
    return written ? SQ_OK : SQ_ERR_IO;
}

enum sq_status sq_h5_set_integer(hid_t object, const char *name, int64_t value)
{
    return write_scalar(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, &value);
}

/* A UTF-8 string type of fixed size. */
static hid_t text_type(size_t bytes)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, bytes > 0 ? bytes : 1);
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    H5Tset_cset(type, H5T_CSET_UTF8);
    return type;
}

enum sq_status sq_h5_set_text(hid_t object, const char *name, const char *text)
{
    hid_t type = text_type(strlen(text)); /* an empty text is one zero byte, its own end */
    enum sq_status status = write_scalar(object, name, type, type, text);
    H5Tclose(type);
    return status;
}

enum sq_status sq_h5_get_integer(hid_t object, const char *name, int64_t *value_p)
{
    int64_t value = 0;
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    hid_t space = attribute >= 0 ? H5Aget_space(attribute) : -1;
    bool read =
        space >= 0 && H5Sget_simple_extent_npoints(space) == 1 && H5Aread(attribute, H5T_NATIVE_INT64, &value) >= 0;
    if (!read) sq_h5_error(object, "read integer attribute", name);
    if (space >= 0) H5Sclose(space);
    if (attribute >= 0) H5Aclose(attribute);
    if (!read) return SQ_ERR_INPUT;
    *value_p = value;
    return SQ_OK;
}

enum sq_status sq_h5_get_text(hid_t object, const char *name, char **text_p)
{
    void *text = NULL;
    hid_t memory_type = -1;
    enum sq_status status = SQ_ERR_INPUT;
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    hid_t type = attribute >= 0 ? H5Aget_type(attribute) : -1;
    if (type < 0 || H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) > 0) {
        sq_h5_error(object, "read text attribute", name);
        goto out_close;
    }
    size_t bytes = H5Tget_size(type);
    memory_type = text_type(bytes);
    status = sq_alloc("the text of an attribute", (int64_t)bytes + 1, 1, &text);
    if (status != SQ_OK) goto out_close;
    if (H5Aread(attribute, memory_type, text) < 0) {
        sq_h5_error(object, "read text attribute", name);
        sq_free(text);
        status = SQ_ERR_INPUT;
        goto out_close;
    }
    *text_p = text;
out_close:
    if (memory_type >= 0) H5Tclose(memory_type);
    if (type >= 0) H5Tclose(type);
    if (attribute >= 0) H5Aclose(attribute);
    return status;
}
