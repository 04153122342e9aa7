#include "io/describe.h"

#include <string.h>
#include <xxhash.h>

#include "base/log.h"

#define PER_CHANNEL ((int64_t)-1)

/* --- what the job as a whole uses --------------------------------------------------------------------------------- */

bool sq_layer_is_lm_head(const struct sq_store_layer *layer)
{
    const char *dot = strrchr(layer->name, '.');
    return !strcmp(dot ? dot + 1 : layer->name, "lm_head");
}

bool sq_setting_fits(const struct sq_store_layer *layer, struct sq_setting setting)
{
    if (layer->grid.bits != setting.bits) return false;
    return layer->grid.group_size == setting.group_size ||
           (setting.group_size == PER_CHANNEL && layer->grid.group_size >= layer->in_features);
}

static int count_fits(const struct sq_store_layer *layers, int n_layers, struct sq_setting setting)
{
    int count = 0;
    for (int l = 0; l < n_layers; l++)
        count += !sq_layer_is_lm_head(&layers[l]) && sq_setting_fits(&layers[l], setting);
    return count;
}

/* Whether an earlier layer has put the same settings forward: it is found soon where layers are many and settings few.
 */
static bool is_repeated(const struct sq_store_layer *layers, int l)
{
    bool one_group = layers[l].grid.group_size >= layers[l].in_features;
    for (int e = 0; e < l; e++)
        if (!sq_layer_is_lm_head(&layers[e]) && layers[e].grid.bits == layers[l].grid.bits &&
            layers[e].grid.group_size == layers[l].grid.group_size &&
            (layers[e].grid.group_size >= layers[e].in_features) == one_group)
            return true;
    return false;
}

/* A layer with one group may count as group_size = in_features or as -1, so that layers of different widths can agree
 * on -1. */
struct sq_setting sq_setting_find_common(const struct sq_store_layer *layers, int n_layers)
{
    struct sq_setting best = {layers[0].grid.bits, layers[0].grid.group_size};
    int best_count = 0;
    for (int l = 0; l < n_layers; l++) {
        if (sq_layer_is_lm_head(&layers[l]) || is_repeated(layers, l)) continue;
        const struct sq_setting candidates[] = {{layers[l].grid.bits, layers[l].grid.group_size},
                                                {layers[l].grid.bits, PER_CHANNEL}};
        for (int c = 0; c < 2; c++) {
            int count = sq_setting_fits(&layers[l], candidates[c]) ? count_fits(layers, n_layers, candidates[c]) : 0;
            if (count <= best_count) continue;
            best_count = count;
            best = candidates[c];
        }
    }
    return best;
}

/* --- where it comes from ------------------------------------------------------------------------------------------ */

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
    if (json_object_set_new(config, "shardq", sq_describe_origin(description)) == 0) return SQ_OK;
    sq_error("cannot make config.json: out of memory");
    return SQ_ERR_MEMORY;
}
