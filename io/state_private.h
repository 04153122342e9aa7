/* What the files of the state file share. Its layout:
 *
 *   /                    attributes: key (what the file belongs to: format, sizes, fingerprint)
 *   /slot0/samples       u8  [n_samples * sample_bytes]
 *   /slot0/checksums     u64 [n_samples]     XXH3 of each sample
 *   /slot0/header        u64 [4]             sequence (from 1), block, XXH3 of the checksums, XXH3 of the three before
 *   /slot1/...           the same
 *
 * A slot counts only when its header holds; the one with the larger sequence is the newest. */
#ifndef SQ_IO_STATE_PRIVATE_H
#define SQ_IO_STATE_PRIVATE_H

#include "io/h5.h"
#include "io/state.h"

enum { SQ_STATE_SEQUENCE, SQ_STATE_BLOCK, SQ_STATE_CHECKSUMS_HASH, SQ_STATE_HEADER_HASH, SQ_STATE_HEADER_WORDS };

/* A complete slot; sequence 0: there is none. */
struct sq_state_mark {
    int64_t sequence, block;
};

struct sq_state_shape {
    int64_t n_samples, sample_bytes;
    const char *key; /* attribute of the file */
};

/* Fills header [SQ_STATE_HEADER_WORDS] for these checksums u64 [n_samples]. */
void sq_state_header_fill(const struct sq_state_mark *mark, const uint64_t *checksums, int64_t n_samples,
                          uint64_t *header);

/* Looks at an existing file without a word: false when it cannot be used, with the reason in words. marks_p: its two
 * slots. checksums: room for u64 [n_samples]. Rank 0 alone. */
bool sq_state_look(const char *path, const struct sq_state_shape *shape, uint64_t *checksums, char words[SQ_H5_WORDS],
                   struct sq_state_mark marks_p[2]);

/* Makes an empty file with all its room on the disk, in place of whatever is there. Rank 0 alone. */
enum sq_status sq_state_make(const struct sq_comm *comm, const char *path,
                             const struct sq_state_shape *shape) SQ_MUST_CHECK;

#endif
