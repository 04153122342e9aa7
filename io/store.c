#define _POSIX_C_SOURCE 200809L
#include "io/store.h"

#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "io/lock.h"
#include "io/store_private.h"

/* --- opening ----------------------------------------------------------------------------------------------------- */

/* What a store that is opened must agree with; NULL: not asked. */
struct expectation {
    const struct sq_store_layer *layers;
    int n_layers;
    const char *fingerprint;
};

/* Rank 0 reads and checks what is not rows. */
static enum sq_status read_index(const char *path, const struct expectation *expected, struct sq_store_index *index)
{
    SQ_TRY(sq_store_index_read(path, index));
    if (expected->fingerprint) SQ_TRY(sq_store_check_fingerprint(path, index->fingerprint, expected->fingerprint));
    if (expected->layers) SQ_TRY(sq_store_check_layers(path, index, expected->layers, expected->n_layers));
    return SQ_OK;
}

/* Places of the checksums, and room for a run of tiles. */
static enum sq_status allocate_workspace(struct sq_store *store)
{
    int64_t tiles = 0;
    const struct sq_store_index *index = &store->index;
    SQ_TRY(sq_alloc("the tiles of a store", index->n_layers, sizeof(int64_t), (void **)&store->first_tile));
    for (int l = 0; l < index->n_layers; l++) {
        store->first_tile[l] = tiles;
        tiles += sq_store_layer_tiles(&index->layers[l]);
    }
    return sq_store_run_alloc(store);
}

static enum sq_status open_tables(struct sq_store *store)
{
    SQ_TRY(sq_h5_dataset_open(store->file, "checksums", &store->checksums));
    SQ_TRY(sq_h5_dataset_open(store->file, "reports", &store->reports));
    SQ_TRY(sq_h5_dataset_open(store->file, "report_checksums", &store->report_checksums));
    return sq_h5_dataset_open(store->file, "progress", &store->progress);
}

/* Fills an empty store; it is closed by the caller when this fails. Collective. */
static enum sq_status attach(struct sq_store *store, const struct expectation *expected)
{
    const struct sq_comm *comm = &store->comm;
    enum sq_status status = comm->rank == 0 ? read_index(store->path, expected, &store->index) : SQ_OK;
    SQ_TRY(sq_comm_agree(comm, status));
    SQ_TRY(sq_comm_agree(comm, sq_store_index_share(comm, &store->index)));
    SQ_TRY(sq_comm_agree(comm, allocate_workspace(store)));
    SQ_TRY(sq_h5_open_shared(comm, store->path, store->writable, &store->file));
    return sq_comm_agree(comm, open_tables(store));
}

/* Removes a file that rank 0 has just made and that cannot be opened: it would stand in the way of the next attempt.
 * Done while its lock is held. */
static void discard(const struct sq_comm *comm, const char *path, bool is_new)
{
    if (is_new && comm->rank == 0) unlink(path);
}

/* Opens the file on all ranks; takes over rank 0's lock, also when it fails. is_new: rank 0 has just made it.
 * Collective. */
static enum sq_status open_all(const struct sq_comm *comm, const char *path, bool writable, bool is_new, int lock,
                               const struct expectation *expected, struct sq_store **store_p)
{
    struct sq_store *store = NULL;
    char *copy = NULL;
    enum sq_status status = sq_alloc("a store", 1, sizeof *store, (void **)&store);
    if (status == SQ_OK) status = sq_string_copy(path, &copy);
    status = sq_comm_agree(comm, status);
    if (status != SQ_OK) {
        sq_free(copy);
        sq_free(store);
        discard(comm, path, is_new);
        sq_lock_release(path, lock);
        return status;
    }
    *store = (struct sq_store){.comm = *comm, .path = copy, .writable = writable, .lock = lock, .open_layer = -1};
    store->file = store->checksums = store->reports = store->report_checksums = store->progress = -1;
    store->codes = store->scales = store->zeros = -1;
    status = attach(store, expected);
    if (status != SQ_OK) {
        discard(comm, path, is_new);
        sq_store_close(store);
        return status;
    }
    *store_p = store;
    return SQ_OK;
}

/* Rank 0: locks, and makes the file. */
static enum sq_status lock_and_make(const struct sq_comm *comm, const char *path, const struct sq_store_layer *layers,
                                    int n_layers, const char *config_yaml, const char *fingerprint, int *lock_p)
{
    enum sq_status status = SQ_ERR_USAGE;
    SQ_TRY(sq_lock_take(path, path, lock_p));
    if (access(path, F_OK) == 0) {
        sq_error("store %s exists already; --resume continues it", path);
    } else {
        status = sq_store_make(comm, path, layers, n_layers, config_yaml, fingerprint);
    }
    if (status != SQ_OK) {
        sq_lock_release(path, *lock_p);
        *lock_p = -1;
    }
    return status;
}

enum sq_status sq_store_create(const struct sq_comm *comm, const char *path, const struct sq_store_layer *layers,
                               int n_layers, const char *config_yaml, const char *fingerprint,
                               struct sq_store **store_p)
{
    int lock = -1;
    enum sq_status status = SQ_OK;
    const struct expectation nothing = {0};
    if (comm->rank == 0) status = lock_and_make(comm, path, layers, n_layers, config_yaml, fingerprint, &lock);
    SQ_TRY(sq_comm_agree(comm, status));
    return open_all(comm, path, true, true, lock, &nothing, store_p);
}

enum sq_status sq_store_open(const struct sq_comm *comm, const char *path, bool writable,
                             const struct sq_store_layer *layers, int n_layers, const char *fingerprint,
                             struct sq_store **store_p)
{
    int lock = -1;
    enum sq_status status = SQ_OK;
    const struct expectation expected = {layers, n_layers, fingerprint};
    if (comm->rank == 0 && writable) status = sq_lock_take(path, path, &lock);
    SQ_TRY(sq_comm_agree(comm, status));
    return open_all(comm, path, writable, false, lock, &expected, store_p);
}

void sq_store_close(struct sq_store *store)
{
    if (!store) return;
    sq_store_close_layer(store);
    if (store->checksums >= 0) H5Dclose(store->checksums);
    if (store->reports >= 0) H5Dclose(store->reports);
    if (store->report_checksums >= 0) H5Dclose(store->report_checksums);
    if (store->progress >= 0) H5Dclose(store->progress);
    if (store->file >= 0) sq_h5_close_shared(store->file);
    (void)sq_comm_agree(&store->comm, SQ_OK); /* the lock covers all ranks ... */
    sq_lock_release(store->path, store->lock);
    (void)sq_comm_agree(&store->comm, SQ_OK); /* ... and is free when any of them goes on */
    sq_store_index_release(&store->index);
    sq_free(store->path);
    sq_free(store->first_tile);
    sq_store_run_release(store);
    sq_free(store);
}

/* --- finishing layers -------------------------------------------------------------------------------------------- */

/* Rank 0 writes the reports, still without any meaning. */
static enum sq_status write_reports(struct sq_store *store, const int *layers, int count,
                                    const struct sq_layer_report *reports)
{
    enum sq_status status = SQ_OK;
    hid_t type = sq_store_report_type(false);
    for (int i = 0; i < count && status == SQ_OK; i++) {
        uint64_t hash = sq_store_report_hash(&reports[i]);
        status = sq_h5_write_rows(store->reports, type, layers[i], 1, &reports[i]);
        if (status == SQ_OK) status = sq_h5_write_rows(store->report_checksums, H5T_NATIVE_UINT64, layers[i], 1, &hash);
    }
    H5Tclose(type);
    return status;
}

static enum sq_status write_marks(struct sq_store *store, const int *layers, int count)
{
    static const uint8_t done = 1;
    for (int i = 0; i < count; i++)
        SQ_TRY(sq_h5_write_rows(store->progress, H5T_NATIVE_UINT8, layers[i], 1, &done));
    return SQ_OK;
}

bool sq_store_is_broken(const struct sq_store *store)
{
    return sq_comm_agree(&store->comm, store->is_broken ? SQ_ERR_IO : SQ_OK) != SQ_OK;
}

static enum sq_status finish_layers(struct sq_store *store, enum sq_status status, const int *layers, int count,
                                    const struct sq_layer_report *reports)
{
    const struct sq_comm *comm = &store->comm;
    if (status == SQ_OK) status = sq_store_run_flush(store);
    if (status == SQ_OK && comm->rank == 0) status = write_reports(store, layers, count, reports);
    SQ_TRY(sq_comm_agree(comm, status));
    /* a mark may reach the disk only after everything that it vouches for */
    SQ_TRY(sq_comm_agree(comm, sq_h5_flush(store->file)));
    SQ_TRY(sq_comm_agree(comm, comm->rank == 0 ? write_marks(store, layers, count) : SQ_OK));
    for (int i = 0; i < count; i++) {
        store->index.progress[layers[i]] = 1;
        store->index.reports[layers[i]] = reports[i];
    }
    return SQ_OK;
}

enum sq_status sq_store_finish_layers(struct sq_store *store, enum sq_status status, const int *layers, int count,
                                      const struct sq_layer_report *reports)
{
    status = finish_layers(store, status, layers, count, reports);
    store->is_broken = store->is_broken || status == SQ_ERR_IO;
    return status;
}

/* --- looking ----------------------------------------------------------------------------------------------------- */

const struct sq_store_layer *sq_store_layers(const struct sq_store *store, int *n_layers_p)
{
    *n_layers_p = store->index.n_layers;
    return store->index.layers;
}

const char *sq_store_config(const struct sq_store *store)
{
    return store->index.config;
}

const char *sq_store_fingerprint(const struct sq_store *store)
{
    return store->index.fingerprint;
}

const char *sq_store_versions(const struct sq_store *store)
{
    return store->index.versions;
}

bool sq_store_is_done(const struct sq_store *store, int layer)
{
    return store->index.progress[layer] == 1;
}

const struct sq_layer_report *sq_store_report(const struct sq_store *store, int layer)
{
    return &store->index.reports[layer];
}
