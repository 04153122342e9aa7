#include "io/checkpoint_private.h"

#include <string.h>
#include <xxhash.h>

#define EDGE_BYTES ((size_t)4096)

/* Each field's hash is the seed of the next one's. */
static uint64_t hash_tensor(const struct sq_tensor *tensor, uint64_t hash)
{
    const char *dtype = sq_dtype_name(tensor->dtype);
    size_t edge = tensor->bytes < EDGE_BYTES ? tensor->bytes : EDGE_BYTES;
    const unsigned char *data = tensor->data;
    hash = XXH3_64bits_withSeed(tensor->name, strlen(tensor->name), hash);
    hash = XXH3_64bits_withSeed(dtype, strlen(dtype), hash);
    hash = XXH3_64bits_withSeed(tensor->shape, (size_t)tensor->n_dims * sizeof *tensor->shape, hash);
    hash = XXH3_64bits_withSeed(data, edge, hash);
    hash = XXH3_64bits_withSeed(data + tensor->bytes - edge, edge, hash);
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
