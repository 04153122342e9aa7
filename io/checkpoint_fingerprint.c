#include "io/checkpoint_private.h"

#include <string.h>
#include <xxhash.h>

#define PAGE_BYTES ((size_t)4096)
#define N_PAGES ((size_t)34) /* of a large tensor: its two ends and 32 between */

/* Page i begins at floor((bytes - PAGE_BYTES) * i / (N_PAGES - 1)). */
static uint64_t hash_data(const unsigned char *data, size_t bytes, uint64_t hash)
{
    if (bytes <= N_PAGES * PAGE_BYTES) return XXH3_64bits_withSeed(data, bytes, hash);
    for (size_t i = 0; i < N_PAGES; i++)
        hash = XXH3_64bits_withSeed(data + (bytes - PAGE_BYTES) * i / (N_PAGES - 1), PAGE_BYTES, hash);
    return hash;
}

/* Each field's hash is the seed of the next one's. */
static uint64_t hash_tensor(const struct sq_tensor *tensor, uint64_t hash)
{
    const char *dtype = sq_dtype_name(tensor->dtype);
    hash = XXH3_64bits_withSeed(tensor->name, strlen(tensor->name), hash);
    hash = XXH3_64bits_withSeed(dtype, strlen(dtype), hash);
    hash = XXH3_64bits_withSeed(tensor->shape, (size_t)tensor->n_dims * sizeof *tensor->shape, hash);
    hash = hash_data(tensor->data, sq_tensor_span(tensor), hash);
    sq_tensor_give_back(tensor);
    return hash;
}

uint64_t sq_checkpoint_fingerprint(const struct sq_checkpoint *checkpoint)
{
    uint64_t hash = checkpoint->config_hash;
    for (int64_t i = 0; i < checkpoint->n_tensors; i++)
        hash = hash_tensor(&checkpoint->tensors[i], hash);
    return hash;
}
