/* The state file as rank 0 alone sees it: made, or looked at. */
#define _POSIX_C_SOURCE 200809L
#include "io/state_private.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/memory.h"
#include "io/store_file.h"

void sq_state_header_fill(const struct sq_state_mark *mark, const uint64_t *checksums, int64_t n_samples,
                          uint64_t *header)
{
    header[SQ_STATE_SEQUENCE] = (uint64_t)mark->sequence;
    header[SQ_STATE_BLOCK] = (uint64_t)mark->block;
    header[SQ_STATE_CHECKSUMS_HASH] = XXH3_64bits(checksums, (size_t)n_samples * sizeof *checksums);
    header[SQ_STATE_HEADER_HASH] = XXH3_64bits(header, SQ_STATE_HEADER_HASH * sizeof *header);
}

/* --- looking: HDF5 is called directly, because failure is no error here ------------------------------------------ */

/* Whether the dataset is there, 1-D, with this many elements; data not NULL: also read. */
static bool read_quietly(hid_t file, const char *name, hid_t type, int64_t count, void *data)
{
    hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT);
    if (dataset < 0) return false;
    hid_t space = H5Dget_space(dataset);
    bool good = H5Sget_simple_extent_ndims(space) == 1 && H5Sget_simple_extent_npoints(space) == count;
    if (good && data) good = H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0;
    H5Sclose(space);
    H5Dclose(dataset);
    return good;
}

static bool has_key(hid_t file, const char *key)
{
    char *stored;
    if (H5Aexists(file, "key") <= 0 || sq_h5_get_text(file, "key", &stored) != SQ_OK) return false;
    bool same = strcmp(stored, key) == 0;
    sq_free(stored);
    return same;
}

/* One slot; false when the file is no state file. An incomplete slot is none. */
static bool look_at_slot(hid_t file, int slot, const struct sq_state_shape *shape, uint64_t *checksums,
                         struct sq_state_mark *mark_p)
{
    uint64_t header[SQ_STATE_HEADER_WORDS], wanted[SQ_STATE_HEADER_WORDS];
    char samples_name[32], checksums_name[32], header_name[32];
    snprintf(samples_name, sizeof samples_name, "slot%d/samples", slot);
    snprintf(checksums_name, sizeof checksums_name, "slot%d/checksums", slot);
    snprintf(header_name, sizeof header_name, "slot%d/header", slot);
    if (!read_quietly(file, samples_name, H5T_NATIVE_UINT8, shape->n_samples * shape->sample_bytes, NULL) ||
        !read_quietly(file, checksums_name, H5T_NATIVE_UINT64, shape->n_samples, checksums) ||
        !read_quietly(file, header_name, H5T_NATIVE_UINT64, SQ_STATE_HEADER_WORDS, header))
        return false;
    struct sq_state_mark mark = {(int64_t)header[SQ_STATE_SEQUENCE], (int64_t)header[SQ_STATE_BLOCK]};
    sq_state_header_fill(&mark, checksums, shape->n_samples, wanted);
    if (memcmp(header, wanted, sizeof header) == 0 && mark.sequence > 0) *mark_p = mark;
    return true;
}

bool sq_state_look(const char *path, const struct sq_state_shape *shape, uint64_t *checksums, char words[SQ_H5_WORDS],
                   struct sq_state_mark marks_p[2])
{
    struct sq_state_mark marks[2] = {{0, 0}, {0, 0}};
    hid_t file = sq_h5_try_open(path, words);
    if (file < 0) return false;
    bool mine = has_key(file, shape->key), whole = true;
    for (int slot = 0; slot < 2 && mine && whole; slot++)
        whole = look_at_slot(file, slot, shape, checksums, &marks[slot]);
    H5Fclose(file);
    snprintf(words, SQ_H5_WORDS, "%s", !mine ? "it belongs to another run" : "it is damaged");
    if (!mine || !whole) return false;
    marks_p[0] = marks[0];
    marks_p[1] = marks[1];
    return true;
}

/* --- making ------------------------------------------------------------------------------------------------------ */

static enum sq_status write_slot(hid_t file, const char *name, const struct sq_state_shape *shape)
{
    hid_t group;
    int64_t bytes = shape->n_samples * shape->sample_bytes, samples = shape->n_samples, words = SQ_STATE_HEADER_WORDS;
    SQ_TRY(sq_h5_group_create(file, name, &group));
    enum sq_status status = sq_h5_dataset_create(group, "samples", H5T_STD_U8LE, 1, &bytes);
    if (status == SQ_OK) status = sq_h5_dataset_create(group, "checksums", H5T_STD_U64LE, 1, &samples);
    if (status == SQ_OK) status = sq_h5_dataset_create(group, "header", H5T_STD_U64LE, 1, &words);
    H5Gclose(group);
    return status;
}

static enum sq_status write_file(const char *path, const struct sq_state_shape *shape)
{
    hid_t file;
    SQ_TRY(sq_h5_create(path, 16384, &file));
    enum sq_status status = sq_h5_set_text(file, "key", shape->key);
    if (status == SQ_OK) status = write_slot(file, "slot0", shape);
    if (status == SQ_OK) status = write_slot(file, "slot1", shape);
    enum sq_status closed = sq_h5_close(file, path);
    return status != SQ_OK ? status : closed;
}

enum sq_status sq_state_make(const struct sq_comm *comm, const char *path, const struct sq_state_shape *shape)
{
    char *temporary;
    int64_t slot_bytes = shape->n_samples * (shape->sample_bytes + (int64_t)sizeof(uint64_t));
    SQ_TRY(sq_string_format(&temporary, "%s.tmp", path));
    unlink(path); /* a file that cannot be used gives its room to the new one */
    enum sq_status status = sq_file_probe(comm, temporary, 2 * slot_bytes + 32768);
    if (status == SQ_OK) {
        status = write_file(temporary, shape);
        if (status == SQ_OK) status = sq_file_publish(temporary, path);
        if (status != SQ_OK) unlink(temporary);
    }
    sq_free(temporary);
    return status;
}
