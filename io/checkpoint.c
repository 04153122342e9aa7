#define _POSIX_C_SOURCE 200809L
#include "io/checkpoint_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/fused.h"
#include "io/quantization.h"
#include "io/safetensors.h"
#include "io/scales.h"

static int compare_name(const void *left, const void *right)
{
    const struct sq_tensor *a = left, *b = right;
    return strcmp(a->name, b->name);
}

/* Moves the tensors of one file to the end of the checkpoint's. */
static enum sq_status append_tensors(struct sq_checkpoint *checkpoint, struct sq_tensor_list *list)
{
    void *all;
    int64_t count = checkpoint->n_tensors + list->count;
    SQ_TRY(sq_alloc("the tensors of a checkpoint", count, sizeof *list->items, &all));
    struct sq_tensor *tensors = all;
    for (int64_t i = 0; i < checkpoint->n_tensors; i++)
        tensors[i] = checkpoint->tensors[i];
    for (int64_t i = 0; i < list->count; i++) {
        tensors[checkpoint->n_tensors + i] = list->items[i];
        tensors[checkpoint->n_tensors + i].is_mapped = true;
    }
    sq_free(checkpoint->tensors);
    checkpoint->tensors = tensors;
    checkpoint->n_tensors = count;
    list->count = 0; /* the names have a new owner */
    return SQ_OK;
}

static enum sq_status add_file(struct sq_checkpoint *checkpoint, const char *name)
{
    char *path;
    struct sq_tensor_list list;
    SQ_TRY(sq_path_join(checkpoint->folder, name, &path));
    struct sq_map *map = &checkpoint->maps[checkpoint->n_maps];
    enum sq_status status = sq_map_open(path, map);
    sq_free(path);
    if (status != SQ_OK) return status;
    checkpoint->n_maps++; /* from here on closed with the checkpoint */
    SQ_TRY(sq_safetensors_parse(map->data, map->bytes, map->path, &list));
    status = append_tensors(checkpoint, &list);
    sq_tensor_list_release(&list);
    return status;
}

static enum sq_status alloc_maps(struct sq_checkpoint *checkpoint, size_t count)
{
    void *maps;
    SQ_TRY(sq_alloc("the maps of a checkpoint", (int64_t)count, sizeof *checkpoint->maps, &maps));
    checkpoint->maps = maps;
    return SQ_OK;
}

enum sq_status sq_checkpoint_sort(struct sq_checkpoint *checkpoint)
{
    struct sq_tensor *tensors = checkpoint->tensors;
    qsort(tensors, (size_t)checkpoint->n_tensors, sizeof *tensors, compare_name);
    for (int64_t i = 1; i < checkpoint->n_tensors; i++) {
        if (strcmp(tensors[i - 1].name, tensors[i].name) != 0) continue;
        sq_error("tensor %s is both in %s and in %s", tensors[i].name, tensors[i - 1].file, tensors[i].file);
        return SQ_ERR_INPUT;
    }
    return SQ_OK;
}

static enum sq_status check_shard_exists(const struct sq_checkpoint *checkpoint, const char *index, const char *name)
{
    char *path;
    SQ_TRY(sq_path_join(checkpoint->folder, name, &path));
    int missing = access(path, F_OK);
    if (missing) sq_error("%s names shard %s: %s", index, name, strerror(errno));
    sq_free(path);
    return missing ? SQ_ERR_INPUT : SQ_OK;
}

static enum sq_status add_shards(struct sq_checkpoint *checkpoint, const json_t *shards, const char *index)
{
    size_t i;
    json_t *item;
    SQ_TRY(alloc_maps(checkpoint, json_array_size(shards)));
    json_array_foreach(shards, i, item)
    {
        SQ_TRY(check_shard_exists(checkpoint, index, json_string_value(item)));
        SQ_TRY(add_file(checkpoint, json_string_value(item)));
    }
    return sq_checkpoint_sort(checkpoint);
}

static enum sq_status add_indexed(struct sq_checkpoint *checkpoint, const char *path)
{
    json_t *index, *shards;
    SQ_TRY(sq_json_read(path, &index));
    enum sq_status status = sq_index_list_shards(index, path, &shards);
    if (status != SQ_OK) goto out_index;
    status = add_shards(checkpoint, shards, path);
    json_decref(shards);
    if (status == SQ_OK) status = sq_index_check_tensors(index, path, checkpoint);
out_index:
    json_decref(index);
    return status;
}

static enum sq_status add_single(struct sq_checkpoint *checkpoint)
{
    SQ_TRY(alloc_maps(checkpoint, 1));
    SQ_TRY(add_file(checkpoint, SQ_CHECKPOINT_SINGLE));
    return sq_checkpoint_sort(checkpoint);
}

static bool has_file(const struct sq_checkpoint *checkpoint, const char *name)
{
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/%s", checkpoint->folder, name);
    return length < (int)sizeof path && access(path, F_OK) == 0;
}

/* A folder with both forms is read as one file, as transformers does. */
static enum sq_status add_weights(struct sq_checkpoint *checkpoint)
{
    if (has_file(checkpoint, SQ_CHECKPOINT_SINGLE)) return add_single(checkpoint);
    if (!has_file(checkpoint, SQ_CHECKPOINT_INDEX)) {
        sq_error("folder %s has neither " SQ_CHECKPOINT_SINGLE " nor " SQ_CHECKPOINT_INDEX, checkpoint->folder);
        return SQ_ERR_INPUT;
    }
    char *path;
    SQ_TRY(sq_path_join(checkpoint->folder, SQ_CHECKPOINT_INDEX, &path));
    enum sq_status status = add_indexed(checkpoint, path);
    sq_free(path);
    return status;
}

static enum sq_status parse_config(struct sq_checkpoint *checkpoint, const struct sq_map *map)
{
    SQ_TRY(sq_json_parse(map->data, map->bytes, map->path, &checkpoint->config));
    checkpoint->config_hash = XXH3_64bits(map->data, map->bytes);
    if (json_is_object(checkpoint->config)) return SQ_OK;
    sq_error("%s: not a JSON object", map->path);
    return SQ_ERR_INPUT;
}

static enum sq_status read_config_file(struct sq_checkpoint *checkpoint, const char *path)
{
    struct sq_map map;
    SQ_TRY(sq_map_open(path, &map));
    enum sq_status status = parse_config(checkpoint, &map);
    sq_map_close(&map);
    return status;
}

static enum sq_status read_config(struct sq_checkpoint *checkpoint)
{
    char *path;
    SQ_TRY(sq_path_join(checkpoint->folder, "config.json", &path));
    enum sq_status status = read_config_file(checkpoint, path);
    sq_free(path);
    return status;
}

enum sq_status sq_checkpoint_open(const char *folder, struct sq_checkpoint **checkpoint_p)
{
    void *memory;
    SQ_TRY(sq_alloc("a checkpoint", 1, sizeof(struct sq_checkpoint), &memory));
    struct sq_checkpoint *checkpoint = memory;
    enum sq_status status = sq_string_copy(folder, &checkpoint->folder);
    if (status == SQ_OK) status = read_config(checkpoint);
    if (status == SQ_OK) status = add_weights(checkpoint);
    if (status == SQ_OK) status = sq_fused_split(checkpoint);
    if (status == SQ_OK) status = sq_scales_join(checkpoint);
    if (status == SQ_OK) status = sq_quantization_open(checkpoint);
    if (status != SQ_OK) goto out_close;
    *checkpoint_p = checkpoint;
    return SQ_OK;
out_close:
    sq_checkpoint_close(checkpoint);
    return status;
}

/* The folder of a path to config.json, or the path itself. */
static enum sq_status find_folder(const char *path, bool *is_file_p, char **folder_p)
{
    struct stat info;
    *is_file_p = stat(path, &info) == 0 && S_ISREG(info.st_mode);
    SQ_TRY(sq_string_copy(path, folder_p));
    if (!*is_file_p) return SQ_OK;
    char *slash = strrchr(*folder_p, '/');
    if (slash && slash > *folder_p) *slash = '\0';
    if (!slash) strcpy(*folder_p, ".");
    return SQ_OK;
}

enum sq_status sq_checkpoint_open_bare(const char *path, struct sq_checkpoint **checkpoint_p)
{
    void *memory;
    bool is_file = false;
    SQ_TRY(sq_alloc("a checkpoint", 1, sizeof(struct sq_checkpoint), &memory));
    struct sq_checkpoint *checkpoint = memory;
    checkpoint->is_bare = true;
    enum sq_status status = find_folder(path, &is_file, &checkpoint->folder);
    if (status == SQ_OK) status = is_file ? read_config_file(checkpoint, path) : read_config(checkpoint);
    if (status != SQ_OK) {
        sq_checkpoint_close(checkpoint);
        return status;
    }
    *checkpoint_p = checkpoint;
    return SQ_OK;
}

bool sq_checkpoint_is_bare(const struct sq_checkpoint *checkpoint)
{
    return checkpoint->is_bare;
}

void sq_checkpoint_close(struct sq_checkpoint *checkpoint)
{
    if (!checkpoint) return;
    for (int64_t i = 0; i < checkpoint->n_tensors; i++)
        sq_free(checkpoint->tensors[i].name);
    for (int i = 0; i < checkpoint->n_maps; i++)
        sq_map_close(&checkpoint->maps[i]);
    sq_free(checkpoint->tensors);
    sq_free(checkpoint->maps);
    sq_quantization_close(checkpoint->quantization);
    json_decref(checkpoint->config);
    sq_free(checkpoint->folder);
    sq_free(checkpoint);
}
