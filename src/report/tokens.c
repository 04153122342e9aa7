/* What a calibration sample is made of. */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "io/job_record.h"
#include "io/tokens.h"
#include "report/report_private.h"

#define CURVE_POINTS 24

static int by_size_descending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

/* Counts of each id, largest first. */
struct spread {
    int64_t *counts;
    int64_t room, distinct, total;
};

static enum sq_status count_ids(const struct sq_tokens *tokens, struct spread *spread_p)
{
    struct spread spread = {.total = tokens->n_samples * tokens->length};
    for (int64_t i = 0; i < spread.total; i++)
        if (tokens->ids[i] >= spread.room) spread.room = tokens->ids[i] + 1;
    SQ_TRY(sq_alloc("counts of token ids", spread.room, sizeof(int64_t), (void **)&spread.counts));
    for (int64_t i = 0; i < spread.total; i++)
        spread.counts[tokens->ids[i]]++;
    qsort(spread.counts, (size_t)spread.room, sizeof *spread.counts, by_size_descending);
    while (spread.distinct < spread.room && spread.counts[spread.distinct] > 0)
        spread.distinct++;
    *spread_p = spread;
    return SQ_OK;
}

/* Points [ids, share of all tokens that the most frequent so many make], ids growing by a factor. */
static json_t *share_curve(const struct spread *spread)
{
    json_t *curve = json_array();
    int64_t sum = 0, next = 1;
    for (int64_t i = 0; curve && i < spread->distinct; i++) {
        sum += spread->counts[i];
        if (i + 1 != next && i + 1 != spread->distinct) continue;
        json_t *point = json_pack("[I, f]", (json_int_t)(i + 1), (double)sum / (double)spread->total);
        if (json_array_append_new(curve, point)) break;
        int64_t step = spread->distinct / CURVE_POINTS;
        next = next * 3 / 2 > next + 1 ? next * 3 / 2 : next + 1;
        if (step > 0 && next > i + 1 + 4 * step) next = i + 1 + 4 * step;
    }
    return curve;
}

static int64_t count_once(const struct spread *spread)
{
    int64_t once = 0;
    for (int64_t i = 0; i < spread->distinct; i++)
        once += spread->counts[i] == 1;
    return once;
}

static enum sq_status describe(const char *path, const struct sq_tokens *tokens, const struct spread *spread,
                               json_t **object_p)
{
    char hash[32];
    snprintf(hash, sizeof hash, "%016" PRIx64, tokens->hash);
    json_t *object = json_pack("{s:s, s:I, s:I, s:I, s:I, s:s, s:o, s:o}", "path", path, "samples",
                               (json_int_t)tokens->n_samples, "length", (json_int_t)tokens->length, "distinct",
                               (json_int_t)spread->distinct, "once", (json_int_t)count_once(spread), "hash", hash,
                               "curve", share_curve(spread), "provenance", sq_job_record_pairs(tokens->provenance));
    if (!object) {
        sq_error("cannot describe %s: out of memory", path);
        return SQ_ERR_MEMORY;
    }
    *object_p = object;
    return SQ_OK;
}

enum sq_status sq_report_tokens(const struct sq_comm *self, const char *path, json_t **object_p)
{
    struct sq_tokens tokens = {0};
    struct spread spread;
    SQ_TRY(sq_tokens_read(self, path, 0, 0, &tokens));
    enum sq_status status = count_ids(&tokens, &spread);
    if (status == SQ_OK) {
        status = describe(path, &tokens, &spread, object_p);
        sq_free(spread.counts);
    }
    sq_tokens_release(&tokens);
    return status;
}
