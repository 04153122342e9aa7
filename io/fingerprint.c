#include "io/fingerprint.h"

#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"

enum sq_status sq_fingerprint_make(const char *settings, const struct sq_fingerprint_inputs *inputs, char **text_p)
{
    return sq_string_format(text_p,
                            "%smodel_hash: %016" PRIx64 "\ntokens_hash: %016" PRIx64
                            "\ncompute: %s\nbackend: %s %s\nlibraries: %s\nshardq: " SHARDQ_VERSION "\n",
                            settings, inputs->model_hash, inputs->tokens_hash, inputs->compute, inputs->backend,
                            inputs->isa, inputs->libraries);
}

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

/* Whose fingerprints are compared. */
struct owners {
    const char *holder, *seeker;
};

static enum sq_status append_difference(const struct line *key, const struct owners *owners, const struct line *stored,
                                        const struct line *wanted, char **text)
{
    static const struct line nothing = {"", "nothing", 0, 7};
    char *longer;
    if (!stored) stored = &nothing;
    if (!wanted) wanted = &nothing;
    SQ_TRY(sq_string_format(&longer, "%s%s%.*s: %s has %.*s, %s has %.*s", *text, **text ? "; " : "", key->key_length,
                            key->key, owners->holder, stored->value_length, stored->value, owners->seeker,
                            wanted->value_length, wanted->value));
    sq_free(*text);
    *text = longer;
    return SQ_OK;
}

/* Text of all differences, in the order of the stored lines, then those that only the seeker has. */
static enum sq_status collect_differences(const char *stored, const char *wanted, const struct owners *owners,
                                          char **text)
{
    struct line line, other;
    const char *at = stored;
    while ((at = next_line(at, &line)) != NULL) {
        bool found = find_line(wanted, &line, &other);
        if (!found || !same_value(&line, &other))
            SQ_TRY(append_difference(&line, owners, &line, found ? &other : NULL, text));
    }
    for (at = wanted; (at = next_line(at, &line)) != NULL;)
        if (!find_line(stored, &line, &other)) SQ_TRY(append_difference(&line, owners, NULL, &line, text));
    return SQ_OK;
}

enum sq_status sq_fingerprint_compare(const char *stored, const char *holder, const char *wanted, const char *seeker,
                                      char **text_p)
{
    const struct owners owners = {holder, seeker};
    char *text = NULL;
    *text_p = NULL;
    if (strcmp(stored, wanted) == 0) return SQ_OK;
    SQ_TRY(sq_string_copy("", &text));
    enum sq_status status = collect_differences(stored, wanted, &owners, &text);
    if (status == SQ_OK && *text) {
        *text_p = text;
        return SQ_OK;
    }
    sq_free(text);
    return status;
}

static bool same_line(const char *a, const char *b, const char *key)
{
    struct line wanted = {.key = key, .key_length = (int)strlen(key)}, in_a, in_b;
    return find_line(a, &wanted, &in_a) && find_line(b, &wanted, &in_b) && same_value(&in_a, &in_b);
}

enum sq_status sq_fingerprint_check_record(const struct sq_config_record *record, const char *wanted)
{
    char *text = NULL;
    const char *recorded = record->fingerprint;
    if (!recorded) return SQ_OK;
    bool same_inputs = same_line(recorded, wanted, "model_hash") && same_line(recorded, wanted, "tokens_hash");
    if (record->has_other_inputs && !same_inputs) return SQ_OK;
    SQ_TRY(sq_fingerprint_compare(recorded, "the record", wanted, "this run", &text));
    if (!text) return SQ_OK;
    sq_error(
        "the bytes of the record that --config names cannot be made again here: %s; `shardq config --config RECORD` "
        "writes its settings without that promise",
        text);
    sq_free(text);
    return SQ_ERR_USAGE;
}
