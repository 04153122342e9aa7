/* Members of a JSON object that must have a certain type. */
#ifndef SQ_IO_JSON_KEYS_H
#define SQ_IO_JSON_KEYS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum sq_json_kind { SQ_JSON_INTEGER, SQ_JSON_TRUTH, SQ_JSON_STRING, SQ_JSON_LIST, SQ_JSON_OBJECT };

/* An object and where it stands, for messages. */
struct sq_json_place {
    const char *folder, *file;
    const char *key; /* "dynamic.+:a" of the object whose members are called dynamic.+:a.NAME; "" for the whole */
    const json_t *object;
};

/* A number or truth of an object, and where it goes: the offset of an int64_t in a struct. */
struct sq_json_key {
    const char *name;
    enum sq_json_kind kind; /* SQ_JSON_INTEGER or SQ_JSON_TRUTH, which is 0 or 1 */
    size_t offset;
};

#define SQ_JSON_UNSTATED INT64_MIN /* what a key that is missing or null leaves */

/* The member of this name, borrowed; NULL where it is missing or null. SQ_ERR_INPUT naming file, key, and both types
 * when it has another one. Local. */
enum sq_status sq_json_find(const struct sq_json_place *place, const char *name, enum sq_json_kind kind,
                            const json_t **value_p) SQ_MUST_CHECK;

/* The same, but one that is missing or null is refused, too. Local. */
enum sq_status sq_json_require(const struct sq_json_place *place, const char *name, enum sq_json_kind kind,
                               const json_t **value_p) SQ_MUST_CHECK;

/* Fills the fields of all keys in the struct `values`. Fails as sq_json_find(), and where a number is SQ_JSON_UNSTATED.
 * Local. */
enum sq_status sq_json_read_keys(const struct sq_json_place *place, const struct sq_json_key *keys, int n_keys,
                                 void *values) SQ_MUST_CHECK;

/* The value of a key in the struct that sq_json_read_keys() has filled. */
static inline int64_t sq_json_value(const struct sq_json_key *key, const void *values)
{
    return *(const int64_t *)(const void *)((const char *)values + key->offset);
}

/* A value as text, "missing" where it is unstated, into text[32]. Returns text. */
const char *sq_json_show(const struct sq_json_key *key, int64_t value, char text[32]);

#endif
