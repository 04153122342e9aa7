#define _POSIX_C_SOURCE 200809L
#include "io/state.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/log.h"
#include "base/memory.h"
#include "io/state_private.h"

#define PIECE_BYTES ((int64_t)1 << 28) /* HDF5 through MPI-IO moves less than 2 GiB in a call */

struct slot {
    struct sq_state_mark mark;
    hid_t samples, checksums, header;
};

struct sq_state {
    struct sq_comm comm;
    char *path;
    int64_t n_samples, sample_bytes;
    bool is_broken;      /* saving has failed */
    uint64_t *checksums; /* [n_samples], workspace */
    hid_t file;
    struct slot slots[2];
};

/* The newest complete slot; NULL when there is none. */
static struct slot *newest_slot(struct sq_state *state)
{
    struct slot *slots = state->slots;
    struct slot *newest = slots[1].mark.sequence > slots[0].mark.sequence ? &slots[1] : &slots[0];
    return newest->mark.sequence > 0 ? newest : NULL;
}

/* --- opening ----------------------------------------------------------------------------------------------------- */

/* Rank 0: takes the file that is there, or makes one. */
static enum sq_status look_or_make(struct sq_state *state, const char *fingerprint)
{
    char *key, words[SQ_H5_WORDS];
    struct sq_state_mark marks[2] = {{0, 0}, {0, 0}};
    SQ_TRY(sq_string_format(&key, "shardq state 1\nn_samples: %lld\nsample_bytes: %lld\n%s",
                            (long long)state->n_samples, (long long)state->sample_bytes, fingerprint));
    struct sq_state_shape shape = {state->n_samples, state->sample_bytes, key};
    enum sq_status status = SQ_OK;
    bool exists = access(state->path, F_OK) == 0;
    if (!exists || !sq_state_look(state->path, &shape, state->checksums, words, marks)) {
        if (exists) sq_info("state file %s is made anew: %s", state->path, words);
        status = sq_state_make(&state->comm, state->path, &shape);
    }
    sq_free(key);
    state->slots[0].mark = marks[0];
    state->slots[1].mark = marks[1];
    return status;
}

static enum sq_status open_slot(hid_t file, const char *name, struct slot *slot)
{
    hid_t group = H5Gopen2(file, name, H5P_DEFAULT);
    if (group < 0) {
        sq_h5_error(file, "open group", name);
        return SQ_ERR_INPUT;
    }
    enum sq_status status = sq_h5_dataset_open(group, "samples", &slot->samples);
    if (status == SQ_OK) status = sq_h5_dataset_open(group, "checksums", &slot->checksums);
    if (status == SQ_OK) status = sq_h5_dataset_open(group, "header", &slot->header);
    H5Gclose(group);
    return status;
}

static enum sq_status open_slots(struct sq_state *state)
{
    SQ_TRY(open_slot(state->file, "slot0", &state->slots[0]));
    return open_slot(state->file, "slot1", &state->slots[1]);
}

/* Collective; the caller closes the state when it fails. */
static enum sq_status attach(struct sq_state *state, const char *fingerprint)
{
    const struct sq_comm *comm = &state->comm;
    SQ_TRY(sq_comm_agree(comm, comm->rank == 0 ? look_or_make(state, fingerprint) : SQ_OK));
    for (int s = 0; s < 2; s++)
        SQ_TRY(sq_comm_broadcast(comm, 0, &state->slots[s].mark, sizeof state->slots[s].mark));
    SQ_TRY(sq_h5_open_shared(comm, state->path, true, &state->file));
    return sq_comm_agree(comm, open_slots(state));
}

static enum sq_status allocate(const struct sq_comm *comm, const char *path, int64_t n_samples, int64_t sample_bytes,
                               struct sq_state **state_p)
{
    struct sq_state *state;
    SQ_TRY(sq_alloc("a state file", 1, sizeof *state, (void **)&state));
    *state_p = state; /* the caller closes it in any case */
    *state = (struct sq_state){.comm = *comm, .n_samples = n_samples, .sample_bytes = sample_bytes, .file = -1};
    for (int s = 0; s < 2; s++)
        state->slots[s] = (struct slot){.samples = -1, .checksums = -1, .header = -1};
    SQ_TRY(sq_string_copy(path, &state->path));
    return sq_alloc("checksums of samples", n_samples, sizeof(uint64_t), (void **)&state->checksums);
}

enum sq_status sq_state_open(const struct sq_comm *comm, const char *path, const char *fingerprint, int64_t n_samples,
                             int64_t sample_bytes, struct sq_state **state_p, int64_t *newest_block_p)
{
    struct sq_state *state = NULL;
    enum sq_status status = sq_comm_agree(comm, allocate(comm, path, n_samples, sample_bytes, &state));
    if (status == SQ_OK) status = attach(state, fingerprint);
    if (status != SQ_OK) {
        sq_state_close(state, 0);
        return status;
    }
    const struct slot *newest = newest_slot(state);
    *newest_block_p = newest ? newest->mark.block : -1;
    *state_p = state;
    return SQ_OK;
}

void sq_state_close(struct sq_state *state, int remove)
{
    if (!state) return;
    for (int s = 0; s < 2; s++) {
        const struct slot *slot = &state->slots[s];
        if (slot->samples >= 0) H5Dclose(slot->samples);
        if (slot->checksums >= 0) H5Dclose(slot->checksums);
        if (slot->header >= 0) H5Dclose(slot->header);
    }
    if (state->file >= 0) {
        sq_h5_close_shared(state->file);
        (void)sq_comm_agree(&state->comm, SQ_OK);
        if (remove && state->comm.rank == 0 && unlink(state->path) != 0)
            sq_warning(SQ_WARNING_FILE, "cannot remove %s: %s", state->path, strerror(errno));
    }
    sq_free(state->path);
    sq_free(state->checksums);
    sq_free(state);
}

/* --- saving ------------------------------------------------------------------------------------------------------ */

/* Where samples [first, first + count) come from or go to. */
struct transfer {
    int64_t first, count;
    sq_state_move_fn *move;
    void *samples;
    uint8_t *bytes; /* one sample */
};

/* start: of the sample in the dataset. */
static enum sq_status write_sample(hid_t dataset, int64_t start, int64_t bytes, const uint8_t *sample)
{
    for (int64_t at = 0; at < bytes; at += PIECE_BYTES) {
        int64_t piece = bytes - at < PIECE_BYTES ? bytes - at : PIECE_BYTES;
        SQ_TRY(sq_h5_write_rows(dataset, H5T_NATIVE_UINT8, start + at, piece, sample + at));
    }
    return SQ_OK;
}

/* Writes this rank's samples and leaves their checksums in the workspace, zeros elsewhere. Local. */
static enum sq_status write_samples(struct sq_state *state, hid_t dataset, const struct transfer *t)
{
    memset(state->checksums, 0, (size_t)state->n_samples * sizeof *state->checksums);
    for (int64_t s = 0; s < t->count; s++) {
        SQ_TRY(t->move(t->samples, s, t->bytes));
        SQ_TRY(write_sample(dataset, (t->first + s) * state->sample_bytes, state->sample_bytes, t->bytes));
        state->checksums[t->first + s] = XXH3_64bits(t->bytes, (size_t)state->sample_bytes);
    }
    return SQ_OK;
}

/* Rank 0 writes the header and all wait until it is on the disk. Collective. */
static enum sq_status write_header(struct sq_state *state, hid_t dataset, const uint64_t *header)
{
    enum sq_status status = SQ_OK;
    if (state->comm.rank == 0) status = sq_h5_write_rows(dataset, H5T_NATIVE_UINT64, 0, SQ_STATE_HEADER_WORDS, header);
    SQ_TRY(sq_comm_agree(&state->comm, status));
    return sq_comm_agree(&state->comm, sq_h5_flush(state->file));
}

/* Everything of a slot but its header, all on the disk at the end. Collective. */
static enum sq_status write_contents(struct sq_state *state, const struct slot *slot, const struct transfer *transfer)
{
    const struct sq_comm *comm = &state->comm;
    SQ_TRY(sq_comm_agree(comm, write_samples(state, slot->samples, transfer)));
    /* every sample has one owner, all others add zero */
    SQ_TRY(sq_comm_sum_i64(comm, (int64_t *)state->checksums, state->n_samples));
    enum sq_status status = SQ_OK;
    if (comm->rank == 0)
        status = sq_h5_write_rows(slot->checksums, H5T_NATIVE_UINT64, 0, state->n_samples, state->checksums);
    SQ_TRY(sq_comm_agree(comm, status));
    return sq_comm_agree(comm, sq_h5_flush(state->file));
}

static enum sq_status save(struct sq_state *state, int64_t block, const struct transfer *transfer)
{
    static const uint64_t nothing[SQ_STATE_HEADER_WORDS] = {0};
    uint64_t header[SQ_STATE_HEADER_WORDS];
    const struct slot *newest = newest_slot(state);
    struct slot *slot = newest == &state->slots[0] ? &state->slots[1] : &state->slots[0];
    struct sq_state_mark mark = {newest ? newest->mark.sequence + 1 : 1, block};
    /* the old header must not vouch for a mixture of old and new samples */
    slot->mark = (struct sq_state_mark){0, 0};
    SQ_TRY(write_header(state, slot->header, nothing));
    SQ_TRY(write_contents(state, slot, transfer));
    sq_state_header_fill(&mark, state->checksums, state->n_samples, header);
    SQ_TRY(write_header(state, slot->header, header));
    slot->mark = mark;
    return SQ_OK;
}

/* Collective: room for one sample on every rank, then `run`. */
static enum sq_status with_room(struct sq_state *state, struct transfer *transfer, int64_t block,
                                enum sq_status (*run)(struct sq_state *, int64_t block, const struct transfer *))
{
    void *room = NULL;
    enum sq_status status = sq_comm_agree(&state->comm, sq_alloc("a sample", state->sample_bytes, 1, &room));
    transfer->bytes = room;
    if (status == SQ_OK) status = run(state, block, transfer);
    sq_free(room);
    return status;
}

enum sq_status sq_state_save(struct sq_state *state, int64_t block, int64_t first, int64_t count, sq_state_move_fn *get,
                             void *samples)
{
    struct transfer transfer = {.first = first, .count = count, .move = get, .samples = samples};
    enum sq_status status = with_room(state, &transfer, block, save);
    state->is_broken = state->is_broken || status == SQ_ERR_IO;
    return status;
}

bool sq_state_is_broken(const struct sq_state *state)
{
    return sq_comm_agree(&state->comm, state->is_broken ? SQ_ERR_IO : SQ_OK) != SQ_OK;
}

/* --- loading ----------------------------------------------------------------------------------------------------- */

static enum sq_status read_sample(struct sq_state *state, const struct slot *slot, int64_t sample, uint64_t checksum,
                                  uint8_t *bytes, bool *is_whole_p)
{
    int64_t start = sample * state->sample_bytes;
    for (int64_t at = 0; at < state->sample_bytes; at += PIECE_BYTES) {
        int64_t piece = state->sample_bytes - at < PIECE_BYTES ? state->sample_bytes - at : PIECE_BYTES;
        SQ_TRY(sq_h5_read_rows(slot->samples, H5T_NATIVE_UINT8, start + at, piece, bytes + at));
    }
    *is_whole_p = XXH3_64bits(bytes, (size_t)state->sample_bytes) == checksum;
    return SQ_OK;
}

/* *damaged_p: the first sample with another checksum, after which no more are read; -1: none. */
static enum sq_status read_samples(struct sq_state *state, const struct slot *slot, const struct transfer *t,
                                   int64_t *damaged_p)
{
    *damaged_p = -1;
    SQ_TRY(sq_h5_read_rows(slot->checksums, H5T_NATIVE_UINT64, t->first, t->count, state->checksums));
    for (int64_t s = 0; s < t->count; s++) {
        bool is_whole;
        SQ_TRY(read_sample(state, slot, t->first + s, state->checksums[s], t->bytes, &is_whole));
        if (!is_whole) {
            *damaged_p = t->first + s;
            return SQ_OK;
        }
        SQ_TRY(t->move(t->samples, s, t->bytes));
    }
    return SQ_OK;
}

static enum sq_status load(struct sq_state *state, int64_t block, const struct transfer *transfer)
{
    const struct slot *newest = newest_slot(state);
    int64_t damaged;
    (void)block;
    SQ_TRY(sq_comm_agree(&state->comm, read_samples(state, newest, transfer, &damaged)));
    SQ_TRY(sq_comm_max_i64(&state->comm, &damaged, 1));
    if (damaged < 0) return SQ_OK;
    if (state->comm.rank == 0)
        sq_warning(SQ_WARNING_DAMAGE,
                   "%s: the checksum of sample %lld (before block %lld) does not match: what was saved is of no use",
                   state->path, (long long)damaged, (long long)newest->mark.block);
    return SQ_ERR_INPUT;
}

enum sq_status sq_state_load(struct sq_state *state, int64_t first, int64_t count, sq_state_move_fn *set, void *samples)
{
    struct transfer transfer = {.first = first, .count = count, .move = set, .samples = samples};
    if (newest_slot(state)) return with_room(state, &transfer, 0, load);
    if (state->comm.rank == 0) sq_error("%s holds no complete state", state->path);
    return SQ_ERR_INPUT;
}
