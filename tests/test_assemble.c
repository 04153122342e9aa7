/* From store to checkpoint: what is in it, and how it is read back. */
#define _GNU_SOURCE
#include "assemble_fixture.h"
#include "assemble_raw.h"
#include "io/assemble_private.h"
#include "io/json.h"

/* --- contents ----------------------------------------------------------------------------------------------------- */

/* Tensors of 8 bits become BF16, and their scales are gone. */
static bool wide_copy_is_right(const struct sq_checkpoint *written, const char *name)
{
    static float values[64 * MAX_IN];
    static uint16_t halves[64 * MAX_IN];
    const struct sq_tensor *was = sq_checkpoint_find(source, name), *is = sq_checkpoint_find(written, name);
    int64_t count = was->shape[0] * was->shape[1];
    if (!is || is->dtype != SQ_BF16 || is->bytes != 2 * was->bytes) return false;
    if (sq_tensor_read_f32(was, 0, was->shape[0], values) != SQ_OK) return false;
    sq_dtype_from_f32(values, count, SQ_BF16, halves);
    return !memcmp(is->data, halves, is->bytes);
}

static bool copies_are_right(const struct sq_checkpoint *written, int n_parts)
{
    static const char *const names[] = {"model.embed_tokens.weight", Q0 ".bias", "odd", "model.norm.weight"};
    if (!wide_copy_is_right(written, SKIPPED ".weight")) return false;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct sq_tensor *was = sq_checkpoint_find(source, names[i]), *is = sq_checkpoint_find(written, names[i]);
        if (!is || is->dtype != was->dtype || is->bytes != was->bytes || memcmp(is->data, was->data, is->bytes))
            return false;
    }
    return sq_checkpoint_n_tensors(written) == 5 + n_parts * N_LAYERS;
}

static bool is_aligned(const struct sq_checkpoint *written)
{
    bool aligned = true;
    for (int64_t i = 0; i < sq_checkpoint_n_tensors(written); i++) {
        const struct sq_tensor *tensor = sq_checkpoint_tensor(written, i);
        aligned = aligned && (uintptr_t)tensor->data % sq_dtype_size(tensor->dtype) == 0;
    }
    return aligned;
}

static struct sq_checkpoint *assemble_and_open(const struct sq_checkpoint *from, struct sq_store *store,
                                               const struct sq_assemble_options *options)
{
    int64_t bytes = 0;
    struct sq_checkpoint *written = NULL;
    CHECK(sq_assemble(&ranks.comm, from, store, options, &bytes) == SQ_OK);
    CHECK(bytes > 0);
    CHECK(!exists_with(options->out, ".tmp"));
    CHECK(sq_checkpoint_open(options->out, &written) == SQ_OK);
    return written;
}

static const json_t *quantization(const struct sq_checkpoint *written, const char *key)
{
    return json_object_get(json_object_get(sq_checkpoint_config(written), "quantization_config"), key);
}

static bool says(const json_t *value, const char *wanted)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    bool same = text && !strcmp(text, wanted);
    if (!same) printf("json: %s\n", text ? text : "missing");
    free(text);
    return same;
}

static void check_v1_config(const struct sq_checkpoint *written)
{
    const json_t *config = sq_checkpoint_config(written);
    CHECK(says(json_object_get(config, "torch_dtype"), "\"bfloat16\""));
    CHECK(says(json_object_get(config, "tie_word_embeddings"), "false"));
    CHECK(json_real_value(json_object_get(config, "rms_norm_eps")) == 1e-05);
    CHECK(says(quantization(written, "bits"), "4"));
    CHECK(says(quantization(written, "group_size"), "32"));
    CHECK(says(quantization(written, "desc_act"), "false"));
    CHECK(says(quantization(written, "sym"), "true"));
    CHECK(says(quantization(written, "lm_head"), "true"));
    CHECK(says(quantization(written, "quant_method"), "\"gptq\""));
    CHECK(says(quantization(written, "checkpoint_format"), "\"gptq\""));
    CHECK(says(quantization(written, "pack_dtype"), "\"int32\""));
    CHECK(says(json_object_get(quantization(written, "meta"), "quantizer"), "[\"shardq:9.9\"]"));
    CHECK(says(quantization(written, "dynamic"),
               "{\"-:^model\\\\.layers\\\\.1\\\\.mlp\\\\.down\\\\-proj$\":{},"
               "\"+:^model\\\\.layers\\\\.1\\\\.self_attn\\\\.q_proj$\":{\"bits\":8,\"group_size\":-1},"
               "\"+:^model\\\\.layers\\\\.1\\\\.self_attn\\\\.qkv_proj$\":{\"bits\":8,\"group_size\":-1}}"));
    CHECK(says(quantization(written, "modules_in_block_to_quantize"),
               "[[\"lm_head\",\"mlp.down_proj\",\"self_attn.q_proj\"]]"));
}

/* The record of the job: settings, what they came to, and a figure for each layer. */
static void check_record(const char *path)
{
    char file[1100];
    json_t *record = NULL;
    snprintf(file, sizeof file, "%s/shardq.json", path);
    if (!CHECK(sq_json_read(file, &record) == SQ_OK)) return;
    CHECK(says(json_object_get(record, "shardq"), "\"9.9\""));
    CHECK(says(json_object_get(json_object_get(record, "config"), "bits"), "4"));
    CHECK(says(json_object_get(json_object_get(record, "config"), "format"), "\"gptq\""));
    CHECK(json_object_size(json_object_get(record, "fingerprint")) > 0);
    CHECK(json_integer_value(json_object_get(record, "source_bytes")) > 0);
    CHECK(json_integer_value(json_object_get(record, "checkpoint_bytes")) > 0);
    CHECK(!strncmp(json_string_value(json_array_get(json_object_get(record, "versions"), 0)), "shardq ", 7));
    const json_t *layers = json_object_get(record, "layers"), *first = json_array_get(layers, 0);
    CHECK(json_array_size(layers) == N_LAYERS);
    CHECK(says(json_object_get(first, "name"), "\"" Q0 "\"") && says(json_object_get(first, "group_size"), "32"));
    CHECK(json_real_value(json_object_get(first, "error")) == sq_store_report(v1_store, 0)->error);
    json_decref(record);
}

static void check_v1_files(const struct sq_checkpoint *written, const char *path)
{
    static const char short_number[] = "\"rms_norm_eps\": 1e-5,";
    char file[1100];
    long size = 0;
    json_t *same = NULL;
    snprintf(file, sizeof file, "%s/quantize_config.json", path);
    CHECK(sq_json_read(file, &same) == SQ_OK);
    CHECK(json_equal(same, json_object_get(sq_checkpoint_config(written), "quantization_config")));
    json_decref(same);
    snprintf(file, sizeof file, "%s/config.json", path);
    unsigned char *text = ranks_read_file(file, &size);
    CHECK(text && memmem(text, (size_t)size, short_number, sizeof short_number - 1));
    free(text);
    CHECK(exists_with(path, "/tokenizer.json") && exists_with(path, "/chat_template.jinja"));
    CHECK(!exists_with(path, "/pytorch_model.bin") && !exists_with(path, "/.hidden"));
    CHECK(exists_with(path, "/model.safetensors") && !exists_with(path, "/model.safetensors.index.json"));
}

static void test_v1(void **state)
{
    (void)state;
    char path[1024];
    const struct sq_assemble_options options = options_for("v1", false, path);
    struct sq_checkpoint *written = assemble_and_open(source, v1_store, &options);
    for (int l = 0; l < N_LAYERS; l++)
        CHECK(layer_is_right(written, &v1_layers[l], SQ_FORMAT_GPTQ));
    CHECK(copies_are_right(written, 4));
    CHECK(is_aligned(written));
    check_v1_config(written);
    const uint32_t four_bits = 0x77777777u, eight_bits = 0x7f7f7f7fu;
    CHECK(!memcmp(find_part(written, Q0, "qzeros")->data, &four_bits, 4));
    CHECK(!memcmp(find_part(written, Q1, "qzeros")->data, &eight_bits, 4));
    check_v1_files(written, path);
    check_record(path);
    sq_checkpoint_close(written);
    ranks_end_test();
}

static void test_v2_in_shards(void **state)
{
    (void)state;
    char path[1024];
    struct sq_assemble_options options = options_for("v2", true, path);
    options.shard_bytes = 20000;
    struct sq_checkpoint *written = assemble_and_open(source, v2_store, &options);
    for (int l = 0; l < N_LAYERS; l++)
        CHECK(layer_is_right(written, &v2_layers[l], SQ_FORMAT_GPTQ_V2));
    CHECK(copies_are_right(written, 4));
    CHECK(is_aligned(written));
    CHECK(says(quantization(written, "checkpoint_format"), "\"gptq_v2\""));
    CHECK(says(quantization(written, "sym"), "false"));
    CHECK(says(quantization(written, "bits"), "3"));
    CHECK(exists_with(path, "/model.safetensors.index.json") && !exists_with(path, "/model.safetensors"));
    for (int64_t i = 0; i < sq_checkpoint_n_tensors(written); i++) {
        struct stat info;
        const struct sq_tensor *tensor = sq_checkpoint_tensor(written, i);
        CHECK(stat(tensor->file, &info) == 0 && (info.st_size <= 20000 || tensor->bytes > 19000));
    }
    sq_checkpoint_close(written);
    ranks_end_test();
}

/* Fewer inputs than the codes of three words: 3 and 4 bits have as many words, and so have 2 and 3; what `dynamic` says
 * decides. */
static const struct sq_store_layer narrow_layers[N_LAYERS] = {
    {"model.layers.0.self_attn.q_proj", 40, 24, {4, false, 24, SQ_F16}, false},
    {"model.layers.0.mlp.down_proj", 33, 20, {8, false, 8, SQ_F16}, false},
    {"model.layers.1.self_attn.q_proj", 40, 24, {3, false, 8, SQ_F16}, false},
    {"model.layers.1.mlp.down_proj", 33, 20, {3, false, 20, SQ_BF16}, true},
};

static void write_narrow_model(const char *path)
{
    struct folder folder;
    char header[1024];
    static unsigned char data[1 << 14];
    size_t offset = 0;
    int used = 0;
    for (int l = 0; l < N_LAYERS; l++) {
        const struct sq_store_layer *layer = &narrow_layers[l];
        int shape[2] = {(int)layer->out_features, (int)layer->in_features}, first = layer->is_transposed;
        size_t end = offset + 2 * (size_t)(layer->out_features * layer->in_features);
        used += snprintf(header + used, sizeof header - (size_t)used,
                         "%c\"%s.weight\":{\"dtype\":\"BF16\",\"shape\":[%d,%d],\"data_offsets\":[%zu,%zu]}",
                         l ? ',' : '{', layer->name, shape[first], shape[1 - first], offset, end);
        offset = end;
    }
    strcat(header, "}");
    fixture_fill(data, sizeof data);
    int length = snprintf(folder.path, sizeof folder.path, "%s", path);
    if (length >= (int)sizeof folder.path || mkdir(path, 0777) != 0) abort();
    folder_write_tensors(&folder, "model.safetensors", header, data, offset);
    folder_write_text(&folder, "config.json", "{\"architectures\": [\"LlamaForCausalLM\"]}");
}

static void test_narrow(void **state)
{
    (void)state;
    char path[1024];
    struct sq_checkpoint *narrow = NULL;
    struct sq_store *store = fixture_store("narrow.h5", "bits: 4\n", narrow_layers, N_LAYERS);
    ranks_file("narrow_model", path);
    if (ranks.comm.rank == 0) write_narrow_model(path);
    ranks_barrier();
    CHECK(sq_checkpoint_open(path, &narrow) == SQ_OK);
    struct sq_assemble_options options = options_for("narrow", true, path);
    struct sq_checkpoint *written = assemble_and_open(narrow, store, &options);
    for (int l = 0; l < N_LAYERS; l++)
        CHECK(layer_is_right(written, &narrow_layers[l], SQ_FORMAT_GPTQ_V2));
    sq_checkpoint_close(written);
    sq_checkpoint_close(narrow);
    sq_store_close(store);
    ranks_end_test();
}

/* Layers of four settings: each group names its own. */
static void test_packed(void **state)
{
    (void)state;
    char path[1024];
    struct sq_assemble_options options = options_for("ct", false, path);
    options.format = SQ_FORMAT_COMPRESSED_TENSORS;
    options.activation_order = true;
    struct sq_checkpoint *written = assemble_and_open(source, ct_store, &options);
    for (int l = 0; l < N_LAYERS; l++)
        CHECK(layer_is_right(written, &ct_layers[l], SQ_FORMAT_COMPRESSED_TENSORS));
    CHECK(copies_are_right(written, 4));
    CHECK(is_aligned(written));
    CHECK(!exists_with(path, "/quantize_config.json"));
    CHECK(says(quantization(written, "quant_method"), "\"compressed-tensors\""));
    CHECK(says(quantization(written, "format"), "\"pack-quantized\""));
    CHECK(says(quantization(written, "quantization_status"), "\"compressed\""));
    CHECK(says(quantization(written, "ignore"), "[\"" SKIPPED "\"]"));
    const json_t *groups = quantization(written, "config_groups");
    CHECK(json_object_size(groups) == N_LAYERS);
    CHECK(says(json_object_get(json_object_get(groups, "group_0"), "targets"), "[\"" Q0 "\"]"));
    CHECK(says(json_object_get(json_object_get(groups, "group_2"), "targets"), "[\"" Q1 "\"]"));
    CHECK(says(json_object_get(json_object_get(groups, "group_2"), "weights"),
               "{\"num_bits\":8,\"type\":\"int\",\"symmetric\":false,\"strategy\":\"channel\",\"group_size\":null,"
               "\"actorder\":\"weight\",\"dynamic\":false}"));
    CHECK(json_object_get(sq_checkpoint_config(written), "shardq") != NULL);
    sq_checkpoint_close(written);
    ranks_end_test();
}

/* Two settings, one of them of a kind as a whole. */
static struct sq_store_layer ct_symmetric_layers[N_LAYERS] = {{Q0, 64, 64, {4, true, 32, SQ_F16}, false},
                                                              {DOWN0, 70, 172, {4, true, 172, SQ_BF16}, true},
                                                              {Q1, 64, 64, {4, true, 32, SQ_F16}, true},
                                                              {HEAD, 96, 64, {4, true, 32, SQ_F16}, false}};

static void test_packed_symmetric(void **state)
{
    (void)state;
    char path[1024];
    struct sq_assemble_options options = options_for("ct_symmetric", false, path);
    struct sq_store *store = fixture_store("ct_symmetric.h5", "bits: 4\n", ct_symmetric_layers, N_LAYERS);
    options.format = SQ_FORMAT_COMPRESSED_TENSORS;
    struct sq_checkpoint *written = assemble_and_open(source, store, &options);
    for (int l = 0; l < N_LAYERS; l++)
        CHECK(layer_is_right(written, &ct_symmetric_layers[l], SQ_FORMAT_COMPRESSED_TENSORS));
    CHECK(copies_are_right(written, 3));
    const json_t *groups = quantization(written, "config_groups");
    CHECK(json_object_size(groups) == 2);
    CHECK(says(json_object_get(json_object_get(groups, "group_0"), "targets"),
               "[\"lm_head\",\"re:^model\\\\.layers\\\\.\\\\d+\\\\.self_attn\\\\.q_proj$\"]"));
    CHECK(says(json_object_get(json_object_get(json_object_get(groups, "group_0"), "weights"), "actorder"), "null"));
    sq_checkpoint_close(written);
    sq_store_close(store);
    ranks_end_test();
}

/* Element [n, k] of a plain tensor of a layer. */
static const char *plain_weight(const struct sq_tensor *tensor, const struct sq_store_layer *layer, int64_t n,
                                int64_t k)
{
    int64_t index = layer->is_transposed ? k * layer->out_features + n : n * layer->in_features + k;
    return (const char *)tensor->data + (size_t)index * sq_dtype_size(tensor->dtype);
}

static void test_dequantized(void **state)
{
    (void)state;
    char path[1024];
    static float rounded[MAX_IN];
    static const enum sq_dtype dtypes[N_LAYERS] = {SQ_BF16, SQ_F16, SQ_F32, SQ_BF16}; /* the last had 8 bits */
    struct sq_assemble_options options = options_for("plain", true, path);
    options.dequantized = true;
    struct sq_checkpoint *written = assemble_and_open(source, v2_store, &options);
    CHECK(!json_object_get(sq_checkpoint_config(written), "quantization_config"));
    for (int l = 0; l < N_LAYERS; l++) {
        const struct sq_store_layer *layer = &v2_layers[l];
        const struct sq_tensor *weight = find_part(written, layer->name, "weight");
        if (!CHECK(weight && weight->dtype == dtypes[l])) continue;
        CHECK(weight->shape[layer->is_transposed ? 1 : 0] == layer->out_features);
        for (int64_t n = 0; n < layer->out_features; n++) {
            struct fixture_row row;
            fixture_row(layer, n, &row);
            sq_dtype_from_f32(row.weights, layer->in_features, weight->dtype, rounded);
            size_t size = sq_dtype_size(weight->dtype);
            for (int64_t k = 0; k < layer->in_features; k++)
                CHECK(!memcmp(plain_weight(weight, layer, n, k), (char *)rounded + (size_t)k * size, size));
        }
    }
    CHECK(!find_part(written, HEAD, "weight_scale"));
    sq_checkpoint_close(written);
    ranks_end_test();
}

/* --- reading it back ---------------------------------------------------------------------------------------------- */

static void test_rows_outside(void **state)
{
    (void)state;
    char path[1024];
    float rows[5 * 64] = {0};
    struct sq_checkpoint_linear q0 = in_folder(&v1_layers[0]);
    struct sq_checkpoint *written = NULL;
    CHECK(sq_checkpoint_open(ranks_file("v1", path), &written) == SQ_OK);
    static const int64_t bad[][2] = {{60, 5}, {65, 0}, {-1, 1}, {0, -1}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct capture capture;
        capture_start(&capture);
        CHECK(sq_checkpoint_read_linear(written, &q0, bad[i][0], bad[i][1], rows) == SQ_ERR_INPUT);
        CHECK(sq_checkpoint_read_linear(source, &q0, bad[i][0], bad[i][1], rows) == SQ_ERR_INPUT);
        capture_stop(&capture);
    }
    CHECK(sq_checkpoint_read_linear(written, &q0, 59, 5, rows) == SQ_OK);
    sq_checkpoint_close(written);
    ranks_end_test();
}

static int run_group(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_v1),          cmocka_unit_test(test_v2_in_shards),
        cmocka_unit_test(test_packed),      cmocka_unit_test(test_packed_symmetric),
        cmocka_unit_test(test_dequantized), cmocka_unit_test(test_rows_outside),
        cmocka_unit_test(test_narrow),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

int main(int argc, char **argv)
{
    return ranks_main(&argc, &argv, run_group);
}
