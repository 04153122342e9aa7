#include "io/h5.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "io/stale.h"

enum sq_status sq_h5_group_create(hid_t parent, const char *name, hid_t *group_p)
{
    hid_t creation = H5Pcreate(H5P_GROUP_CREATE);
    H5Pset_obj_track_times(creation, false);
    hid_t group = H5Gcreate2(parent, name, H5P_DEFAULT, creation, H5P_DEFAULT);
    if (group < 0) sq_h5_error(parent, "create group", name);
    H5Pclose(creation);
    if (group < 0) return SQ_ERR_IO;
    *group_p = group;
    return SQ_OK;
}

enum sq_status sq_h5_dataset_create(hid_t parent, const char *name, hid_t type, int n_dims, const int64_t *dims)
{
    hsize_t sizes[2] = {(hsize_t)dims[0], n_dims > 1 ? (hsize_t)dims[1] : 1};
    hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_obj_track_times(creation, false);
    H5Pset_layout(creation, H5D_CONTIGUOUS);
    H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER);
    hid_t space = H5Screate_simple(n_dims, sizes, NULL);
    hid_t dataset = H5Dcreate2(parent, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    if (dataset < 0) sq_h5_error(parent, "create dataset", name);
    H5Sclose(space);
    H5Pclose(creation);
    if (dataset < 0) return SQ_ERR_IO;
    H5Dclose(dataset);
    return SQ_OK;
}

/* Shape of an open dataset; false when it has another number of dimensions. */
static bool get_shape(hid_t dataset, int n_dims, int64_t *dims)
{
    hsize_t sizes[2];
    hid_t space = H5Dget_space(dataset);
    bool fits = H5Sget_simple_extent_ndims(space) == n_dims && H5Sget_simple_extent_dims(space, sizes, NULL) == n_dims;
    for (int i = 0; fits && i < n_dims; i++)
        dims[i] = (int64_t)sizes[i];
    H5Sclose(space);
    return fits;
}

/* Whether all the bytes that the shape asks for lie inside the file: a damaged shape may not ask for endless memory. */
static bool is_stored(hid_t dataset, size_t element_bytes, int n_dims, const int64_t *dims)
{
    hsize_t file_bytes, bytes = element_bytes;
    haddr_t offset = H5Dget_offset(dataset);
    hid_t file = H5Iget_file_id(dataset);
    bool good = file >= 0 && H5Fget_filesize(file, &file_bytes) >= 0 && offset != HADDR_UNDEF && offset <= file_bytes;
    for (int i = 0; i < n_dims && good; i++)
        good = !__builtin_mul_overflow(bytes, (hsize_t)dims[i], &bytes);
    if (file >= 0) H5Fclose(file);
    return good && bytes <= file_bytes - offset && H5Dget_storage_size(dataset) == bytes;
}

enum sq_status sq_h5_dataset_open(hid_t parent, const char *name, hid_t *dataset_p)
{
    hid_t dataset = H5Dopen2(parent, name, H5P_DEFAULT);
    if (dataset < 0) {
        sq_h5_error(parent, "open dataset", name);
        return SQ_ERR_INPUT;
    }
    *dataset_p = dataset;
    return SQ_OK;
}

enum sq_status sq_h5_dataset_open_checked(hid_t parent, const char *name, hid_t type, int n_dims, int64_t *dims_p,
                                          hid_t *dataset_p)
{
    hid_t dataset;
    int64_t dims[2] = {0, 0};
    SQ_TRY(sq_h5_dataset_open(parent, name, &dataset));
    hid_t found = H5Dget_type(dataset);
    bool fits = H5Tequal(found, type) > 0 && get_shape(dataset, n_dims, dims);
    bool stored = fits && is_stored(dataset, H5Tget_size(type), n_dims, dims);
    H5Tclose(found);
    if (!stored) {
        char path[1024] = "?";
        H5Fget_name(dataset, path, sizeof path);
        H5Dclose(dataset);
        sq_error("%s: dataset %s %s", path, name,
                 fits ? "has more elements than the file holds" : "has another type or number of dimensions");
        return SQ_ERR_INPUT;
    }
    for (int i = 0; i < n_dims; i++)
        dims_p[i] = dims[i];
    *dataset_p = dataset;
    return SQ_OK;
}

/* Selects rows [row, row + rows) in the file and an array of that shape in memory; false when HDF5 refuses. */
static bool select_rows(hid_t dataset, int64_t row, int64_t rows, hid_t *space_p, hid_t *memory_p)
{
    hsize_t start[2] = {(hsize_t)row, 0}, count[2] = {0, 0};
    hid_t space = H5Dget_space(dataset);
    int n_dims = H5Sget_simple_extent_ndims(space);
    bool fits = n_dims >= 1 && n_dims <= 2 && H5Sget_simple_extent_dims(space, count, NULL) == n_dims;
    count[0] = (hsize_t)rows;
    fits = fits && H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0;
    hid_t memory = fits ? H5Screate_simple(n_dims, count, NULL) : -1;
    if (memory < 0) {
        H5Sclose(space);
        return false;
    }
    *space_p = space;
    *memory_p = memory;
    return true;
}

/* A transfer that failed with this errno, which is still that of the system call inside it: HDF5 and MPI-IO do not
 * always pass it on. */
static bool is_worth_another_try(hid_t dataset, int code, struct sq_stale *stale)
{
    char path[1024] = "?";
    if (code != ESTALE) return false;
    H5Fget_name(dataset, path, sizeof path);
    return sq_stale_wait(stale, code, path);
}

static void transfer_error(hid_t dataset, const char *what, int code)
{
    char file[1024] = "?", path[512] = "?";
    if (code != ESTALE) {
        sq_h5_error(dataset, what, NULL);
        return;
    }
    H5Fget_name(dataset, file, sizeof file);
    H5Iget_name(dataset, path, sizeof path);
    sq_error("cannot %s %s:%s: %s", what, file, path, strerror(code));
}

enum sq_status sq_h5_write_rows(hid_t dataset, hid_t memory_type, int64_t row, int64_t rows, const void *data)
{
    hid_t space, memory;
    bool written = false;
    int code;
    struct sq_stale stale = {0};
    if (rows == 0) return SQ_OK;
    if (select_rows(dataset, row, rows, &space, &memory)) {
        do {
            errno = 0;
            written = H5Dwrite(dataset, memory_type, memory, space, H5P_DEFAULT, data) >= 0;
            code = errno;
        } while (!written && is_worth_another_try(dataset, code, &stale));
        if (!written) transfer_error(dataset, "write to", code);
        H5Sclose(memory);
        H5Sclose(space);
    } else {
        sq_h5_error(dataset, "select rows of", NULL);
    }
    return written ? SQ_OK : SQ_ERR_IO;
}

enum sq_status sq_h5_read_rows(hid_t dataset, hid_t memory_type, int64_t row, int64_t rows, void *data)
{
    hid_t space, memory;
    bool read = false;
    int code;
    struct sq_stale stale = {0};
    if (rows == 0) return SQ_OK;
    if (select_rows(dataset, row, rows, &space, &memory)) {
        do {
            errno = 0;
            read = H5Dread(dataset, memory_type, memory, space, H5P_DEFAULT, data) >= 0;
            code = errno;
        } while (!read && is_worth_another_try(dataset, code, &stale));
        if (!read) transfer_error(dataset, "read", code);
        H5Sclose(memory);
        H5Sclose(space);
    } else {
        sq_h5_error(dataset, "select rows of", NULL);
    }
    return read ? SQ_OK : SQ_ERR_IO;
}

enum sq_status sq_h5_dataset_read(hid_t parent, const char *name, hid_t file_type, hid_t memory_type, int64_t rows,
                                  void *data)
{
    hid_t dataset;
    int64_t found;
    SQ_TRY(sq_h5_dataset_open_checked(parent, name, file_type, 1, &found, &dataset));
    enum sq_status status = SQ_ERR_INPUT;
    if (found == rows) {
        status = sq_h5_read_rows(dataset, memory_type, 0, rows, data);
    } else {
        sq_error("dataset %s has %lld rows where %lld are expected", name, (long long)found, (long long)rows);
    }
    H5Dclose(dataset);
    return status;
}
