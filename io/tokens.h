/* The token file: HDF5, dataset /tokens int32 [samples, length] with attributes of provenance. */
#ifndef SQ_IO_TOKENS_H
#define SQ_IO_TOKENS_H

#include <stdint.h>

#include "base/status.h"
#include "mpi/comm.h"

struct sq_tokens {
    int64_t n_samples, length;
    int32_t *ids;     /* [n_samples, length], owned */
    char *provenance; /* "key: value" lines of the dataset's attributes, owned */
    uint64_t hash;    /* XXH3 of n_samples, length and the ids */
};

/* Reads the file on rank 0, checks type, shape, 0 <= id < vocab_size (0: not checked) and length <= max_length (0: not
 * checked), and sends it to all. Collective. SQ_ERR_INPUT names the file and the first bad sample, position and id. */
enum sq_status sq_tokens_read(const struct sq_comm *comm, const char *path, int64_t vocab_size, int64_t max_length,
                              struct sq_tokens *tokens_p) SQ_MUST_CHECK;
void sq_tokens_release(struct sq_tokens *tokens);

#endif
