/* The state file: activations at a block boundary, in two alternating slots, so that a resume need not start from the
 * embedding. A slot is complete only when its header says so with a matching checksum; a crash in mid-write leaves the
 * other slot. Beside the store: STORE.state (HDF5, written through MPI-IO like the store). */
#ifndef SQ_IO_STATE_H
#define SQ_IO_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "mpi/comm.h"

struct sq_state;

/* Opens or makes the file for n_samples samples of sample_bytes each. A file of another fingerprint or shape, or a
 * damaged one, is made anew (with a line saying so). newest_block_p: the block before which the newest complete slot
 * stands, or -1. Collective. */
enum sq_status sq_state_open(const struct sq_comm *comm, const char *path, const char *fingerprint, int64_t n_samples,
                             int64_t sample_bytes, struct sq_state **state_p, int64_t *newest_block_p) SQ_MUST_CHECK;

/* Moves one sample, counted from 0 on this rank, into or out of `bytes`: wherever the samples lie, one at a time goes
 * by way of the host. */
typedef enum sq_status sq_state_move_fn(void *samples, int64_t sample, void *bytes);

/* Writes this rank's samples [first, first + count), as `get` gives them, as of before `block` into the older slot,
 * then, after all ranks agree, completes it. Collective. */
enum sq_status sq_state_save(struct sq_state *state, int64_t block, int64_t first, int64_t count, sq_state_move_fn *get,
                             void *samples) SQ_MUST_CHECK;

/* Reads samples [first, first + count) of the newest complete slot, checksums checked, and hands each to `set`;
 * SQ_ERR_INPUT on every rank, after a warning of rank 0, when they do not match. Collective. */
enum sq_status sq_state_load(struct sq_state *state, int64_t first, int64_t count, sq_state_move_fn *set,
                             void *samples) SQ_MUST_CHECK;

/* As sq_store_is_broken(): the job has to be aborted. Collective. */
bool sq_state_is_broken(const struct sq_state *state);

/* Closes; `remove` also deletes the file (the job is done). Collective; NULL is fine. */
void sq_state_close(struct sq_state *state, int remove);

#endif
