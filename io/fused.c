#include "io/fused.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "io/checkpoint_private.h"

#define MIXTRAL "MixtralForCausalLM"

/* A name's ending, what the tensor has for each expert, one or two matrices, and what their names have instead. */
struct fused_kind {
    const char *architecture; /* NULL: the others */
    const char *ending;
    int n_parts;
    const char *place; /* before ".N." */
    const char *parts[2];
};

/* The first that fits holds. */
static const struct fused_kind kinds[] = {
    {MIXTRAL, ".mlp.experts.gate_up_proj", 2, ".block_sparse_moe.experts", {"w1", "w3"}},
    {MIXTRAL, ".mlp.experts.down_proj", 1, ".block_sparse_moe.experts", {"w2"}},
    {NULL, ".experts.gate_up_proj", 2, ".experts", {"gate_proj", "up_proj"}},
    {NULL, ".experts.down_proj", 1, ".experts", {"down_proj"}},
};
#define N_KINDS ((int)(sizeof kinds / sizeof *kinds))

/* The router, where it has another name beside fused experts. */
static const struct {
    const char *architecture, *ending, *instead;
} router = {MIXTRAL, ".mlp.gate.weight", ".block_sparse_moe.gate.weight"};

static bool is_of(const struct sq_checkpoint *checkpoint, const char *architecture)
{
    const char *name = json_string_value(json_array_get(json_object_get(checkpoint->config, "architectures"), 0));
    return !architecture || (name && !strcmp(name, architecture));
}

static bool ends_in(const char *name, const char *ending)
{
    size_t length = strlen(name), rest = strlen(ending);
    return length > rest && strcmp(name + length - rest, ending) == 0;
}

/* NULL for a tensor that is not fused experts. */
static const struct fused_kind *kind_of(const struct sq_checkpoint *checkpoint, const struct sq_tensor *tensor)
{
    char bias[1100];
    for (int k = 0; k < N_KINDS; k++) {
        if (!ends_in(tensor->name, kinds[k].ending) || !is_of(checkpoint, kinds[k].architecture)) continue;
        snprintf(bias, sizeof bias, "%s_bias", tensor->name);
        return sq_checkpoint_find(checkpoint, bias) ? NULL : &kinds[k];
    }
    return NULL;
}

static enum sq_status check_shape(const struct sq_tensor *tensor, const struct fused_kind *kind)
{
    const char *problem = NULL;
    if (tensor->n_dims != 3)
        problem = "three dimensions: experts, outputs, inputs";
    else if (tensor->shape[1] % kind->n_parts)
        problem = "an even number of outputs: gate, then up";
    else if (tensor->bytes == 0)
        problem = "elements";
    if (!problem) return SQ_OK;
    sq_error("%s: tensor %s has %d dimensions, the second %lld; fused experts need %s", tensor->file, tensor->name,
             tensor->n_dims, (long long)(tensor->n_dims > 1 ? tensor->shape[1] : 0), problem);
    return SQ_ERR_INPUT;
}

/* Both tensors of a block must speak of the same experts. */
static enum sq_status check_pair(const struct sq_checkpoint *checkpoint, const struct sq_tensor *gate_up)
{
    char name[1100];
    const char *up = strstr(gate_up->name, "gate_up_proj");
    if (!up) return SQ_OK;
    snprintf(name, sizeof name, "%.*sdown_proj", (int)(up - gate_up->name), gate_up->name);
    const struct sq_tensor *down = sq_checkpoint_find(checkpoint, name);
    if (!down || down->n_dims != 3) return SQ_OK; /* said by others */
    const int64_t *a = gate_up->shape, *b = down->shape;
    if (a[0] == b[0] && a[1] == 2 * b[2] && a[2] == b[1]) return SQ_OK;
    sq_error("%s: tensor %s has shape [%lld, %lld, %lld], which does not go with %s [%lld, %lld, %lld]", gate_up->file,
             gate_up->name, (long long)a[0], (long long)a[1], (long long)a[2], name, (long long)b[0], (long long)b[1],
             (long long)b[2]);
    return SQ_ERR_INPUT;
}

/* Part `part` of one expert, as a tensor of its own. */
static enum sq_status make_part(const struct sq_tensor *fused, const struct fused_kind *kind, int64_t expert, int part,
                                struct sq_tensor *tensor_p)
{
    struct sq_tensor tensor = *fused;
    int prefix = (int)(strlen(fused->name) - strlen(kind->ending));
    tensor.n_dims = 2;
    tensor.shape[0] = fused->shape[1] / kind->n_parts;
    tensor.shape[1] = fused->shape[2];
    tensor.bytes = fused->bytes / (size_t)(fused->shape[0] * kind->n_parts);
    tensor.data = (const char *)fused->data + (size_t)(expert * kind->n_parts + part) * tensor.bytes;
    SQ_TRY(sq_string_format(&tensor.name, "%.*s%s.%lld.%s.weight", prefix, fused->name, kind->place, (long long)expert,
                            kind->parts[part]));
    *tensor_p = tensor;
    return SQ_OK;
}

static enum sq_status count_tensors(const struct sq_checkpoint *checkpoint, int64_t *count_p)
{
    int64_t count = 0;
    for (int64_t i = 0; i < checkpoint->n_tensors; i++) {
        const struct fused_kind *kind = kind_of(checkpoint, &checkpoint->tensors[i]);
        if (kind) SQ_TRY(check_shape(&checkpoint->tensors[i], kind));
        if (kind) SQ_TRY(check_pair(checkpoint, &checkpoint->tensors[i]));
        count += kind ? checkpoint->tensors[i].shape[0] * kind->n_parts : 1;
    }
    *count_p = count;
    return SQ_OK;
}

/* The parts of fused tensors behind each other; *n_p: how many there are, also after a failure. */
static enum sq_status make_parts(const struct sq_checkpoint *checkpoint, struct sq_tensor *parts, int64_t *n_p)
{
    for (int64_t i = 0; i < checkpoint->n_tensors; i++) {
        const struct sq_tensor *tensor = &checkpoint->tensors[i];
        const struct fused_kind *kind = kind_of(checkpoint, tensor);
        for (int64_t e = 0; kind && e < tensor->shape[0] * kind->n_parts; e++) {
            SQ_TRY(make_part(tensor, kind, e / kind->n_parts, (int)(e % kind->n_parts), &parts[*n_p]));
            ++*n_p;
        }
    }
    return SQ_OK;
}

/* The other tensors come behind the parts. */
static void replace_tensors(struct sq_checkpoint *checkpoint, struct sq_tensor *tensors, int64_t n)
{
    for (int64_t i = 0; i < checkpoint->n_tensors; i++) /* all are asked while all names are there */
        if (kind_of(checkpoint, &checkpoint->tensors[i])) checkpoint->tensors[i].n_dims = -1;
    for (int64_t i = 0; i < checkpoint->n_tensors; i++) {
        if (checkpoint->tensors[i].n_dims < 0)
            sq_free(checkpoint->tensors[i].name);
        else
            tensors[n++] = checkpoint->tensors[i];
    }
    sq_free(checkpoint->tensors);
    checkpoint->tensors = tensors;
    checkpoint->n_tensors = n;
}

static enum sq_status rename_routers(struct sq_checkpoint *checkpoint)
{
    if (!is_of(checkpoint, router.architecture)) return SQ_OK;
    for (int64_t i = 0; i < checkpoint->n_tensors; i++) {
        char *name, **old = &checkpoint->tensors[i].name;
        if (!ends_in(*old, router.ending)) continue;
        SQ_TRY(sq_string_format(&name, "%.*s%s", (int)(strlen(*old) - strlen(router.ending)), *old, router.instead));
        sq_free(*old);
        *old = name;
    }
    return SQ_OK;
}

enum sq_status sq_fused_split(struct sq_checkpoint *checkpoint)
{
    int64_t count = 0, n = 0;
    void *memory;
    SQ_TRY(count_tensors(checkpoint, &count));
    if (count == checkpoint->n_tensors) return SQ_OK;
    SQ_TRY(sq_alloc("the tensors of experts", count, sizeof(struct sq_tensor), &memory));
    struct sq_tensor *tensors = memory;
    enum sq_status status = make_parts(checkpoint, tensors, &n);
    if (status != SQ_OK) {
        for (int64_t i = 0; i < n; i++)
            sq_free(tensors[i].name);
        sq_free(tensors);
        return status;
    }
    replace_tensors(checkpoint, tensors, n);
    SQ_TRY(rename_routers(checkpoint));
    return sq_checkpoint_sort(checkpoint);
}
