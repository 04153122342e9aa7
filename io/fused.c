#include "io/fused.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/checkpoint_private.h"
#include "io/fp8.h"
#include "io/fused_parts.h"

#define MIXTRAL "MixtralForCausalLM"
#define GPT_OSS "GptOssForCausalLM"

/* A name's ending, what the tensor has for each expert, one or two matrices, and what their names have instead. */
struct fused_kind {
    const char *architecture; /* NULL: the others */
    const char *ending;
    int n_parts;
    const char *place; /* before ".N." */
    const char *parts[2];
    enum sq_fused_layout layout;
    const char *last; /* of the parts' names */
};

/* The first that fits holds. */
static const struct fused_kind kinds[] = {
    {MIXTRAL, ".mlp.experts.gate_up_proj", 2, ".block_sparse_moe.experts", {"w1", "w3"}, SQ_FUSED_ROWS, "weight"},
    {MIXTRAL, ".mlp.experts.down_proj", 1, ".block_sparse_moe.experts", {"w2"}, SQ_FUSED_ROWS, "weight"},
    {GPT_OSS, ".experts.gate_up_proj", 2, ".experts", {"gate_proj", "up_proj"}, SQ_FUSED_COLUMNS, "weight"},
    {GPT_OSS, ".experts.down_proj", 1, ".experts", {"down_proj"}, SQ_FUSED_COLUMNS, "weight"},
    {GPT_OSS, ".experts.gate_up_proj_bias", 2, ".experts", {"gate_proj", "up_proj"}, SQ_FUSED_BIASES, "bias"},
    {GPT_OSS, ".experts.down_proj_bias", 1, ".experts", {"down_proj"}, SQ_FUSED_BIASES, "bias"},
    {GPT_OSS, ".experts.gate_up_proj_blocks", 2, ".experts", {"gate_proj", "up_proj"}, SQ_FUSED_BLOCKS, "weight"},
    {GPT_OSS, ".experts.down_proj_blocks", 1, ".experts", {"down_proj"}, SQ_FUSED_BLOCKS, "weight"},
    {GPT_OSS, ".experts.gate_up_proj_scales", 2, ".experts", {"gate_proj", "up_proj"}, SQ_FUSED_SCALES, "weight_scale"},
    {GPT_OSS, ".experts.down_proj_scales", 1, ".experts", {"down_proj"}, SQ_FUSED_SCALES, "weight_scale"},
    {NULL, ".experts.gate_up_proj", 2, ".experts", {"gate_proj", "up_proj"}, SQ_FUSED_ROWS, "weight"},
    {NULL, ".experts.down_proj", 1, ".experts", {"down_proj"}, SQ_FUSED_ROWS, "weight"},
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

/* Behind the name of a module. */
static bool ends_in(const char *name, const char *ending)
{
    return strlen(name) > strlen(ending) && sq_text_ends_in(name, ending);
}

/* What a tensor is taken apart into. */
struct fused {
    const struct fused_kind *kind; /* NULL: it is not of fused experts */
    const char *suffix;            /* "", or what the name of the scales of 8-bit ones has behind */
};

#define LONGEST_NAME 1100

static struct fused find_kind(const struct sq_checkpoint *checkpoint, const struct sq_tensor *tensor)
{
    static const char *const suffixes[] = {"", "_scale_inv", "_scale"};
    const int n_suffixes = (int)(sizeof suffixes / sizeof *suffixes);
    char text[LONGEST_NAME];
    if (!strstr(tensor->name, ".experts.gate_up_proj") && !strstr(tensor->name, ".experts.down_proj"))
        return (struct fused){0}; /* there may be many tensors */
    for (int i = 0; i < N_KINDS * n_suffixes; i++) {
        const struct fused found = {&kinds[i / n_suffixes], suffixes[i % n_suffixes]};
        snprintf(text, sizeof text, "%s%s", found.kind->ending, found.suffix);
        if (!ends_in(tensor->name, text) || !is_of(checkpoint, found.kind->architecture)) continue;
        if (found.kind->layout != SQ_FUSED_ROWS) return *found.suffix ? (struct fused){0} : found;
        snprintf(text, sizeof text, "%.*s_bias", (int)(strlen(tensor->name) - strlen(found.suffix)), tensor->name);
        return sq_checkpoint_find(checkpoint, text) ? (struct fused){0} : found;
    }
    return (struct fused){0};
}

/* --- shapes ------------------------------------------------------------------------------------------------------- */

/* A scale for an expert, or scales for columns of it: for gate and up alike. */
static bool is_for_all_rows(const struct sq_tensor *scale)
{
    return scale->n_dims == 1 || (scale->n_dims == 3 && scale->shape[1] == 1);
}

/* None of the scales may be for rows of gate and of up. */
static const char *find_scale_problem(const struct sq_checkpoint *checkpoint, const struct sq_tensor *scale,
                                      struct fused fused)
{
    char name[LONGEST_NAME];
    snprintf(name, sizeof name, "%.*s", (int)(strlen(scale->name) - strlen(fused.suffix)), scale->name);
    const struct sq_tensor *tensor = sq_checkpoint_find(checkpoint, name);
    if (!tensor || tensor->n_dims != 3 || scale->n_dims == 0 || scale->shape[0] != tensor->shape[0])
        return "scales for as many experts";
    if (scale->bytes == 0) return "elements";
    if (is_for_all_rows(scale)) return NULL;
    if (scale->n_dims != 3) return "scales of three dimensions: experts, outputs, inputs";
    int64_t outputs = tensor->shape[1] / fused.kind->n_parts,
            rows = sq_fp8_find_block(sq_checkpoint_config(checkpoint)).rows;
    if (scale->shape[1] == tensor->shape[1]) rows = 1;
    bool is_apart = fused.kind->n_parts == 1 || (rows > 0 && outputs % rows == 0 && scale->shape[1] % 2 == 0);
    return is_apart ? NULL : "scales of which none is for gate and up";
}

/* The other tensor of a block that does not speak of the same experts; NULL: it does. */
static const struct sq_tensor *find_mismatch(const struct sq_checkpoint *checkpoint, const struct sq_tensor *gate_up,
                                             enum sq_fused_layout layout)
{
    char name[LONGEST_NAME];
    const char *up = strstr(gate_up->name, "gate_up_proj");
    if (!up) return NULL;
    snprintf(name, sizeof name, "%.*sdown_proj%s", (int)(up - gate_up->name), gate_up->name,
             up + strlen("gate_up_proj"));
    const struct sq_tensor *down = sq_checkpoint_find(checkpoint, name);
    return !down || sq_fused_is_match(layout, gate_up, down) ? NULL : down; /* that it is not there is said by others */
}

/* speaks: with a message. */
static enum sq_status check(const struct sq_checkpoint *checkpoint, const struct sq_tensor *tensor, struct fused fused,
                            bool speaks)
{
    bool is_scale = *fused.suffix != '\0';
    enum sq_fused_layout layout = fused.kind->layout;
    const char *problem = is_scale ? find_scale_problem(checkpoint, tensor, fused)
                                   : sq_fused_find_problem(layout, fused.kind->n_parts, tensor);
    const struct sq_tensor *other = problem || is_scale ? NULL : find_mismatch(checkpoint, tensor, layout);
    if (!problem && !other) return SQ_OK;
    const int64_t *a = tensor->shape, *b = other ? other->shape : a;
    if (speaks && problem)
        sq_error("%s: tensor %s has %d dimensions, the second %lld; fused experts need %s", tensor->file, tensor->name,
                 tensor->n_dims, (long long)(tensor->n_dims > 1 ? a[1] : 0), problem);
    if (speaks && other)
        sq_error("%s: tensor %s has shape [%lld, %lld, %lld], which does not go with %s [%lld, %lld, %lld]",
                 tensor->file, tensor->name, (long long)a[0], (long long)a[1], (long long)a[2], other->name,
                 (long long)b[0], (long long)b[1], (long long)b[2]);
    return SQ_ERR_INPUT;
}

static enum sq_status check_all(const struct sq_checkpoint *checkpoint, bool speaks)
{
    for (int64_t i = 0; i < checkpoint->n_tensors; i++) {
        struct fused fused = find_kind(checkpoint, &checkpoint->tensors[i]);
        if (fused.kind) SQ_TRY(check(checkpoint, &checkpoint->tensors[i], fused, speaks));
    }
    return SQ_OK;
}

enum sq_status sq_fused_check(const struct sq_checkpoint *checkpoint)
{
    return check_all(checkpoint, true);
}

/* --- taking apart ------------------------------------------------------------------------------------------------- */

/* One expert's rows of a tensor [E, N, K], or of its scales. */
static struct sq_tensor make_rows(const struct sq_tensor *whole, struct fused fused, int64_t expert, int part)
{
    struct sq_tensor tensor = *whole;
    const struct fused_kind *kind = fused.kind;
    bool is_shared = *fused.suffix && is_for_all_rows(whole);
    int64_t n_pieces = is_shared ? 1 : kind->n_parts, piece = is_shared ? 0 : part;
    tensor.n_dims = whole->n_dims == 1 ? 1 : 2;
    tensor.shape[0] = whole->n_dims == 1 ? 1 : whole->shape[1] / n_pieces;
    tensor.shape[1] = whole->n_dims == 1 ? 0 : whole->shape[2];
    tensor.bytes = whole->bytes / (size_t)(whole->shape[0] * n_pieces);
    tensor.data = (const char *)whole->data + (size_t)(expert * n_pieces + piece) * tensor.bytes;
    return tensor;
}

/* Part `part` of one expert, as a tensor of its own. */
static enum sq_status make_part(const struct sq_tensor *whole, struct fused fused, int64_t expert, int part,
                                struct sq_tensor *tensor_p)
{
    const struct fused_kind *kind = fused.kind;
    int prefix = (int)(strlen(whole->name) - strlen(kind->ending) - strlen(fused.suffix));
    struct sq_tensor tensor = kind->layout == SQ_FUSED_ROWS
                                  ? make_rows(whole, fused, expert, part)
                                  : sq_fused_part(kind->layout, kind->n_parts, whole, expert, part);
    SQ_TRY(sq_string_format(&tensor.name, "%.*s%s.%lld.%s.%s%s", prefix, whole->name, kind->place, (long long)expert,
                            kind->parts[part], kind->last, fused.suffix));
    *tensor_p = tensor;
    return SQ_OK;
}

/* Tensors there will be; 0: none is fused. */
static int64_t count_tensors(const struct sq_checkpoint *checkpoint)
{
    int64_t count = 0;
    bool is_fused = false;
    for (int64_t i = 0; i < checkpoint->n_tensors; i++) {
        struct fused fused = find_kind(checkpoint, &checkpoint->tensors[i]);
        count += fused.kind ? checkpoint->tensors[i].shape[0] * fused.kind->n_parts : 1;
        is_fused |= fused.kind != NULL;
    }
    return is_fused ? count : 0;
}

/* The parts of fused tensors behind each other; *n_p: how many there are, also after a failure. */
static enum sq_status make_parts(const struct sq_checkpoint *checkpoint, struct sq_tensor *parts, int64_t *n_p)
{
    for (int64_t i = 0; i < checkpoint->n_tensors; i++) {
        const struct sq_tensor *tensor = &checkpoint->tensors[i];
        struct fused fused = find_kind(checkpoint, tensor);
        int n_parts = fused.kind ? fused.kind->n_parts : 0;
        for (int64_t e = 0; e < tensor->shape[0] * n_parts; e++) {
            SQ_TRY(make_part(tensor, fused, e / n_parts, (int)(e % n_parts), &parts[*n_p]));
            ++*n_p;
        }
    }
    return SQ_OK;
}

/* The other tensors come behind the parts. */
static void replace_tensors(struct sq_checkpoint *checkpoint, struct sq_tensor *tensors, int64_t n)
{
    for (int64_t i = 0; i < checkpoint->n_tensors; i++) /* all are asked while all names are there */
        if (find_kind(checkpoint, &checkpoint->tensors[i]).kind) checkpoint->tensors[i].n_dims = -1;
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
    int64_t n = 0;
    void *memory;
    if (check_all(checkpoint, false) != SQ_OK) return SQ_OK;
    int64_t count = count_tensors(checkpoint);
    if (count == 0) return SQ_OK;
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
