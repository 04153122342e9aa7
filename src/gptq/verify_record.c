/* The record in a quantized folder, and whether its bytes can be made again with what is here. */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "gptq/verify_private.h"
#include "io/fingerprint.h"
#include "io/folder.h"
#include "io/job_record.h"
#include "io/json.h"

enum sq_status sq_verify_read_record(struct sq_verification *v)
{
    char *path;
    SQ_TRY(sq_path_join(v->config->checkpoint, SQ_JOB_RECORD_NAME, &path));
    enum sq_status status = sq_folder_exists(path) ? sq_json_read(path, &v->record) : SQ_OK;
    sq_free(path);
    return status;
}

/* --- whether the same bytes would come again ---------------------------------------------------------------------- */

enum { MODEL, TOKENS, BACKEND, LIBRARIES, PROGRAM, N_FOUND };

/* Lines of a fingerprint that --config does not set: what is found here decides them. */
static const char *const found_keys[N_FOUND] = {[MODEL] = "model_hash",
                                                [TOKENS] = "tokens_hash",
                                                [BACKEND] = "backend",
                                                [LIBRARIES] = "libraries",
                                                [PROGRAM] = "shardq"};

struct found {
    char values[N_FOUND][sizeof((struct sq_backend *)0)->libraries];
};

static struct found find(const struct sq_verification *v)
{
    struct found found;
    snprintf(found.values[MODEL], sizeof *found.values, "%016" PRIx64, sq_checkpoint_fingerprint(v->original));
    snprintf(found.values[TOKENS], sizeof *found.values, "%016" PRIx64, v->tokens.hash);
    snprintf(found.values[BACKEND], sizeof *found.values, "%s %s", v->backend->ops->name, v->backend->isa);
    snprintf(found.values[LIBRARIES], sizeof *found.values, "%s", v->backend->libraries);
    snprintf(found.values[PROGRAM], sizeof *found.values, "%s", SHARDQ_VERSION);
    return found;
}

static const char *value_here(const struct found *found, const char *key, const char *recorded)
{
    for (int i = 0; i < N_FOUND; i++)
        if (!strcmp(key, found_keys[i])) return found->values[i];
    return recorded;
}

/* The lines "key: value" of a record's fingerprint; found not NULL: with the values that are here. From malloc(). */
static char *lines_of(json_t *pairs, const struct found *found)
{
    const char *key;
    json_t *value;
    char *text = NULL;
    size_t bytes;
    FILE *file = open_memstream(&text, &bytes);
    if (!file) return NULL;
    json_object_foreach(pairs, key, value)
    {
        const char *recorded = json_is_string(value) ? json_string_value(value) : "";
        fprintf(file, "%s: %s\n", key, found ? value_here(found, key, recorded) : recorded);
    }
    bool is_whole = fclose(file) == 0; /* text is valid from here on */
    if (is_whole) return text;
    free(text);
    return NULL;
}

static enum sq_status say(const char *path, json_t *pairs, const struct found *found)
{
    char *difference = NULL, *recorded = lines_of(pairs, NULL), *here = lines_of(pairs, found);
    enum sq_status status = SQ_ERR_MEMORY;
    if (recorded && here)
        status = sq_fingerprint_compare(recorded, "the record", here, &difference);
    else
        sq_error("cannot write the lines of a record to memory");
    if (status == SQ_OK && difference)
        sq_info("%s: these bytes cannot be made again from what is here: %s", path, difference);
    else if (status == SQ_OK)
        sq_info("%s: `shardq quantize --config` with this file makes the same bytes again here", path);
    sq_free(difference);
    free(recorded);
    free(here);
    return status;
}

enum sq_status sq_verify_say_whether_same(const struct sq_verification *v)
{
    struct found found = find(v);
    json_t *pairs = json_object_get(v->record, "fingerprint");
    char *path;
    if (!json_is_object(pairs)) return SQ_OK;
    SQ_TRY(sq_path_join(v->config->checkpoint, SQ_JOB_RECORD_NAME, &path));
    enum sq_status status = say(path, pairs, &found);
    sq_free(path);
    return status;
}
