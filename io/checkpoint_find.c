#include "io/checkpoint_private.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"

const char *sq_checkpoint_folder(const struct sq_checkpoint *checkpoint)
{
    return checkpoint->folder;
}

const json_t *sq_checkpoint_config(const struct sq_checkpoint *checkpoint)
{
    return checkpoint->config;
}

int64_t sq_checkpoint_n_tensors(const struct sq_checkpoint *checkpoint)
{
    return checkpoint->n_tensors;
}

const struct sq_tensor *sq_checkpoint_tensor(const struct sq_checkpoint *checkpoint, int64_t index)
{
    return &checkpoint->tensors[index];
}

/* What a bare checkpoint has under every name. */
static const struct sq_tensor bare_tensor = {.name = "", .file = "", .dtype = SQ_F32};

const struct sq_tensor *sq_checkpoint_find(const struct sq_checkpoint *checkpoint, const char *name)
{
    if (checkpoint->is_bare) return &bare_tensor;
    int64_t low = 0, high = checkpoint->n_tensors;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        int order = strcmp(name, checkpoint->tensors[middle].name);
        if (order == 0) return &checkpoint->tensors[middle];
        if (order < 0) high = middle;
        if (order > 0) low = middle + 1;
    }
    return NULL;
}

const struct sq_tensor *sq_checkpoint_find_part(const struct sq_checkpoint *checkpoint, const char *prefix,
                                                const char *part)
{
    char name[1024];
    int length = snprintf(name, sizeof name, "%s.%s", prefix, part);
    return length < (int)sizeof name ? sq_checkpoint_find(checkpoint, name) : NULL;
}

#define SHAPE_TEXT (SQ_TENSOR_MAX_DIMS * 22 + 3)

/* "[49152, 576]" */
static const char *format_shape(int n_dims, const int64_t *shape, char text[SHAPE_TEXT])
{
    size_t used = (size_t)snprintf(text, SHAPE_TEXT, "[");
    for (int i = 0; i < n_dims; i++)
        used += (size_t)snprintf(text + used, SHAPE_TEXT - used, "%s%lld", i ? ", " : "", (long long)shape[i]);
    snprintf(text + used, SHAPE_TEXT - used, "]");
    return text;
}

static enum sq_status check_shape(const struct sq_tensor *tensor, int n_dims, const int64_t *shape)
{
    if (tensor->n_dims == n_dims && !memcmp(tensor->shape, shape, (size_t)n_dims * sizeof *shape)) return SQ_OK;
    char found[SHAPE_TEXT], wanted[SHAPE_TEXT];
    sq_error("%s: tensor %s has shape %s, the model needs %s", tensor->file, tensor->name,
             format_shape(tensor->n_dims, tensor->shape, found), format_shape(n_dims, shape, wanted));
    return SQ_ERR_INPUT;
}

enum sq_status sq_checkpoint_require(const struct sq_checkpoint *checkpoint, const char *name, int n_dims,
                                     const int64_t *shape, const struct sq_tensor **tensor_p)
{
    const struct sq_tensor *tensor = sq_checkpoint_find(checkpoint, name);
    if (!tensor) {
        char wanted[SHAPE_TEXT];
        sq_error("folder %s has no tensor %s; the model needs it with shape %s", checkpoint->folder, name,
                 format_shape(n_dims, shape, wanted));
        return SQ_ERR_INPUT;
    }
    if (!checkpoint->is_bare) SQ_TRY(check_shape(tensor, n_dims, shape));
    SQ_TRY(sq_tensor_check_readable(tensor));
    *tensor_p = tensor;
    return SQ_OK;
}
