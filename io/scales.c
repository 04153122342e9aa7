#include "io/scales.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "io/checkpoint_private.h"
#include "io/fp8.h"
#include "io/mxfp4.h"

static const struct sq_tensor *find_scale(const struct sq_checkpoint *checkpoint, const struct sq_tensor *tensor)
{
    static const char *const endings[] = {"_scale_inv", "_scale"};
    const struct sq_tensor *scale = NULL;
    for (size_t i = 0; i < sizeof endings / sizeof *endings && !scale; i++) {
        char name[1100];
        int length = snprintf(name, sizeof name, "%s%s", tensor->name, endings[i]);
        if (length < (int)sizeof name) scale = sq_checkpoint_find(checkpoint, name);
    }
    return scale;
}

static bool join(struct sq_tensor *tensor, const struct sq_tensor *scale, struct sq_fp8_block block)
{
    if (tensor->dtype != SQ_MXFP4) return sq_fp8_join(tensor, scale, block);
    if (!sq_mxfp4_fits(tensor, scale)) return false;
    tensor->scale = scale;
    return true;
}

enum sq_status sq_scales_join(struct sq_checkpoint *checkpoint)
{
    struct sq_fp8_block block = sq_fp8_find_block(checkpoint->config);
    for (int64_t i = 0; i < checkpoint->n_tensors; i++) {
        struct sq_tensor *tensor = &checkpoint->tensors[i];
        bool may_have =
            sq_dtype_has_scales(tensor->dtype) && tensor->n_dims <= 2; /* fused experts that stay are not read */
        const struct sq_tensor *scale = may_have ? find_scale(checkpoint, tensor) : NULL;
        if (!scale) continue;
        if (join(tensor, scale, block)) continue;
        sq_error("%s: tensor %s: type %s with %d dimensions, the first %lld x %lld, are no scales for %s "
                 "[%lld, %lld] (blocks of config.json: %lld x %lld)",
                 scale->file, scale->name, sq_dtype_name(scale->dtype), scale->n_dims,
                 (long long)sq_tensor_dimension(scale, 0), (long long)sq_tensor_dimension(scale, 1), tensor->name,
                 (long long)sq_tensor_dimension(tensor, 0), (long long)sq_tensor_dimension(tensor, 1),
                 (long long)block.rows, (long long)block.columns);
        return SQ_ERR_INPUT;
    }
    return SQ_OK;
}

bool sq_scales_is_auxiliary(const struct sq_checkpoint *checkpoint, const struct sq_tensor *tensor)
{
    static const char *const endings[] = {".weight_scale_inv", ".weight_scale", ".input_scale", ".activation_scale"};
    size_t length = strlen(tensor->name);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        char prefix[1100];
        size_t ending = strlen(endings[i]);
        if (length <= ending || length - ending >= sizeof prefix) continue;
        if (strcmp(tensor->name + length - ending, endings[i]) != 0) continue;
        snprintf(prefix, sizeof prefix, "%.*s", (int)(length - ending), tensor->name);
        const struct sq_tensor *weight = sq_checkpoint_find_part(checkpoint, prefix, "weight");
        return weight && sq_dtype_has_scales(weight->dtype);
    }
    return false;
}
