#include "io/store_private.h"

#include <string.h>

#include "base/log.h"
#include "base/memory.h"

/* --- fingerprint ------------------------------------------------------------------------------------------------- */

/* A line "key: value" inside a longer text. */
struct line {
    const char *key, *value;
    int key_length, value_length;
};

/* Cuts the line that starts at text; gives the start of the next one, or NULL at the end. */
static const char *next_line(const char *text, struct line *line_p)
{
    if (*text == '\0') return NULL;
    int length = (int)strcspn(text, "\n");
    const char *colon = memchr(text, ':', (size_t)length);
    const char *value = colon ? colon + 1 : text + length, *end = text + length;
    while (value < end && *value == ' ')
        value++;
    *line_p = (struct line){text, value, (int)((colon ? colon : end) - text), (int)(end - value)};
    return *end ? end + 1 : end;
}

static bool find_line(const char *text, const struct line *wanted, struct line *line_p)
{
    while ((text = next_line(text, line_p)) != NULL)
        if (line_p->key_length == wanted->key_length &&
            memcmp(line_p->key, wanted->key, (size_t)wanted->key_length) == 0)
            return true;
    return false;
}

static bool same_value(const struct line *a, const struct line *b)
{
    return a->value_length == b->value_length && memcmp(a->value, b->value, (size_t)a->value_length) == 0;
}

static enum sq_status append_difference(const struct line *key, const struct line *stored, const struct line *wanted,
                                        char **text)
{
    static const struct line nothing = {"", "nothing", 0, 7};
    char *longer;
    if (!stored) stored = &nothing;
    if (!wanted) wanted = &nothing;
    SQ_TRY(sq_string_format(&longer, "%s%s%.*s: store has %.*s, this run has %.*s", *text, **text ? "; " : "",
                            key->key_length, key->key, stored->value_length, stored->value, wanted->value_length,
                            wanted->value));
    sq_free(*text);
    *text = longer;
    return SQ_OK;
}

/* Text of all differences, in the order of the stored lines, then those that only this run has. */
static enum sq_status collect_differences(const char *stored, const char *wanted, char **text)
{
    struct line line, other;
    const char *at = stored;
    while ((at = next_line(at, &line)) != NULL) {
        bool found = find_line(wanted, &line, &other);
        if (!found || !same_value(&line, &other)) SQ_TRY(append_difference(&line, &line, found ? &other : NULL, text));
    }
    for (at = wanted; (at = next_line(at, &line)) != NULL;)
        if (!find_line(stored, &line, &other)) SQ_TRY(append_difference(&line, NULL, &line, text));
    return SQ_OK;
}

enum sq_status sq_store_check_fingerprint(const char *path, const char *stored, const char *wanted)
{
    char *text;
    if (strcmp(stored, wanted) == 0) return SQ_OK;
    SQ_TRY(sq_string_copy("", &text));
    enum sq_status status = collect_differences(stored, wanted, &text);
    if (status == SQ_OK && *text) {
        sq_error("%s belongs to another run: %s", path, text);
        status = SQ_ERR_USAGE;
    }
    sq_free(text);
    return status;
}

/* --- layers ------------------------------------------------------------------------------------------------------ */

static bool same_layer(const struct sq_store_layer *a, const struct sq_store_layer *b)
{
    return strcmp(a->name, b->name) == 0 && a->is_transposed == b->is_transposed &&
           a->out_features == b->out_features && a->in_features == b->in_features && a->grid.bits == b->grid.bits &&
           a->grid.symmetric == b->grid.symmetric && a->grid.group_size == b->grid.group_size &&
           a->grid.scale_dtype == b->grid.scale_dtype;
}

static enum sq_status describe(const struct sq_store_layer *layer, char **text_p)
{
    return sq_string_format(text_p, "%s [%lld, %lld]%s, %d bits, groups of %lld, %s, %s", layer->name,
                            (long long)layer->out_features, (long long)layer->in_features,
                            layer->is_transposed ? " transposed" : "", layer->grid.bits,
                            (long long)layer->grid.group_size, layer->grid.symmetric ? "symmetric" : "asymmetric",
                            sq_dtype_name(layer->grid.scale_dtype));
}

static enum sq_status report_difference(const char *path, int l, const struct sq_store_layer *stored,
                                        const struct sq_store_layer *wanted)
{
    char *a, *b;
    SQ_TRY(describe(stored, &a));
    enum sq_status status = describe(wanted, &b);
    if (status == SQ_OK) {
        sq_error("%s: layer %d is %s; this run has %s", path, l, a, b);
        sq_free(b);
        status = SQ_ERR_INPUT;
    }
    sq_free(a);
    return status;
}

enum sq_status sq_store_check_layers(const char *path, const struct sq_store_index *index,
                                     const struct sq_store_layer *layers, int n_layers)
{
    if (index->n_layers != n_layers) {
        sq_error("%s has %d layers; this run has %d", path, index->n_layers, n_layers);
        return SQ_ERR_INPUT;
    }
    for (int l = 0; l < n_layers; l++)
        if (!same_layer(&index->layers[l], &layers[l]))
            return report_difference(path, l, &index->layers[l], &layers[l]);
    return SQ_OK;
}
