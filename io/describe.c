#include "io/describe.h"

#include <string.h>
#include <xxhash.h>

#include "base/log.h"

bool sq_describe_is_symmetric(const struct sq_store *store)
{
    int n_layers;
    const struct sq_store_layer *layers = sq_store_layers(store, &n_layers);
    for (int l = 0; l < n_layers; l++)
        if (!layers[l].grid.symmetric) return false;
    return true;
}

enum sq_status sq_describe_set(json_t *config, const char *key, json_t *value)
{
    if (json_object_set_new(config, key, value) == 0) return SQ_OK;
    sq_error("cannot make %s of config.json: out of memory", key);
    return SQ_ERR_MEMORY;
}

void sq_describe_fingerprint(const struct sq_store *store, char text[17])
{
    const char *lines = sq_store_fingerprint(store);
    uint64_t hash = XXH3_64bits(lines, strlen(lines));
    for (int i = 0; i < 16; i++)
        text[i] = "0123456789abcdef"[hash >> (60 - 4 * i) & 15];
    text[16] = '\0';
}

json_t *sq_describe_origin(const struct sq_description *description)
{
    char fingerprint[17];
    const struct sq_assemble_options *options = description->options;
    sq_describe_fingerprint(description->store, fingerprint);
    return json_pack("{s:[s+], s:f, s:b, s:b, s:s, s:I}", "quantizer", "shardq:", options->version, "damp_percent",
                     options->damping, "static_groups", (int)options->static_groups, "true_sequential",
                     (int)options->true_sequential, "fingerprint", fingerprint, "shard_bytes",
                     (json_int_t)options->shard_bytes);
}

enum sq_status sq_describe_plain(const struct sq_description *description, json_t *config)
{
    return sq_describe_set(config, "shardq", sq_describe_origin(description));
}
