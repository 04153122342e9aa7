/* A small model folder and stores of some of its layers, both made from a formula. */
#ifndef SQ_TESTS_ASSEMBLE_FIXTURE_H
#define SQ_TESTS_ASSEMBLE_FIXTURE_H

#include <stdlib.h>
#include <sys/stat.h>

#include "base/half.h"
#include "io/assemble.h"
#include "io/checkpoint.h"
#include "io/folder.h"
#include "io/lock.h"
#include "io/store.h"
#include "ranks.h"

#define N_LAYERS 4
#define MAX_IN 172
#define MAX_GROUPS 8
#define HEAD "lm_head"
#define Q0 "model.layers.0.self_attn.q_proj"
#define DOWN0 "model.layers.0.mlp.down_proj"
#define Q1 "model.layers.1.self_attn.q_proj"
#define SKIPPED "model.layers.1.mlp.down-proj"

/* One group of columns that is shorter, outputs that do not fill a word, one group per row, an output layer; two layers
 * whose weights the model has transposed, one of them square. */
static struct sq_store_layer v1_layers[N_LAYERS] = {{Q0, 64, 64, {4, true, 32, SQ_F16}, false},
                                                    {DOWN0, 70, 172, {4, true, 32, SQ_F16}, true},
                                                    {Q1, 64, 64, {8, true, 64, SQ_BF16}, true},
                                                    {HEAD, 96, 64, {4, true, 32, SQ_F16}, false}};
static struct sq_store_layer v2_layers[N_LAYERS] = {{Q0, 64, 64, {3, false, 32, SQ_F16}, false},
                                                    {DOWN0, 70, 172, {3, false, 172, SQ_F16}, true},
                                                    {Q1, 64, 64, {2, false, 64, SQ_BF16}, true},
                                                    {HEAD, 96, 64, {8, false, 16, SQ_F16}, false}};

static inline struct sq_checkpoint_linear in_folder(const struct sq_store_layer *layer)
{
    return (struct sq_checkpoint_linear){layer->name, layer->out_features, layer->in_features, layer->is_transposed};
}

/* Whole groups; rows that do not fill a word. */
static struct sq_store_layer ct_layers[N_LAYERS] = {{Q0, 64, 64, {4, false, 32, SQ_F16}, false},
                                                    {DOWN0, 70, 172, {4, false, 43, SQ_BF16}, true},
                                                    {Q1, 64, 64, {8, false, 64, SQ_F16}, true},
                                                    {HEAD, 96, 64, {2, false, 16, SQ_F16}, false}};
static inline uint32_t fixture_hash(uint32_t x)
{
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) * 0x846ca68bu;
    return x ^ x >> 16;
}

struct fixture_row {
    uint8_t codes[MAX_IN], zeros[MAX_GROUPS];
    float scales[MAX_GROUPS], weights[MAX_IN];
};

/* What the store has for a row, and what it means. */
static inline void fixture_row(const struct sq_store_layer *layer, int64_t row, struct fixture_row *r)
{
    uint32_t seed = (uint32_t)(layer->in_features * 31 + layer->grid.bits * 7 + row) * 4096u;
    int max_code = sq_grid_max_code(&layer->grid);
    for (int64_t g = 0; g < sq_grid_n_groups(&layer->grid, layer->in_features); g++) {
        uint16_t half = (uint16_t)(0x2000 + fixture_hash(seed + 1000u + (uint32_t)g) % 0x1000);
        r->scales[g] =
            layer->grid.scale_dtype == SQ_F16 ? sq_f16_to_f32(half) : sq_bf16_to_f32((uint16_t)(half + 0x1000));
        r->zeros[g] = layer->grid.symmetric ? (uint8_t)(1 << (layer->grid.bits - 1))
                                            : (uint8_t)(fixture_hash(seed + 2000u + (uint32_t)g) & (uint32_t)max_code);
    }
    for (int64_t k = 0; k < layer->in_features; k++) {
        int64_t g = k / layer->grid.group_size;
        r->codes[k] = (uint8_t)(fixture_hash(seed + (uint32_t)k) & (uint32_t)max_code);
        r->weights[k] = r->scales[g] * (float)(r->codes[k] - r->zeros[g]);
    }
}

static inline enum sq_status fixture_write_tile(struct sq_store *store, const struct sq_store_layer *layers, int l,
                                                int64_t t)
{
    static uint8_t codes[32 * MAX_IN], zeros[32 * MAX_GROUPS];
    static float scales[32 * MAX_GROUPS];
    int64_t in = layers[l].in_features, groups = sq_grid_n_groups(&layers[l].grid, in);
    for (int64_t i = 0; i < 32 && t * 32 + i < layers[l].out_features; i++) {
        struct fixture_row row;
        fixture_row(&layers[l], t * 32 + i, &row);
        memcpy(codes + i * in, row.codes, (size_t)in);
        memcpy(zeros + i * groups, row.zeros, (size_t)groups);
        memcpy(scales + i * groups, row.scales, (size_t)groups * sizeof *scales);
    }
    return sq_store_write_tile(store, l, t, &(struct sq_store_rows){codes, scales, zeros});
}

/* Makes a store whose first n_done layers are complete. Collective. */
static inline struct sq_store *fixture_store(const char *name, const char *fingerprint,
                                             const struct sq_store_layer *layers, int n_done)
{
    char path[1024];
    struct sq_store *store = NULL;
    ranks_file(name, path);
    if (sq_store_create(&ranks.comm, path, layers, N_LAYERS, "bits: 4\n", fingerprint, &store) != SQ_OK) abort();
    for (int l = 0; l < n_done; l++) {
        enum sq_status status = SQ_OK;
        struct sq_layer_report report = {.error = 0.1};
        for (int64_t t = ranks.comm.rank; t * 32 < layers[l].out_features && status == SQ_OK; t += ranks.comm.size)
            status = fixture_write_tile(store, layers, l, t);
        if (sq_store_finish_layers(store, status, &l, 1, &report) != SQ_OK) abort();
    }
    return store;
}

/* --- the model ---------------------------------------------------------------------------------------------------- */

struct fixture_tensor {
    const char *name, *dtype, *shape;
    size_t bytes;
};

static const struct fixture_tensor fixture_tensors[] = {
    {"model.embed_tokens.weight", "BF16", "[96,64]", 96 * 64 * 2},
    {Q0 ".weight", "BF16", "[64,64]", 64 * 64 * 2},
    {Q0 ".bias", "BF16", "[64]", 64 * 2},
    {"odd", "U8", "[3]", 3},
    {DOWN0 ".weight", "F16", "[172,70]", 172 * 70 * 2},
    {Q1 ".weight", "F32", "[64,64]", 64 * 64 * 4},
    {SKIPPED ".weight", "F8_E4M3", "[64,172]", 64 * 172},
    {SKIPPED ".weight_scale", "F32", "[1]", 4},
    {SKIPPED ".input_scale", "F32", "[]", 4},
    {"model.norm.weight", "F32", "[64]", 64 * 4},
    {HEAD ".weight", "F8_E4M3", "[96,64]", 96 * 64},
    {HEAD ".weight_scale", "BF16", "[96,1]", 96 * 2},
};
#define N_TENSORS ((int)(sizeof fixture_tensors / sizeof *fixture_tensors))

/* Any bytes that are no NaN or infinity in F32, F16, BF16 and F8_E4M3. */
static inline void fixture_fill(unsigned char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)(fixture_hash((uint32_t)i) & 0xbb);
}

/* extra: one tensor more, or NULL. */
static inline void fixture_write_model(const char *path, const struct fixture_tensor *extra)
{
    struct folder folder;
    char header[4096];
    static unsigned char data[1 << 18];
    int used = snprintf(header, sizeof header, "{\"__metadata__\":{\"format\":\"pt\"}");
    size_t offset = 0;
    for (int i = 0; i < N_TENSORS + (extra ? 1 : 0); i++) {
        const struct fixture_tensor *tensor = i < N_TENSORS ? &fixture_tensors[i] : extra;
        used += snprintf(header + used, sizeof header - (size_t)used,
                         ",\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}", tensor->name,
                         tensor->dtype, tensor->shape, offset, offset + tensor->bytes);
        offset += tensor->bytes;
    }
    strcat(header, "}");
    fixture_fill(data, sizeof data);
    int length = snprintf(folder.path, sizeof folder.path, "%s", path);
    if (length >= (int)sizeof folder.path || mkdir(path, 0777) != 0) abort();
    folder_write_tensors(&folder, "model.safetensors", header, data, offset);
    folder_write_text(&folder, "config.json",
                      "{\"architectures\": [\"LlamaForCausalLM\"], \"torch_dtype\": \"bfloat16\","
                      " \"tie_word_embeddings\": false, \"rms_norm_eps\": 1e-05,"
                      " \"quantization_config\": {\"quant_method\": \"fp8\"}}");
    folder_write_text(&folder, "tokenizer.json", "{\"version\": \"1.0\"}");
    folder_write_text(&folder, "chat_template.jinja", "{{ messages }}");
    folder_write_text(&folder, "pytorch_model.bin", "weights in another form");
    folder_write_text(&folder, ".hidden", "no");
}

/* --- one model and two stores for all tests of a group ------------------------------------------------------------ */

static struct sq_checkpoint *source;
static struct sq_store *v1_store, *v2_store, *ct_store;

static inline struct sq_assemble_options options_for(const char *name, bool v2, char path[1024])
{
    return (struct sq_assemble_options){.out = ranks_file(name, path),
                                        .n_threads = ranks.comm.size == 1 ? 2 : 1,
                                        .format = v2 ? SQ_FORMAT_GPTQ_V2 : SQ_FORMAT_GPTQ,
                                        .shard_bytes = 1 << 30,
                                        .version = "9.9",
                                        .damping = 0.01,
                                        .static_groups = true,
                                        .true_sequential = true};
}

static inline bool exists_with(const char *path, const char *ending)
{
    char name[2048];
    snprintf(name, sizeof name, "%s%s", path, ending);
    return sq_folder_exists(name);
}

static inline int set_up(void **state)
{
    (void)state;
    char path[1024];
    ranks_file("model", path);
    if (ranks.comm.rank == 0) fixture_write_model(path, NULL);
    ranks_barrier();
    v1_store = fixture_store("v1.h5", "bits: 4\n", v1_layers, N_LAYERS);
    v2_store = fixture_store("v2.h5", "bits: 3\n", v2_layers, N_LAYERS);
    ct_store = fixture_store("ct.h5", "bits: 4\n", ct_layers, N_LAYERS);
    return sq_checkpoint_open(path, &source) == SQ_OK ? 0 : -1;
}

static inline int tear_down(void **state)
{
    (void)state;
    sq_store_close(v1_store);
    sq_store_close(v2_store);
    sq_store_close(ct_store);
    sq_checkpoint_close(source);
    ranks_barrier();
    if (ranks.comm.rank == 0) sq_folder_remove(ranks.folder.path);
    return 0;
}

#endif
