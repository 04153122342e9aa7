/* What the files of the checkpoint reader share. */
#ifndef SQ_IO_CHECKPOINT_PRIVATE_H
#define SQ_IO_CHECKPOINT_PRIVATE_H

#include <jansson.h>
#include <stdint.h>

#include "io/checkpoint.h"
#include "io/map.h"

#define SQ_CHECKPOINT_INDEX "model.safetensors.index.json"
#define SQ_CHECKPOINT_SINGLE "model.safetensors"

struct sq_checkpoint {
    char *folder;
    bool is_bare; /* nothing but config */
    json_t *config;
    uint64_t config_hash; /* XXH3 of config.json as it lies on disk */
    struct sq_map *maps;  /* one per safetensors file; owns the paths that tensors point to */
    int n_maps;
    struct sq_tensor *tensors; /* sorted by name */
    int64_t n_tensors;
    struct sq_quantization *quantization; /* NULL: nothing is quantized (io/quantization.h) */
};

/* Sorts the tensors by name; a name that is there twice is SQ_ERR_INPUT. Local. */
enum sq_status sq_checkpoint_sort(struct sq_checkpoint *checkpoint) SQ_MUST_CHECK;

/* The shards named by an index, each once, as an array of strings, after checking that `weight_map` is an object from
 * names to plain file names (a path could lead out of the folder). `path` is the index's, for messages. Released with
 * json_decref(). Local. */
enum sq_status sq_index_list_shards(const json_t *index, const char *path, json_t **shards_p) SQ_MUST_CHECK;

/* Every tensor named by the index is in the checkpoint, in the shard that the index says. Local. */
enum sq_status sq_index_check_tensors(const json_t *index, const char *path,
                                      const struct sq_checkpoint *checkpoint) SQ_MUST_CHECK;

#endif
