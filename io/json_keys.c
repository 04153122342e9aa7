#include "io/json_keys.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"

static const char *const wanted[] = {[SQ_JSON_INTEGER] = "an integer",
                                     [SQ_JSON_TRUTH] = "true or false",
                                     [SQ_JSON_STRING] = "a string",
                                     [SQ_JSON_LIST] = "a list",
                                     [SQ_JSON_OBJECT] = "an object"};

static const char *found(const json_t *value)
{
    static const char *const names[] = {[JSON_OBJECT] = "an object",
                                        [JSON_ARRAY] = "a list",
                                        [JSON_STRING] = "a string",
                                        [JSON_INTEGER] = "an integer",
                                        [JSON_REAL] = "a number with a fraction",
                                        [JSON_TRUE] = "a truth value",
                                        [JSON_FALSE] = "a truth value",
                                        [JSON_NULL] = "nothing"};
    return names[json_typeof(value)];
}

static bool is_of(const json_t *value, enum sq_json_kind kind)
{
    switch (kind) {
    case SQ_JSON_INTEGER:
        return json_is_integer(value);
    case SQ_JSON_TRUTH:
        return json_is_boolean(value);
    case SQ_JSON_STRING:
        return json_is_string(value);
    case SQ_JSON_LIST:
        return json_is_array(value);
    case SQ_JSON_OBJECT:
        return json_is_object(value);
    }
    return false;
}

static enum sq_status refuse(const struct sq_json_place *place, const char *name, enum sq_json_kind kind,
                             const json_t *value)
{
    const char *dot = *place->key ? "." : "";
    char *text = value ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
    if (value)
        sq_error("%s: %s: %s%s%s is %.40s, %s; it must be %s", place->folder, place->file, place->key, dot, name,
                 text ? text : "?", found(value), wanted[kind]);
    else
        sq_error("%s: %s: %s%s%s is missing; it must be %s", place->folder, place->file, place->key, dot, name,
                 wanted[kind]);
    free(text);
    return SQ_ERR_INPUT;
}

enum sq_status sq_json_find(const struct sq_json_place *place, const char *name, enum sq_json_kind kind,
                            const json_t **value_p)
{
    const json_t *value = json_object_get(place->object, name);
    if (json_is_null(value)) value = NULL;
    if (value && !is_of(value, kind)) return refuse(place, name, kind, value);
    *value_p = value;
    return SQ_OK;
}

enum sq_status sq_json_require(const struct sq_json_place *place, const char *name, enum sq_json_kind kind,
                               const json_t **value_p)
{
    const json_t *value = json_object_get(place->object, name);
    if (!value || !is_of(value, kind)) return refuse(place, name, kind, value);
    *value_p = value;
    return SQ_OK;
}

/* What stands for an unstated one is no number of a file's. */
static enum sq_status refuse_marker(const struct sq_json_place *place, const char *name)
{
    sq_error("%s: %s: %s%s%s is %lld; it must be larger", place->folder, place->file, place->key,
             *place->key ? "." : "", name, (long long)SQ_JSON_UNSTATED);
    return SQ_ERR_INPUT;
}

enum sq_status sq_json_read_keys(const struct sq_json_place *place, const struct sq_json_key *keys, int n_keys,
                                 void *values)
{
    for (int k = 0; k < n_keys; k++) {
        const json_t *value;
        SQ_TRY(sq_json_find(place, keys[k].name, keys[k].kind, &value));
        int64_t number = keys[k].kind == SQ_JSON_TRUTH ? json_is_true(value) : json_integer_value(value);
        if (value && number == SQ_JSON_UNSTATED) return refuse_marker(place, keys[k].name);
        *(int64_t *)(void *)((char *)values + keys[k].offset) = value ? number : SQ_JSON_UNSTATED;
    }
    return SQ_OK;
}

const char *sq_json_show(const struct sq_json_key *key, int64_t value, char text[32])
{
    if (value == SQ_JSON_UNSTATED)
        snprintf(text, 32, "missing");
    else if (key->kind == SQ_JSON_TRUTH)
        snprintf(text, 32, "%s", value ? "true" : "false");
    else
        snprintf(text, 32, "%lld", (long long)value);
    return text;
}
