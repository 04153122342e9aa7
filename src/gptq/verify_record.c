/* The record in a quantized folder, and whether its bytes can be made again with what is here. */
#define _POSIX_C_SOURCE 200809L
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

/* The lines "key: value" of a record's fingerprint; from malloc(). */
static char *lines_of(json_t *pairs)
{
    const char *key;
    json_t *value;
    char *text = NULL;
    size_t bytes;
    FILE *file = open_memstream(&text, &bytes);
    if (!file) return NULL;
    json_object_foreach(pairs, key, value)
        fprintf(file, "%s: %s\n", key, json_is_string(value) ? json_string_value(value) : "");
    bool is_whole = fclose(file) == 0; /* text is valid from here on */
    if (is_whole) return text;
    free(text);
    return NULL;
}

/* The fingerprint of `quantize --config` here: the recorded settings, which take their arithmetic along, and what is
 * found here. */
static enum sq_status make_here(const struct sq_verification *v, const char *recorded, char **here_p)
{
    struct sq_fingerprint_inputs inputs = {
        .model_hash = sq_checkpoint_fingerprint(v->original),
        .tokens_hash = v->tokens.hash,
        .compute = json_string_value(json_object_get(json_object_get(v->record, "fingerprint"), "compute")),
        .backend = v->backend->ops->name,
        .isa = v->backend->isa,
        .libraries = v->backend->libraries};
    const char *end = strstr(recorded, "model_hash: ");
    char *settings;
    if (!inputs.compute) inputs.compute = "";
    SQ_TRY(sq_string_format(&settings, "%.*s", end ? (int)(end - recorded) : 0, recorded));
    enum sq_status status = sq_fingerprint_make(settings, &inputs, here_p);
    sq_free(settings);
    return status;
}

static enum sq_status compare(const struct sq_verification *v, const char *recorded, char **difference_p)
{
    char *here = NULL;
    SQ_TRY(make_here(v, recorded, &here));
    enum sq_status status = sq_fingerprint_compare(recorded, "the record", here, "this run", difference_p);
    sq_free(here);
    return status;
}

enum sq_status sq_verify_say_whether_same(const struct sq_verification *v)
{
    json_t *pairs = json_object_get(v->record, "fingerprint");
    char *path = NULL, *difference = NULL;
    if (!json_is_object(pairs)) return SQ_OK;
    char *recorded = lines_of(pairs);
    if (!recorded) sq_error("cannot write the lines of a record to memory");
    enum sq_status status = recorded ? compare(v, recorded, &difference) : SQ_ERR_MEMORY;
    if (status == SQ_OK) status = sq_path_join(v->config->checkpoint, SQ_JOB_RECORD_NAME, &path);
    if (status == SQ_OK && difference)
        sq_info("%s: these bytes cannot be made again from what is here: %s", path, difference);
    else if (status == SQ_OK)
        sq_info("%s: `shardq quantize --config` with this file makes the same bytes again here", path);
    sq_free(path);
    sq_free(difference);
    free(recorded);
    return status;
}
