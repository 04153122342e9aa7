/* Small wrappers around HDF5: its errors become a status and one line in HDF5's own words. Handles are hid_t; whoever
 * gets one closes it with the H5?close() of its kind. Local unless a comment says Collective. */
#ifndef SQ_IO_H5_H
#define SQ_IO_H5_H

#include <hdf5.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "mpi/comm.h"

#define SQ_H5_WORDS 512

/* What HDF5's error stack says about the last failed call (its innermost entry), into words. Returns words. Must be
 * called before any other call of HDF5. */
char *sq_h5_words(char words[SQ_H5_WORDS]);

/* Prints "cannot WHAT FILE:OBJECT/NAME: HDF5's words" for a call that has just failed; name may be NULL. */
void sq_h5_error(hid_t object, const char *what, const char *name);

/* Switches HDF5's own printing off; every function below that opens or makes a file does it. */
void sq_h5_quiet(void);

/* --- files (h5.c) ----------------------------------------------------------------------------------------------------
 */

/* Makes (or empties) a file for this process alone. metadata_bytes: room kept together at the front for everything that
 * is not data. SQ_ERR_IO. */
enum sq_status sq_h5_create(const char *path, int64_t metadata_bytes, hid_t *file_p) SQ_MUST_CHECK;

/* Opens a file for reading by this process alone, without a message: negative when that fails, the reason in words. */
hid_t sq_h5_try_open(const char *path, char words[SQ_H5_WORDS]);

/* The same with a message. SQ_ERR_INPUT. */
enum sq_status sq_h5_open(const char *path, hid_t *file_p) SQ_MUST_CHECK;

/* Opens a file through MPI-IO on all ranks of comm. Collective; SQ_ERR_IO on every rank when it fails on one. */
enum sq_status sq_h5_open_shared(const struct sq_comm *comm, const char *path, bool writable,
                                 hid_t *file_p) SQ_MUST_CHECK;

/* Closes one that was opened so, of which nothing is left to write: all of it was raw. Collective. */
void sq_h5_close_shared(hid_t file);

/* Closes a file made by sq_h5_create(). SQ_ERR_IO when what was still in memory cannot be written. */
enum sq_status sq_h5_close(hid_t file, const char *path) SQ_MUST_CHECK;

/* Everything written so far by any rank is on the disk afterwards. Collective on a shared file. SQ_ERR_IO. */
enum sq_status sq_h5_flush(hid_t file) SQ_MUST_CHECK;

/* --- contents (h5_data.c) --------------------------------------------------------------------------------------------
 */

enum sq_status sq_h5_group_create(hid_t parent, const char *name, hid_t *group_p) SQ_MUST_CHECK;

/* Contiguous, its place in the file given at once, never filled. dims [n_dims], n_dims in [1, 2], none zero. */
enum sq_status sq_h5_dataset_create(hid_t parent, const char *name, hid_t type, int n_dims,
                                    const int64_t *dims) SQ_MUST_CHECK;

/* SQ_ERR_INPUT when it is absent. */
enum sq_status sq_h5_dataset_open(hid_t parent, const char *name, hid_t *dataset_p) SQ_MUST_CHECK;

/* The same with its shape, dims_p [n_dims]: SQ_ERR_INPUT when type or number of dimensions is another or the data is
 * not whole in the file. Not for shared files, of which HDF5 does not know the size. */
enum sq_status sq_h5_dataset_open_checked(hid_t parent, const char *name, hid_t type, int n_dims, int64_t *dims_p,
                                          hid_t *dataset_p) SQ_MUST_CHECK;

/* Writes or reads rows [row, row + rows) of a dataset (all of the other dimension) at once, without other ranks;
 * memory_type is the type in data. Less than 2 GiB per call (MPI-IO's limit). SQ_ERR_IO. */
enum sq_status sq_h5_write_rows(hid_t dataset, hid_t memory_type, int64_t row, int64_t rows,
                                const void *data) SQ_MUST_CHECK;
enum sq_status sq_h5_read_rows(hid_t dataset, hid_t memory_type, int64_t row, int64_t rows, void *data) SQ_MUST_CHECK;

/* Opens a dataset (checked as above), reads its `rows` rows and closes it; another number of them is SQ_ERR_INPUT. */
enum sq_status sq_h5_dataset_read(hid_t parent, const char *name, hid_t file_type, hid_t memory_type, int64_t rows,
                                  void *data) SQ_MUST_CHECK;

/* --- attributes (h5_attribute.c) -------------------------------------------------------------------------------------
 */

enum sq_status sq_h5_set_integer(hid_t object, const char *name, int64_t value) SQ_MUST_CHECK;
enum sq_status sq_h5_set_text(hid_t object, const char *name, const char *text) SQ_MUST_CHECK;

/* SQ_ERR_INPUT when the attribute is absent or of another kind. Text is new, released with sq_free(). */
enum sq_status sq_h5_get_integer(hid_t object, const char *name, int64_t *value_p) SQ_MUST_CHECK;
enum sq_status sq_h5_get_text(hid_t object, const char *name, char **text_p) SQ_MUST_CHECK;

/* All attributes of an object, sorted by name, as lines "name: value" (elements of arrays are joined by ", "; kinds
 * other than text and numbers are left out). New text, released with sq_free(). */
enum sq_status sq_h5_attributes_text(hid_t object, char **text_p) SQ_MUST_CHECK;

#endif
