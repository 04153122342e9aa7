#include "io/checkpoint_private.h"

#include <stdbool.h>
#include <string.h>

#include "base/log.h"

static bool is_file_name(const char *name)
{
    if (!*name || strlen(name) > 255 || name[0] == '.') return false;
    for (const char *c = name; *c; c++)
        if (*c == '/' || *c == '\\' || (unsigned char)*c < 0x20 || *c == 0x7f) return false;
    return true;
}

static enum sq_status collect_shards(const json_t *weight_map, const char *path, json_t *seen)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)weight_map, name, value)
    {
        const char *shard = json_string_value(value);
        if (!shard || !is_file_name(shard)) {
            sq_error("%s: tensor %s: its shard is not a plain file name", path, name);
            return SQ_ERR_INPUT;
        }
        if (!json_object_get(seen, shard) && json_object_set_new(seen, shard, json_true()) != 0) {
            sq_error("%s: cannot remember shard %s: out of memory", path, shard);
            return SQ_ERR_MEMORY;
        }
    }
    return SQ_OK;
}

static enum sq_status keys_of(json_t *object, const char *path, json_t **keys_p)
{
    json_t *keys = json_array();
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        if (json_array_append_new(keys, json_string(name)) != 0) {
            sq_error("%s: cannot list its shards: out of memory", path);
            json_decref(keys);
            return SQ_ERR_MEMORY;
        }
    }
    *keys_p = keys;
    return SQ_OK;
}

enum sq_status sq_index_list_shards(const json_t *index, const char *path, json_t **shards_p)
{
    const json_t *weight_map = json_object_get(index, "weight_map");
    if (!json_is_object(weight_map) || json_object_size(weight_map) == 0) {
        sq_error("%s: weight_map is not an object that names tensors", path);
        return SQ_ERR_INPUT;
    }
    json_t *seen = json_object();
    enum sq_status status = collect_shards(weight_map, path, seen);
    if (status == SQ_OK) status = keys_of(seen, path, shards_p);
    json_decref(seen);
    return status;
}

enum sq_status sq_index_check_tensors(const json_t *index, const char *path, const struct sq_checkpoint *checkpoint)
{
    const char *name;
    json_t *value;
    json_object_foreach(json_object_get(index, "weight_map"), name, value)
    {
        const char *shard = json_string_value(value);
        const struct sq_tensor *tensor = sq_checkpoint_find(checkpoint, name);
        const char *slash = tensor ? strrchr(tensor->file, '/') : NULL;
        if (slash && !strcmp(slash + 1, shard)) continue;
        sq_error("%s: tensor %s is not in shard %s that it names", path, name, shard);
        return SQ_ERR_INPUT;
    }
    return SQ_OK;
}
