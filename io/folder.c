#define _XOPEN_SOURCE 700
#include "io/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/lock.h"
#include "io/safetensors_write.h"

/* Where the old folder waits for its end: inside the new one, so that no third name is needed beside OUT. */
#define REPLACED ".replaced"

/* In OUT.tmp from its first moment until after the renaming: nobody else's folder has it. */
#define UNFINISHED ".shardq-unfinished"

enum sq_status sq_folder_tmp_name(const char *out, char **tmp_p)
{
    size_t length = strlen(out);
    while (length > 1 && out[length - 1] == '/')
        length--;
    return sq_string_format(tmp_p, "%.*s.tmp", (int)length, out);
}

bool sq_folder_exists(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *place)
{
    (void)info, (void)kind, (void)place;
    if (remove(path) && errno != ENOENT) sq_error("cannot remove %s: %s", path, strerror(errno));
    return 0;
}

static int remove_unmarked(const char *path, const struct stat *info, int kind, struct FTW *place)
{
    bool is_marker = place->level == 1 && !strcmp(path + place->base, UNFINISHED);
    return place->level == 0 || is_marker ? 0 : remove_entry(path, info, kind, place);
}

/* The marker goes last, so that a folder half removed is still known as ours. */
void sq_folder_remove(const char *path)
{
    nftw(path, remove_unmarked, 16, FTW_DEPTH | FTW_PHYS);
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* An empty folder counts: the process was killed before it could put the marker there. */
static bool is_unfinished(const char *path)
{
    struct stat info;
    bool is_marked = false, is_empty = true;
    DIR *folder = lstat(path, &info) == 0 && S_ISDIR(info.st_mode) ? opendir(path) : NULL;
    if (!folder) return false;
    for (struct dirent *entry = readdir(folder); entry && !is_marked; entry = readdir(folder)) {
        is_marked = !strcmp(entry->d_name, UNFINISHED);
        is_empty = is_empty && (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."));
    }
    closedir(folder);
    return is_marked || is_empty;
}

static enum sq_status check_tmp(const char *tmp)
{
    if (!sq_folder_exists(tmp) || is_unfinished(tmp)) return SQ_OK;
    sq_error("%s is there and is not a folder that shardq left unfinished: move it away, or choose another --out", tmp);
    return SQ_ERR_USAGE;
}

void sq_folder_abandon(const char *tmp)
{
    if (is_unfinished(tmp)) sq_folder_remove(tmp);
}

static enum sq_status open_folder(const char *path, int *fd_p)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        sq_error("cannot open folder %s: %s", path, strerror(errno));
        return SQ_ERR_IO;
    }
    *fd_p = fd;
    return SQ_OK;
}

/* The error number; file systems that have nothing to sync for folders say EINVAL. */
static int sync_folder(int fd)
{
    return fsync(fd) == 0 || errno == EINVAL ? 0 : errno;
}

static enum sq_status sync_contents(const char *path)
{
    int fd;
    SQ_TRY(open_folder(path, &fd));
    int error = sync_folder(fd);
    close(fd);
    if (!error) return SQ_OK;
    sq_error("cannot bring folder %s to the disk: %s", path, strerror(error));
    return SQ_ERR_IO;
}

/* The folder that `name` stands in, as something that is only there when it is a folder. */
static enum sq_status parent_of(const char *name, char **parent_p)
{
    const char *slash = strrchr(name, '/');
    return sq_string_format(parent_p, "%.*s.", slash ? (int)(slash + 1 - name) : 0, name);
}

enum sq_status sq_folder_begin(const char *tmp)
{
    SQ_TRY(check_tmp(tmp));
    if (sq_folder_exists(tmp)) sq_folder_remove(tmp);
    if (mkdir(tmp, 0777) != 0) {
        sq_error("cannot make folder %s: %s", tmp, strerror(errno));
        return SQ_ERR_IO;
    }
    SQ_TRY(sq_folder_write_text(tmp, UNFINISHED, ""));
    return sync_contents(tmp);
}

static enum sq_status open_parent(const char *path, int *fd_p)
{
    char *parent;
    SQ_TRY(parent_of(path, &parent));
    enum sq_status status = open_folder(parent, fd_p);
    sq_free(parent);
    return status;
}

static enum sq_status rename_path(const char *from, const char *to)
{
    if (rename(from, to) == 0) return SQ_OK;
    sq_error("cannot rename %s to %s: %s", from, to, strerror(errno));
    return SQ_ERR_IO;
}

/* name_p: OUT without trailing slashes. */
static enum sq_status strip_slashes(const char *out, char **name_p)
{
    SQ_TRY(sq_folder_tmp_name(out, name_p));
    (*name_p)[strlen(*name_p) - strlen(".tmp")] = '\0';
    return SQ_OK;
}

static enum sq_status check_access(const char *out)
{
    char *name = NULL, *parent = NULL;
    enum sq_status status = strip_slashes(out, &name);
    if (status == SQ_OK) status = parent_of(name, &parent);
    if (status == SQ_OK && access(parent, W_OK | X_OK) != 0) {
        sq_error("cannot make folder %s: %s", out, strerror(errno));
        status = SQ_ERR_IO;
    }
    sq_free(name);
    sq_free(parent);
    return status;
}

enum sq_status sq_folder_check_parent(const char *out)
{
    char *tmp;
    SQ_TRY(check_access(out));
    SQ_TRY(sq_folder_tmp_name(out, &tmp));
    enum sq_status status = check_tmp(tmp);
    sq_free(tmp);
    return status;
}

enum sq_status sq_folder_lock(const char *out, const char *tmp, int *lock_p)
{
    SQ_TRY(check_access(out));
    return sq_lock_take(out, tmp, lock_p);
}

/* A failure leaves the old folder, if there was one, where it was. */
static enum sq_status exchange(const char *tmp, const char *name, const char *inside, const char *old,
                               const char *marker)
{
    int parent;
    SQ_TRY(sync_contents(tmp));
    SQ_TRY(open_parent(name, &parent));
    enum sq_status status = sq_folder_exists(name) ? rename_path(name, inside) : SQ_OK;
    if (status == SQ_OK) status = rename_path(tmp, name);
    if (status != SQ_OK && sq_folder_exists(inside)) (void)rename_path(inside, name); /* the old one stays */
    if (status == SQ_OK && sync_folder(parent))
        sq_warning(SQ_WARNING_FILE, "%s is complete, but its name may not be on the disk yet: %s", name,
                   strerror(errno));
    if (status == SQ_OK && unlink(marker) != 0)
        sq_warning(SQ_WARNING_FILE, "cannot remove %s: %s", marker, strerror(errno));
    if (status == SQ_OK && sq_folder_exists(old)) sq_folder_remove(old);
    close(parent);
    return status;
}

enum sq_status sq_folder_finish(const char *tmp, const char *out)
{
    char *name = NULL, *inside = NULL, *old = NULL, *marker = NULL;
    enum sq_status status = strip_slashes(out, &name);
    if (status == SQ_OK) status = sq_path_join(tmp, REPLACED, &inside);
    if (status == SQ_OK) status = sq_path_join(name, REPLACED, &old);
    if (status == SQ_OK) status = sq_path_join(name, UNFINISHED, &marker);
    if (status == SQ_OK) status = exchange(tmp, name, inside, old, marker);
    sq_free(name);
    sq_free(inside);
    sq_free(old);
    sq_free(marker);
    return status;
}

/* --- files in it -------------------------------------------------------------------------------------------------- */

enum sq_status sq_folder_write_text(const char *folder, const char *name, const char *text)
{
    char *path;
    int fd;
    SQ_TRY(sq_path_join(folder, name, &path));
    enum sq_status status = sq_file_create(path, &fd);
    if (status != SQ_OK) goto out_free_path;
    status = sq_file_write_at(fd, path, 0, text, strlen(text));
    enum sq_status closed = sq_file_close_synced(fd, path);
    if (status == SQ_OK) status = closed;
out_free_path:
    sq_free(path);
    return status;
}
