/* Sample shards: a fixed number of contiguous pieces of the samples, whatever the number of ranks. Sums are made shard
 * by shard, so the arithmetic never depends on who owns which. */
#ifndef SQ_GPTQ_SHARDS_H
#define SQ_GPTQ_SHARDS_H

#include <stdint.h>

#include "mpi/split.h"

struct sq_shards {
    int64_t n_samples; /* of the job */
    int64_t n_shards;
    struct sq_range mine;    /* shards of this rank */
    struct sq_range samples; /* samples of this rank: those of its shards */
};

/* The shards of `rank` of `n_ranks`; ranks beyond the number of shards have none. Local. */
struct sq_shards sq_shards_make(int64_t n_samples, int64_t n_shards, int rank, int n_ranks);

/* Those of the first rank that has most samples. Local. */
struct sq_shards sq_shards_largest(int64_t n_samples, int64_t n_shards, int n_ranks);

/* Samples of shard s, counted from this rank's first sample. Local. */
struct sq_range sq_shards_local(const struct sq_shards *shards, int64_t s);

#endif
