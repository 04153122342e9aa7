#include "io/modules.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

#define PER_CHANNEL ((int64_t)-1)

/* --- names -------------------------------------------------------------------------------------------------------- */

/* Digits of the component that begins at text; 0 when it is no number. */
static size_t number_length(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    return text[digits] == '.' || text[digits] == '\0' ? digits : 0;
}

bool sq_module_is_in_block(const char *name, const char **rest_p)
{
    for (const char *part = name; part; part = strchr(part, '.')) {
        part += *part == '.';
        size_t digits = number_length(part);
        if (digits == 0 || part[digits] != '.') continue;
        *rest_p = part + digits + 1;
        return true;
    }
    return false;
}

enum sq_status sq_module_pattern(const char *name, bool numbers, char **pattern_p)
{
    void *memory;
    SQ_TRY(sq_alloc("a pattern", 2 * (int64_t)strlen(name) + 4, 1, &memory)); /* "1" becomes "\d+" */
    char *text = *pattern_p = memory;
    for (const char *c = name; *c;) {
        size_t digits = numbers && (c == name || c[-1] == '.') ? number_length(c) : 0;
        if (digits > 0) {
            memcpy(text, "\\d+", 3);
            text += 3;
            c += digits;
            continue;
        }
        if (!isalnum((unsigned char)*c) && *c != '_') *text++ = '\\';
        *text++ = *c++;
    }
    return SQ_OK;
}

/* An output layer, whatever its name, is in no block. */
static bool is_head(const char *name)
{
    const char *rest;
    return !sq_module_is_in_block(name, &rest);
}

/* A kept matrix that stands in for an nn.Linear: readers would take it for a quantized layer. */
static bool is_kept_linear(const struct sq_output *output)
{
    static const char *const tables[] = {"embed_tokens",    "embed_in", "embed_positions", "wte", "wpe",
                                         "word_embeddings", "embd",     "tok_embeddings",  "tte"};
    const char *rest;
    size_t length = strlen(output->name), ending = strlen(".weight");
    if (output->layer >= 0 || output->entry.n_dims != 2 || length <= ending) return false;
    if (strcmp(output->name + length - ending, ".weight")) return false;
    if (sq_module_is_in_block(output->name, &rest)) return true;
    const char *start = output->name + length - ending;
    while (start > output->name && start[-1] != '.')
        start--;
    size_t last = (size_t)(output->name + length - ending - start);
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        if (strlen(tables[i]) == last && !strncmp(start, tables[i], last)) return false;
    return true;
}

/* --- settings ----------------------------------------------------------------------------------------------------- */

static bool fits(const struct sq_store_layer *layer, struct sq_setting setting)
{
    if (layer->grid.bits != setting.bits) return false;
    return layer->grid.group_size == setting.group_size ||
           (setting.group_size == PER_CHANNEL && layer->grid.group_size >= layer->in_features);
}

static int count_fits(const struct sq_store_layer *layers, int n_layers, struct sq_setting setting)
{
    int count = 0;
    for (int l = 0; l < n_layers; l++)
        count += !is_head(layers[l].name) && fits(&layers[l], setting);
    return count;
}

/* Whether an earlier layer has put the same settings forward: it is found soon where layers are many and settings few.
 */
static bool is_repeated(const struct sq_store_layer *layers, int l)
{
    bool one_group = layers[l].grid.group_size >= layers[l].in_features;
    for (int e = 0; e < l; e++)
        if (!is_head(layers[e].name) && layers[e].grid.bits == layers[l].grid.bits &&
            layers[e].grid.group_size == layers[l].grid.group_size &&
            (layers[e].grid.group_size >= layers[e].in_features) == one_group)
            return true;
    return false;
}

/* The setting that most layers have, the first such; an output layer counts only where it is alone. A layer with one
 * group may count as group_size = in_features or as -1, so that layers of different widths can agree on -1. */
static struct sq_setting find_common(const struct sq_store_layer *layers, int n_layers)
{
    struct sq_setting best = {layers[0].grid.bits, layers[0].grid.group_size};
    int best_count = 0;
    for (int l = 0; l < n_layers; l++) {
        if (is_head(layers[l].name) || is_repeated(layers, l)) continue;
        const struct sq_setting candidates[] = {{layers[l].grid.bits, layers[l].grid.group_size},
                                                {layers[l].grid.bits, PER_CHANNEL}};
        for (int c = 0; c < 2; c++) {
            int count = fits(&layers[l], candidates[c]) ? count_fits(layers, n_layers, candidates[c]) : 0;
            if (count <= best_count) continue;
            best_count = count;
            best = candidates[c];
        }
    }
    return best;
}

/* The layer's setting; one that no layer before it had is added. settings has room for one more than there are layers.
 */
static int find_setting(struct sq_modules *modules, const struct sq_store_layer *layer)
{
    for (int s = 0; s < modules->n_settings; s++)
        if (fits(layer, modules->settings[s])) return s;
    int64_t group_size = layer->grid.group_size >= layer->in_features ? PER_CHANNEL : layer->grid.group_size;
    modules->settings[modules->n_settings] = (struct sq_setting){layer->grid.bits, group_size};
    return modules->n_settings++;
}

/* --- the list ----------------------------------------------------------------------------------------------------- */

static int compare_modules(const void *a, const void *b)
{
    const struct sq_module *x = a, *y = b;
    int order = strcmp(x->kind, y->kind);
    return order ? order : strcmp(x->name, y->name);
}

static enum sq_status add_module(struct sq_modules *modules, const char *name, size_t length, int set)
{
    struct sq_module *item = &modules->items[modules->n_items++];
    item->set = set;
    SQ_TRY(sq_string_format(&item->name, "%.*s", (int)length, name));
    return sq_module_pattern(item->name, true, &item->kind);
}

static enum sq_status fill(const struct sq_store_layer *layers, int n_layers, const struct sq_assemble_plan *plan,
                           struct sq_modules *modules)
{
    void *settings, *items;
    SQ_TRY(sq_alloc("settings", n_layers + 1, sizeof *modules->settings, &settings));
    modules->settings = settings;
    SQ_TRY(sq_alloc("names of layers", n_layers + plan->n_outputs, sizeof *modules->items, &items));
    modules->items = items;
    modules->settings[modules->n_settings++] = find_common(layers, n_layers);
    for (int l = 0; l < n_layers; l++)
        SQ_TRY(add_module(modules, layers[l].name, strlen(layers[l].name), find_setting(modules, &layers[l])));
    for (int64_t i = 0; i < plan->n_outputs; i++) {
        const struct sq_output *output = &plan->outputs[i];
        int set = is_head(output->name) ? SQ_MODULE_OUTSIDE : SQ_MODULE_KEPT;
        if (is_kept_linear(output))
            SQ_TRY(add_module(modules, output->name, strlen(output->name) - strlen(".weight"), set));
    }
    qsort(modules->items, (size_t)modules->n_items, sizeof *modules->items, compare_modules);
    return SQ_OK;
}

enum sq_status sq_modules_list(const struct sq_store_layer *layers, int n_layers, const struct sq_assemble_plan *plan,
                               struct sq_modules *modules_p)
{
    struct sq_modules modules = {0};
    enum sq_status status = fill(layers, n_layers, plan, &modules);
    if (status != SQ_OK) {
        sq_modules_release(&modules);
        return status;
    }
    *modules_p = modules;
    return SQ_OK;
}

void sq_modules_release(struct sq_modules *modules)
{
    for (int64_t i = 0; i < modules->n_items; i++) {
        sq_free(modules->items[i].name);
        sq_free(modules->items[i].kind);
    }
    sq_free(modules->items);
    sq_free(modules->settings);
    *modules = (struct sq_modules){0};
}

const char *sq_modules_find_head(const struct sq_modules *modules)
{
    for (int64_t i = 0; i < modules->n_items; i++)
        if (modules->items[i].set >= 0 && is_head(modules->items[i].name)) return modules->items[i].name;
    return NULL;
}

/* --- sets --------------------------------------------------------------------------------------------------------- */

enum sq_status sq_modules_each(const struct sq_modules *modules, int set, sq_modules_fn *call, void *context)
{
    const struct sq_module *items = modules->items;
    for (int64_t first = 0, end; first < modules->n_items; first = end) {
        bool is_whole = true;
        for (end = first; end < modules->n_items && !strcmp(items[end].kind, items[first].kind); end++)
            is_whole &= items[end].set == set;
        if (is_whole && end - first > 1) {
            SQ_TRY(call(context, items[first].kind, true));
            continue;
        }
        for (int64_t i = first; i < end; i++)
            if (items[i].set == set) SQ_TRY(call(context, items[i].name, false));
    }
    return SQ_OK;
}
