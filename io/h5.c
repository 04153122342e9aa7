#define _POSIX_C_SOURCE 200809L
#include "io/h5.h"

#include <errno.h>
#include <mpi.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/watch.h"
#include "io/stale.h"

/* --- errors ----------------------------------------------------------------------------------------------------------
 */

/* Errors of the system come with file, place, buffer and time: only what failed and the system's words are kept. */
static void shorten(const char *text, char *words)
{
    static const char mark[] = "error message = '";
    const char *reason = strstr(text, mark);
    if (reason) {
        reason += strlen(mark);
        snprintf(words, SQ_H5_WORDS, "%.*s: %.*s", (int)strcspn(text, ":"), text, (int)strcspn(reason, "'"), reason);
    } else {
        snprintf(words, SQ_H5_WORDS, "%s", text);
    }
    for (char *c = words; *c; c++)
        if (*c == '\n') *c = ' ';
}

static herr_t keep_first(unsigned n, const H5E_error2_t *error, void *words)
{
    (void)n;
    if (((char *)words)[0] == '\0' && error->desc) shorten(error->desc, words);
    return 0;
}

char *sq_h5_words(char words[SQ_H5_WORDS])
{
    words[0] = '\0';
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, words);
    if (words[0] == '\0') snprintf(words, SQ_H5_WORDS, "HDF5 gives no reason");
    return words;
}

void sq_h5_error(hid_t object, const char *what, const char *name)
{
    char words[SQ_H5_WORDS], file[1024] = "?", path[512] = "";
    sq_h5_words(words); /* first: the calls below empty the error stack */
    H5Fget_name(object, file, sizeof file);
    if (H5Iget_name(object, path, sizeof path) < 0) path[0] = '\0';
    bool is_root = strcmp(path, "/") == 0;
    sq_error("cannot %s %s:%s%s%s: %s", what, file, is_root && name ? "" : path, name ? "/" : "", name ? name : "",
             words);
}

void sq_h5_quiet(void)
{
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

/* --- files -----------------------------------------------------------------------------------------------------------
 */

#define CACHE_BYTES ((size_t)2 << 20)

/* A flush walks all of the metadata that HDF5 keeps in memory, by default as much as there is of it: with ten thousands
 * of layers, each looked up once or twice, that took most of the time. */
static void limit_cache(hid_t access)
{
    H5AC_cache_config_t config = {.version = H5AC__CURR_CACHE_CONFIG_VERSION};
    if (H5Pget_mdc_config(access, &config) < 0) return;
    config.set_initial_size = true;
    config.initial_size = config.max_size = config.min_size = CACHE_BYTES;
    config.incr_mode = H5C_incr__off;
    config.flash_incr_mode = H5C_flash_incr__off;
    config.decr_mode = H5C_decr__off;
    H5Pset_mdc_config(access, &config);
}

/* Access of one process. HDF5's own file lock is off: it fails on file systems without locks, and the store has its
 * own. */
static hid_t serial_access(void)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_fapl_sec2(access);
    H5Pset_file_locking(access, false, true);
    H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
    limit_cache(access);
    return access;
}

enum sq_status sq_h5_create(const char *path, int64_t metadata_bytes, hid_t *file_p)
{
    sq_h5_quiet();
    hid_t access = serial_access(), creation = H5Pcreate(H5P_FILE_CREATE);
    H5Pset_meta_block_size(access, (hsize_t)metadata_bytes);
    H5Pset_obj_track_times(creation, false);
    char words[SQ_H5_WORDS];
    struct sq_stale stale = {0};
    hid_t file;
    do {
        errno = 0; /* it is that of the system call inside HDF5 */
        file = H5Fcreate(path, H5F_ACC_TRUNC, creation, access);
    } while (file < 0 && sq_stale_wait(&stale, errno, path));
    if (file < 0) sq_error("cannot create %s: %s", path, sq_h5_words(words));
    H5Pclose(creation);
    H5Pclose(access);
    if (file < 0) return SQ_ERR_IO;
    *file_p = file;
    return SQ_OK;
}

/* Opening a FIFO would wait for its writer, for ever. */
static bool is_pipe_or_device(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode);
}

hid_t sq_h5_try_open(const char *path, char words[SQ_H5_WORDS])
{
    if (is_pipe_or_device(path)) {
        snprintf(words, SQ_H5_WORDS, "it is no regular file");
        return -1;
    }
    sq_h5_quiet();
    hid_t access_list = serial_access(), file;
    struct sq_stale stale = {0};
    do {
        errno = 0;
        file = H5Fopen(path, H5F_ACC_RDONLY, access_list);
    } while (file < 0 && sq_stale_wait(&stale, errno, path));
    if (file < 0) sq_h5_words(words);
    H5Pclose(access_list);
    return file;
}

static bool is_accessible(const char *path, int mode)
{
    struct sq_stale stale = {0};
    int code;
    do
        code = access(path, mode);
    while (code != 0 && sq_stale_wait(&stale, errno, path));
    return code == 0;
}

enum sq_status sq_h5_open(const char *path, hid_t *file_p)
{
    if (!is_accessible(path, R_OK)) {
        sq_error("cannot read %s: %s", path, strerror(errno));
        return SQ_ERR_INPUT;
    }
    char words[SQ_H5_WORDS];
    hid_t file = sq_h5_try_open(path, words);
    if (file < 0) {
        sq_error("cannot open %s as an HDF5 file: %s", path, words);
        return SQ_ERR_INPUT;
    }
    *file_p = file;
    return SQ_OK;
}

/* ROMIO takes what stands before a colon for the kind of file system: a name that has one gets a kind that fits all. */
static enum sq_status shared_name(const char *path, char **name_p)
{
    return strchr(path, ':') ? sq_string_format(name_p, "ufs:%s", path) : sq_string_copy(path, name_p);
}

/* Opening and closing through MPI-IO are collective inside HDF5: a rank that cannot see the file must be found before.
 */
static enum sq_status check_access(const struct sq_comm *comm, const char *path, bool writable)
{
    enum sq_status status = SQ_OK;
    if (!is_accessible(path, writable ? R_OK | W_OK : R_OK)) {
        sq_error("cannot open %s for %s: %s", path, writable ? "writing" : "reading", strerror(errno));
        status = SQ_ERR_IO;
    } else if (is_pipe_or_device(path)) {
        sq_error("cannot open %s through MPI-IO: %s", path, "it is no regular file");
        status = SQ_ERR_IO;
    }
    return sq_comm_agree(comm, status);
}

/* One try; when it fails, *code_p is errno's last value and words are HDF5's. Collective. */
static hid_t try_open_shared(const struct sq_comm *comm, const char *name, bool writable, char words[SQ_H5_WORDS],
                             int *code_p)
{
    hid_t access_list = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_fapl_mpio(access_list, MPI_Comm_f2c((MPI_Fint)comm->handle),
                     comm->hints ? MPI_Info_f2c((MPI_Fint)comm->hints) : MPI_INFO_NULL);
    limit_cache(access_list);
    errno = 0;
    sq_watch_begin("opening a file through MPI-IO");
    hid_t file = H5Fopen(name, writable ? H5F_ACC_RDWR : H5F_ACC_RDONLY, access_list);
    sq_watch_end();
    *code_p = errno;
    if (file < 0) sq_h5_words(words);
    H5Pclose(access_list);
    return file;
}

/* The ranks try again together while any of them finds its file system stale. */
static enum sq_status open_patiently(const struct sq_comm *comm, const char *path, const char *name, bool writable,
                                     hid_t *file_p)
{
    char words[SQ_H5_WORDS];
    struct sq_stale stale = {0};
    for (;;) {
        int code;
        hid_t file = try_open_shared(comm, name, writable, words, &code);
        int64_t found[2] = {file < 0, file < 0 && code == ESTALE}; /* failed, stale */
        SQ_TRY(sq_comm_max_i64(comm, found, 2));
        if (!found[0]) {
            *file_p = file;
            return SQ_OK;
        }
        /* a rank that has the file open cannot close it alone, and would hang at the end */
        if (file >= 0) sq_comm_abort(sq_status_exit_code(SQ_ERR_IO));
        if (found[1] && sq_stale_wait(&stale, ESTALE, path)) continue;
        sq_error("cannot open %s through MPI-IO: %s", path, code == ESTALE ? strerror(code) : words);
        return SQ_ERR_IO;
    }
}

enum sq_status sq_h5_open_shared(const struct sq_comm *comm, const char *path, bool writable, hid_t *file_p)
{
    char *name = NULL;
    SQ_TRY(check_access(comm, path, writable));
    enum sq_status status = sq_comm_agree(comm, shared_name(path, &name));
    if (status != SQ_OK) {
        sq_free(name);
        return status;
    }
    sq_h5_quiet();
    status = open_patiently(comm, path, name, writable, file_p);
    sq_free(name);
    return status;
}

void sq_h5_close_shared(hid_t file)
{
    sq_watch_begin("closing a file through MPI-IO");
    H5Fclose(file);
    sq_watch_end();
}

enum sq_status sq_h5_close(hid_t file, const char *path)
{
    if (H5Fclose(file) >= 0) return SQ_OK;
    char words[SQ_H5_WORDS];
    sq_error("cannot complete %s: %s", path, sq_h5_words(words));
    return SQ_ERR_IO;
}

enum sq_status sq_h5_flush(hid_t file)
{
    sq_watch_begin("flushing a file through MPI-IO");
    herr_t code = H5Fflush(file, H5F_SCOPE_GLOBAL);
    sq_watch_end();
    if (code >= 0) return SQ_OK;
    sq_h5_error(file, "flush", NULL);
    return SQ_ERR_IO;
}
