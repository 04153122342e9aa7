/* libFuzzer target: any bytes as config.json, and as the index of a sharded checkpoint. */
#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "io/checkpoint_private.h"
#include "io/json.h"
#include "model/architecture.h"

#define LENGTH 16
#define MAX_PAIRS 256
#define MAX_BLOCKS 100000 /* more windows than that only cost the fuzzer time */

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void read_rope(const struct sq_rope_form *form, bool windowed, const json_t *json,
                      const struct sq_dimensions *dims)
{
    struct sq_rope rope;
    float cosine[LENGTH * MAX_PAIRS], sine[LENGTH * MAX_PAIRS];
    if (sq_rope_read(form, windowed, json, "folder", dims, &rope) != SQ_OK || rope.n_frequencies > MAX_PAIRS) return;
    sq_rope_fill(&rope, LENGTH, cosine, sine);
    for (int64_t i = 0; i < LENGTH * rope.n_frequencies; i++)
        assert(isfinite(cosine[i]) && isfinite(sine[i]));
}

static void read_config(const json_t *json)
{
    const struct sq_architecture *architecture;
    struct sq_dimensions dims;
    if (sq_architecture_find(json, "folder", &architecture) != SQ_OK) return;
    if (sq_dimensions_read(&architecture->config, json, "folder", &dims) != SQ_OK) return;
    assert(dims.n_blocks > 0 && dims.hidden > 0 && dims.vocab > 0 && dims.n_heads > 0 && dims.n_kv_heads > 0);
    read_rope(&architecture->rope, false, json, &dims);
    if (architecture->rope.use == SQ_ROPE_BY_WINDOW) read_rope(&architecture->rope, true, json, &dims);
    if (dims.n_blocks > MAX_BLOCKS) return;
    int64_t *windows = calloc((size_t)dims.n_blocks, sizeof *windows);
    enum sq_status status = sq_windows_read(&architecture->config, json, "folder", &dims, windows);
    for (int64_t i = 0; i < dims.n_blocks && status == SQ_OK; i++)
        assert(windows[i] >= 0);
    free(windows);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    json_t *json, *shards;
    if (sq_json_parse((const char *)bytes, size, "file", &json) != SQ_OK) return 0;
    if (json_is_object(json)) read_config(json);
    if (sq_index_list_shards(json, "file", &shards) == SQ_OK) json_decref(shards);
    json_decref(json);
    return 0;
}
