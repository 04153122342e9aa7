#define _XOPEN_SOURCE 700
#include "io/side_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/job_record.h"
#include "io/safetensors_write.h"

#define LARGEST_BYTES ((int64_t)256 << 20) /* the largest tokenizers take some ten MiB */
#define DEEPEST 4                          /* folders in folders; links could make a circle */

/* --- which files -------------------------------------------------------------------------------------------------- */

static bool is_weights(const char *name)
{
    static const char *const endings[] = {
        ".safetensors", ".index.json", ".bin",       ".pt",     ".pth", ".ckpt", ".h5",     ".msgpack", ".gguf",
        ".ggml",        ".onnx",       ".onnx_data", ".distcp", ".npz", ".npy",  ".tflite", ".pkl",     ".nemo",
    };
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (sq_text_ends_in(name, endings[i])) return true;
    return false;
}

/* What jobs keep beside a store or a checkpoint, this one among them, and what is not yet whole. */
static bool is_of_a_job(const char *name)
{
    static const char *const endings[] = {".lock", ".state", ".tmp"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (sq_text_ends_in(name, endings[i])) return true;
    return false;
}

/* What says how the weights are stored is written anew, or no longer true. */
static bool is_side_file(const char *name)
{
    static const char *const others[] = {"config.json", "quantize_config.json", "quant_config.json",
                                         "hf_quant_config.json", SQ_JOB_RECORD_NAME};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (!strcmp(name, others[i])) return false;
    return !is_weights(name) && !is_of_a_job(name);
}

/* --- copying ------------------------------------------------------------------------------------------------------ */

static enum sq_status copy_bytes(int source, const char *from, int target, const char *to)
{
    char buffer[65536];
    int64_t position = 0;
    for (;;) {
        ssize_t n = read(source, buffer, sizeof buffer);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            sq_error("cannot read %s: %s", from, strerror(errno));
            return SQ_ERR_IO;
        }
        if (n == 0) return SQ_OK;
        SQ_TRY(sq_file_write_at(target, to, position, buffer, (size_t)n));
        position += n;
    }
}

static enum sq_status copy_file(const char *from, const char *to)
{
    int target;
    int source = open(from, O_RDONLY | O_CLOEXEC);
    if (source < 0) {
        sq_error("cannot open %s: %s", from, strerror(errno));
        return SQ_ERR_IO;
    }
    enum sq_status status = sq_file_create(to, &target);
    if (status != SQ_OK) goto out_close_source;
    status = copy_bytes(source, from, target, to);
    enum sq_status closed = sq_file_close_synced(target, to);
    if (status == SQ_OK) status = closed;
out_close_source:
    close(source);
    return status;
}

/* --- folders ------------------------------------------------------------------------------------------------------ */

struct walk;

/* Called for each entry of a folder that is not hidden; links count as what they point to: a download cache keeps its
 * files so. */
typedef enum sq_status visit_fn(const struct walk *walk, const char *name, const char *from, const struct stat *info);

struct walk {
    const char *from, *to;
    int depth;
    visit_fn *visit;
    bool *found_p; /* of has_weights() */
};

static enum sq_status visit_entry(const struct walk *walk, const char *name)
{
    char *path;
    struct stat info;
    SQ_TRY(sq_path_join(walk->from, name, &path));
    enum sq_status status = stat(path, &info) == 0 ? walk->visit(walk, name, path, &info) : SQ_OK;
    sq_free(path);
    return status;
}

static enum sq_status visit_all(const struct walk *walk)
{
    DIR *folder = opendir(walk->from);
    if (!folder) {
        sq_error("cannot list %s: %s", walk->from, strerror(errno));
        return SQ_ERR_IO;
    }
    enum sq_status status = SQ_OK;
    for (struct dirent *entry = readdir(folder); entry && status == SQ_OK; entry = readdir(folder))
        if (entry->d_name[0] != '.') status = visit_entry(walk, entry->d_name);
    closedir(folder);
    return status;
}

static enum sq_status look_for_weights(const struct walk *walk, const char *name, const char *from,
                                       const struct stat *info)
{
    const struct walk inside = {
        .from = from, .depth = walk->depth + 1, .visit = look_for_weights, .found_p = walk->found_p};
    bool is_folder = S_ISDIR(info->st_mode);
    *walk->found_p |= is_folder ? inside.depth > DEEPEST : is_weights(name);
    return is_folder && !*walk->found_p ? visit_all(&inside) : SQ_OK;
}

static enum sq_status copy_entry(const struct walk *walk, const char *name, const char *from, const struct stat *info);

static enum sq_status copy_folder(const struct walk *walk, const char *from, const char *to)
{
    bool has_weights = false;
    const struct walk looking = {
        .from = from, .depth = walk->depth + 1, .visit = look_for_weights, .found_p = &has_weights};
    const struct walk inside = {.from = from, .to = to, .depth = walk->depth + 1, .visit = copy_entry};
    SQ_TRY(visit_all(&looking));
    if (has_weights) return SQ_OK;
    if (mkdir(to, 0777) == 0) return visit_all(&inside);
    sq_error("cannot make folder %s: %s", to, strerror(errno));
    return SQ_ERR_IO;
}

static enum sq_status copy_entry(const struct walk *walk, const char *name, const char *from, const struct stat *info)
{
    char *to;
    if (S_ISREG(info->st_mode) && !is_side_file(name)) return SQ_OK;
    if (S_ISREG(info->st_mode) && info->st_size > LARGEST_BYTES) {
        char size[16];
        sq_info("%s (%s) is not carried over", from, sq_size_format((double)info->st_size, size));
        return SQ_OK;
    }
    SQ_TRY(sq_path_join(walk->to, name, &to));
    enum sq_status status = SQ_OK;
    if (S_ISDIR(info->st_mode))
        status = copy_folder(walk, from, to);
    else if (S_ISREG(info->st_mode))
        status = copy_file(from, to);
    sq_free(to);
    return status;
}

enum sq_status sq_side_files_copy(const char *from, const char *to)
{
    const struct walk walk = {.from = from, .to = to, .visit = copy_entry};
    return visit_all(&walk);
}
