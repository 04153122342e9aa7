/* Layers that vLLM joins: it looks for their settings under the name of the whole. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "io/modules.h"

/* What has `part` as the last component of its name becomes part of `whole`. */
static const struct {
    const char *part, *whole;
} joins[] = {
    {"q_proj", "qkv_proj"},        {"k_proj", "qkv_proj"},           {"v_proj", "qkv_proj"},
    {"gate_proj", "gate_up_proj"}, {"up_proj", "gate_up_proj"},      {"w1", "gate_up_proj"},
    {"w3", "gate_up_proj"},        {"q_a_proj", "fused_qkv_a_proj"}, {"kv_a_proj_with_mqa", "fused_qkv_a_proj"},
};

/* name_p: that of the whole, NULL when the layer stands for itself. */
static enum sq_status join_name(const char *name, char **name_p)
{
    *name_p = NULL;
    const char *experts = strstr(name, ".experts."), *last = strrchr(name, '.');
    if (experts) return sq_string_format(name_p, "%.*s.experts", (int)(experts - name), name);
    for (size_t i = 0; last && i < sizeof joins / sizeof *joins; i++)
        if (!strcmp(last + 1, joins[i].part))
            return sq_string_format(name_p, "%.*s.%s", (int)(last - name), name, joins[i].whole);
    return SQ_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct sq_module *)a)->name, ((const struct sq_module *)b)->name);
}

static int compare_kinds(const void *a, const void *b)
{
    const struct sq_module *x = a, *y = b;
    int order = strcmp(x->kind, y->kind);
    return order ? order : strcmp(x->name, y->name);
}

/* One item for each part, under the name of its whole and with its own set. */
static enum sq_status list_parts(const struct sq_modules *modules, struct sq_modules *joined)
{
    for (int64_t i = 0; i < modules->n_items; i++) {
        struct sq_module *item = &joined->items[joined->n_items];
        SQ_TRY(join_name(modules->items[i].name, &item->name));
        item->set = modules->items[i].set;
        joined->n_items += item->name != NULL;
    }
    return SQ_OK;
}

/* One item for each whole whose parts agree, the others' names released. n_mixed_p: wholes whose parts do not. */
static void keep_agreed(struct sq_modules *joined, int *n_mixed_p)
{
    int64_t kept = 0;
    struct sq_module *items = joined->items;
    for (int64_t first = 0, end; first < joined->n_items; first = end) {
        bool agree = true;
        for (end = first + 1; end < joined->n_items && !strcmp(items[end].name, items[first].name); end++)
            agree &= items[end].set == items[first].set;
        if (!agree && (*n_mixed_p)++ == 0)
            sq_info("vLLM joins the parts of %s, which have different settings: it will refuse the checkpoint",
                    items[first].name);
        for (int64_t i = agree ? first + 1 : first; i < end; i++)
            sq_free(items[i].name);
        if (agree) items[kept++] = items[first];
    }
    joined->n_items = kept;
}

static enum sq_status join(const struct sq_modules *modules, struct sq_modules *joined)
{
    void *items;
    int n_mixed = 0;
    SQ_TRY(sq_alloc("names of joined layers", modules->n_items, sizeof *joined->items, &items));
    joined->items = items;
    SQ_TRY(list_parts(modules, joined));
    qsort(joined->items, (size_t)joined->n_items, sizeof *joined->items, compare_names);
    keep_agreed(joined, &n_mixed);
    for (int64_t i = 0; i < joined->n_items; i++)
        SQ_TRY(sq_module_pattern(joined->items[i].name, true, &joined->items[i].kind));
    qsort(joined->items, (size_t)joined->n_items, sizeof *joined->items, compare_kinds);
    return SQ_OK;
}

enum sq_status sq_modules_join(const struct sq_modules *modules, struct sq_modules *joined_p)
{
    struct sq_modules joined = {0};
    enum sq_status status = join(modules, &joined);
    if (status != SQ_OK) {
        sq_modules_release(&joined);
        return status;
    }
    *joined_p = joined;
    return SQ_OK;
}
