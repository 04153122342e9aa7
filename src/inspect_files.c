/* A token file, a store. */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <math.h>

#include "base/log.h"
#include "base/memory.h"
#include "inspect.h"
#include "io/job_record.h"
#include "io/store.h"
#include "io/tokens.h"

/* --- tokens ---------------------------------------------------------------------------------------------------------
 */

struct id_range {
    int32_t smallest, largest;
    int64_t distinct;
};

static enum sq_status find_range(const struct sq_tokens *tokens, struct id_range *range_p)
{
    int64_t count = tokens->n_samples * tokens->length;
    struct id_range range = {.smallest = INT32_MAX, .largest = -1};
    void *memory = NULL;
    for (int64_t i = 0; i < count; i++) {
        if (tokens->ids[i] < range.smallest) range.smallest = tokens->ids[i];
        if (tokens->ids[i] > range.largest) range.largest = tokens->ids[i];
    }
    SQ_TRY(sq_alloc("the set of token ids", range.largest / 8 + 1, 1, &memory));
    uint8_t *seen = memory;
    for (int64_t i = 0; i < count; i++) {
        uint8_t *byte = &seen[tokens->ids[i] / 8], bit = (uint8_t)(1 << tokens->ids[i] % 8);
        range.distinct += (*byte & bit) == 0;
        *byte |= bit;
    }
    sq_free(memory);
    *range_p = range;
    return SQ_OK;
}

static enum sq_status describe_tokens(const char *path, const struct sq_tokens *tokens, json_t **object_p)
{
    struct id_range range;
    json_error_t error;
    char hash[32];
    SQ_TRY(find_range(tokens, &range));
    snprintf(hash, sizeof hash, "%016" PRIx64, tokens->hash);
    json_t *object = json_pack_ex(
        &error, 0, "{s:s, s:s, s:I, s:I, s:I, s:i, s:i, s:I, s:s, s:s}", "kind", "tokens", "path", path, "samples",
        (json_int_t)tokens->n_samples, "length", (json_int_t)tokens->length, "tokens",
        (json_int_t)(tokens->n_samples * tokens->length), "smallest_id", (int)range.smallest, "largest_id",
        (int)range.largest, "distinct_ids", (json_int_t)range.distinct, "hash", hash, "provenance", tokens->provenance);
    return sq_inspect_made(object, &error, object_p);
}

enum sq_status sq_inspect_tokens(const struct sq_comm *world, const char *path, json_t **object_p)
{
    struct sq_tokens tokens = {0};
    SQ_TRY(sq_tokens_read(world, path, 0, 0, &tokens));
    enum sq_status status = describe_tokens(path, &tokens, object_p);
    sq_tokens_release(&tokens);
    return status;
}

/* --- store ----------------------------------------------------------------------------------------------------------
 */

/* A figure of a report; one that is no number becomes null. */
static json_t *figure(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static double mean_error(const struct sq_store *store, int n_layers, int *n_done_p)
{
    double sum = 0;
    *n_done_p = 0;
    for (int i = 0; i < n_layers; i++) {
        if (!sq_store_is_done(store, i)) continue;
        sum += sq_store_report(store, i)->error;
        ++*n_done_p;
    }
    return *n_done_p ? sum / *n_done_p : NAN;
}

static enum sq_status describe_store(const char *path, const struct sq_store *store, json_t **object_p)
{
    int n_layers, n_done;
    json_error_t error;
    json_t *list = NULL;
    sq_store_layers(store, &n_layers);
    double mean = mean_error(store, n_layers, &n_done);
    SQ_TRY(sq_job_record_layers(store, &list));
    json_t *object = json_pack_ex(&error, 0, "{s:s, s:s, s:i, s:i, s:b, s:o, s:s, s:s, s:o}", "kind", "store", "path",
                                  path, "layers_done", n_done, "layers_in_all", n_layers, "complete",
                                  (int)(n_done == n_layers), "mean_error", figure(mean), "config",
                                  sq_store_config(store), "fingerprint", sq_store_fingerprint(store), "layers", list);
    return sq_inspect_made(object, &error, object_p);
}

enum sq_status sq_inspect_store(const struct sq_comm *world, const char *path, json_t **object_p)
{
    struct sq_store *store = NULL;
    SQ_TRY(sq_store_open(world, path, false, NULL, 0, NULL, &store));
    enum sq_status status = describe_store(path, store, object_p);
    sq_store_close(store);
    return status;
}
