#include "gptq/shards.h"

struct sq_shards sq_shards_make(int64_t n_samples, int64_t n_shards, int rank, int n_ranks)
{
    struct sq_shards shards = {.n_samples = n_samples, .n_shards = n_shards, .mine = sq_split(n_shards, rank, n_ranks)};
    int64_t first = sq_split(n_samples, shards.mine.first, n_shards).first;
    int64_t end = sq_split(n_samples, shards.mine.first + shards.mine.count, n_shards).first;
    shards.samples = (struct sq_range){first, end - first};
    return shards;
}

struct sq_shards sq_shards_largest(int64_t n_samples, int64_t n_shards, int n_ranks)
{
    struct sq_shards largest = sq_shards_make(n_samples, n_shards, 0, n_ranks);
    for (int rank = 1; rank < n_ranks; rank++) {
        struct sq_shards shards = sq_shards_make(n_samples, n_shards, rank, n_ranks);
        if (shards.samples.count > largest.samples.count) largest = shards;
    }
    return largest;
}

struct sq_range sq_shards_local(const struct sq_shards *shards, int64_t s)
{
    struct sq_range range = sq_split(shards->n_samples, s, shards->n_shards);
    range.first -= shards->samples.first;
    return range;
}
