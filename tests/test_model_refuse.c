/* Folders of models with one thing changed: what config.json may say, and what is refused in which words. */
#define _GNU_SOURCE /* mkdtemp */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <unistd.h>

#include "capture.h"
#include "folder.h"
#include "golden.h"
#include "model/model_private.h"

/* A folder with the weights of a golden model of one file, and its config.json with `old` replaced by `new`. */
static void make_folder(struct folder *folder, const char *name, const char *old, const char *new)
{
    char path[1024], link[1024], text[4096] = "", changed[8192];
    folder_create(folder);
    golden_path(name, "model.safetensors", path);
    if (symlink(path, folder_file(folder, "model.safetensors", link)) != 0) abort();
    golden_path(name, "config.json", path);
    FILE *file = fopen(path, "r");
    if (!file) abort();
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    char *place = strstr(text, old);
    if (!place) abort();
    snprintf(changed, sizeof changed, "%.*s%s%s", (int)(place - text), text, new, place + strlen(old));
    folder_write_text(folder, "config.json", changed);
}

/* That the folder, which goes, makes no model. */
static void check_folder_refused(struct folder *folder, const char *part, const char *other)
{
    struct sq_checkpoint *checkpoint;
    struct sq_model *model = NULL;
    struct capture capture;
    assert_int_equal(sq_checkpoint_open(folder->path, &checkpoint), SQ_OK);
    capture_start(&capture);
    enum sq_status status = sq_model_open(checkpoint, &model);
    const char *text = capture_stop(&capture);
    const char *const parts[4] = {part, other};
    if (!capture_is_one_error(text, parts)) print_message("not '%s': %s\n", part, text);
    assert_true(capture_is_one_error(text, parts));
    assert_int_equal(status, SQ_ERR_INPUT);
    assert_null(model);
    sq_checkpoint_close(checkpoint);
    folder_remove(folder);
}

static void check_refused(const char *name, const char *old, const char *new, const char *part, const char *other)
{
    struct folder folder;
    make_folder(&folder, name, old, new);
    check_folder_refused(&folder, part, other);
}

/* Where `bytes` of data contain the text. */
static char *find_text(char *data, size_t bytes, const char *text)
{
    for (size_t i = 0; i + strlen(text) <= bytes; i++)
        if (!memcmp(data + i, text, strlen(text))) return data + i;
    return NULL;
}

/* In the header of the tensors the text `old` becomes `new`, which is as long. */
static void change_tensors(const struct folder *folder, const char *name, const char *old, const char *new)
{
    char path[1024];
    golden_path(name, "model.safetensors", path);
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0) abort();
    size_t bytes = (size_t)ftell(file);
    char *data = malloc(bytes);
    rewind(file);
    if (!data || fread(data, 1, bytes, file) != bytes) abort();
    fclose(file);
    char *place = find_text(data, bytes, old);
    if (!place || strlen(old) != strlen(new)) abort();
    memcpy(place, new, strlen(new));
    unlink(folder_file(folder, "model.safetensors", path));
    folder_write(folder, "model.safetensors", data, bytes);
    free(data);
}

static void check_tensors_refused(const char *name, const char *old, const char *new, const char *part,
                                  const char *other)
{
    struct folder folder;
    make_folder(&folder, name, "{", "{");
    change_tensors(&folder, name, old, new);
    check_folder_refused(&folder, part, other);
}

static void check_windows(const char *name, const char *old, const char *new, int64_t first, int64_t second)
{
    struct folder folder;
    struct sq_checkpoint *checkpoint;
    struct sq_model *model;
    make_folder(&folder, name, old, new);
    assert_int_equal(sq_checkpoint_open(folder.path, &checkpoint), SQ_OK);
    assert_int_equal(sq_model_open(checkpoint, &model), SQ_OK);
    assert_int_equal(model->windows[0], first);
    assert_int_equal(model->windows[1], second);
    sq_model_close(model);
    sq_checkpoint_close(checkpoint);
    folder_remove(&folder);
}

/* The rules of transformers: Mistral's window holds everywhere; Qwen's only where it is switched on, from
 * max_window_layers on, or where layer_types says so. */
static void test_sliding_windows(void **state)
{
    (void)state;
    check_windows("mistral", "\"sliding_window\": 12", "\"sliding_window\": 12", 12, 12);
    check_windows("mistral", "\"sliding_window\": 12", "\"sliding_window\": null", 0, 0);
    check_windows("qwen2", "\"use_sliding_window\": false", "\"use_sliding_window\": false", 0, 0);
    check_windows("qwen2", "\"use_sliding_window\": false", "\"use_sliding_window\": true", 0, 0);
    const char *both = "\"use_sliding_window\": false,\n \"sliding_window\": 16,\n \"max_window_layers\": 2";
    check_windows("qwen2", both, "\"use_sliding_window\": true, \"sliding_window\": 16, \"max_window_layers\": 1", 0,
                  16);
    const char *types = "\"layer_types\"";
    check_windows("gpt_oss", types, types, 5, 0);
    check_windows("gpt_oss", types, "\"other_types\"", 5, 0);
    check_windows("gpt_oss", "\"sliding_window\": 5", "\"sliding_window\": null", 0, 0);
    check_windows("qwen2", both,
                  "\"use_sliding_window\": true, \"sliding_window\": 16, \"max_window_layers\": 0,"
                  "\"layer_types\": [\"sliding_attention\", \"full_attention\"]",
                  16, 0);
    check_refused("qwen2", both, "\"layer_types\": [\"full_attention\"]", "'layer_types'", "2");
    check_refused("qwen2", both, "\"layer_types\": [\"full_attention\", \"chunked_attention\"]", "'layer_types'",
                  "chunked_attention");
}

/* Layers of DeepSeek-V3 with two blocks, of which one has 12 experts; none: null or 0. */
static void test_no_shared_experts(void **state)
{
    (void)state;
    static const char *const shared[] = {"2", "0", "null"};
    for (int i = 0; i < 3; i++) {
        struct folder folder;
        struct sq_checkpoint *checkpoint;
        struct sq_model *model;
        char text[64];
        snprintf(text, sizeof text, "\"n_shared_experts\": %s", shared[i]);
        make_folder(&folder, "deepseek_v3", "\"n_shared_experts\": 2", text);
        assert_int_equal(sq_checkpoint_open(folder.path, &checkpoint), SQ_OK);
        assert_int_equal(sq_model_open(checkpoint, &model), SQ_OK);
        assert_int_equal(sq_model_n_linears(model), 2 * 5 + 3 + 3 * 12 + (i == 0 ? 3 : 0) + 1);
        sq_model_close(model);
        sq_checkpoint_close(checkpoint);
        folder_remove(&folder);
    }
}

static void test_unknown_architecture_lists_those_known(void **state)
{
    (void)state;
    check_refused("opt", "OPTForCausalLM", "MambaForCausalLM", "'MambaForCausalLM'",
                  "LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, BloomForCausalLM");
    check_refused("opt", "\"architectures\"", "\"unused\"", "'architectures'", NULL);
    check_refused("opt", "\"OPTForCausalLM\"", "\"OPTForCausalLM\", \"OPTModel\"", "'architectures'", NULL);
    check_refused("opt", "\"OPTForCausalLM\"", "7", "'architectures'", NULL);
}

static void test_options_that_are_not_supported_are_named(void **state)
{
    (void)state;
    check_refused("opt", "\"do_layer_norm_before\": true", "\"do_layer_norm_before\": false", "'do_layer_norm_before'",
                  "false");
    check_refused("opt", "\"word_embed_proj_dim\": 64", "\"word_embed_proj_dim\": 32", "'word_embed_proj_dim'", "32");
    check_refused("opt", "\"enable_bias\"", "\"_remove_final_layer_norm\": true, \"enable_bias\"",
                  "'_remove_final_layer_norm'", NULL);
    check_refused("opt", "\"relu\"", "\"quick_gelu\"", "'activation_function'", "quick_gelu");
    check_refused("llama3_parameters", "\"llama3\"", "\"proportional\"", "'proportional'", "rope_parameters");
    check_refused("llama3_parameters", "\"factor\": 8.0", "\"factor\": 0", "'factor'", NULL);
    check_refused("llama3_parameters", "\"factor\": 8.0", "\"full_attention\": {}", "'full_attention'", NULL);
    check_refused("llama3_parameters", "\"factor\": 8.0", "\"factor\": 8.0, \"partial_rotary_factor\": 0.5",
                  "'partial_rotary_factor'", NULL);
    check_refused("llama3_parameters", "\"mlp_bias\"",
                  "\"rope_scaling\": {\"type\": \"ntk\", \"factor\": 2}, \"mlp_bias\"", "'ntk'", "rope_scaling");
    check_refused("mistral", "\"sliding_window\"", "\"layer_types\": [], \"sliding_window\"", "'layer_types'", NULL);
    check_refused("bloom", "post_layernorm\": false", "post_layernorm\": true", "post_layernorm' is true", NULL);
    check_refused("gpt2", "\"attn_pdrop\"", "\"scale_attn_weights\": false, \"attn_pdrop\"", "'scale_attn_weights'",
                  NULL);
    check_refused("gpt2", "\"attn_pdrop\"", "\"scale_attn_by_inverse_layer_idx\": true, \"attn_pdrop\"",
                  "'scale_attn_by_inverse_layer_idx'", NULL);
    check_refused("falcon_7b", "\"alibi\": false", "\"alibi\": true", "'alibi' is true", NULL);
    check_refused("falcon_7b", "\"parallel_attn\": true", "\"parallel_attn\": false", "'parallel_attn' is false", NULL);
    check_refused("phi3_long", "\"longrope\"", "\"ntk\"", "'ntk'", "rope_scaling");
    check_refused("gemma", "\"rms_norm_eps\"", "\"use_bidirectional_attention\": true, \"rms_norm_eps\"",
                  "'use_bidirectional_attention' is true", NULL);
    check_refused("gemma3", "\"rms_norm_eps\"", "\"attn_logit_softcapping\": 50.0, \"rms_norm_eps\"",
                  "'attn_logit_softcapping' is 50.0", NULL);
    check_refused("gemma2", "\"final_logit_softcapping\": 4.0", "\"final_logit_softcapping\": -1",
                  "'final_logit_softcapping' is -1", "or null");
    check_refused("cohere2", "\"sliding_window_pattern\": 2",
                  "\"layer_types\": [\"linear_attention\", \"full_attention\"]", "'linear_attention'", "'layer_types'");
    check_refused("stablelm", "\"partial_rotary_factor\": 0.25", "\"partial_rotary_factor\": 2", "at most 1", NULL);
    check_refused("granite", "\"logits_scaling\": 1.7", "\"logits_scaling\": 0", "'logits_scaling' is 0", NULL);
    check_refused("phi3_long", "2.0\n  ]", "2.0, 3.0]", "'short_factor'", "6 numbers");
    check_refused("olmoe", "\"clip_qkv\": null", "\"clip_qkv\": 8.0", "'clip_qkv' is 8.0", NULL);
    check_refused("qwen2_moe", "\"use_sliding_window\": false", "\"use_sliding_window\": true",
                  "'use_sliding_window' is true", NULL);
    check_refused("olmoe", "OlmoeForCausalLM", "Qwen3NextForCausalLM", "'Qwen3NextForCausalLM' is not supported",
                  "linear attention");
    check_refused("gpt_oss", "\"swiglu_limit\": 7.0", "\"swiglu_limit\": 5.0", "'swiglu_limit' is 5.0", "7.0");
    check_refused("gpt_oss", "\"swiglu_limit\": 7.0", "\"swiglu_limit\": 7, \"swiglu_alpha\": 1.5",
                  "'swiglu_alpha' is 1.5", "1.702");
    check_refused("gpt_oss", "\"full_attention\"", "\"linear_attention\"", "'layer_types'", "linear_attention");
    check_refused("gpt_oss", "\"yarn\"", "\"ntk\"", "'ntk'", "rope_scaling");
    check_refused("deepseek_v2", "\"softmax\"", "\"sigmoid\"", "'scoring_func' is \"sigmoid\"", NULL);
    check_refused("deepseek_v2", "\"group_limited_greedy\"", "\"noaux_tc\"", "'topk_method' is \"noaux_tc\"",
                  "greedy or group_limited_greedy");
    check_refused("deepseek_v2", "\"norm_topk_prob\": false", "\"norm_topk_prob\": true", "'norm_topk_prob' is true",
                  NULL);
    check_refused("deepseek_v3", "\"sigmoid\"", "\"softmax\"", "'scoring_func' is \"softmax\"", NULL);
    check_refused("deepseek_v3", "\"noaux_tc\"", "\"greedy\"", "'topk_method' is \"greedy\"", NULL);
    check_refused("deepseek_v3", "\"moe_layer_freq\": 1", "\"moe_layer_freq\": 2", "'moe_layer_freq' is 2", NULL);
    check_refused("deepseek_v3_dense", "\"rope_interleave\": false", "\"rope_interleave\": null", "'rope_interleave'",
                  "true or false");
    check_refused("deepseek_v3", "\"qk_rope_head_dim\": 32", "\"qk_rope_head_dim\": 31", "31 of the 47", NULL);
}

static void test_values_that_cannot_be_are_named(void **state)
{
    (void)state;
    check_refused("opt", "\"hidden_size\": 64,", "", "'hidden_size'", "missing");
    check_refused("opt", "\"hidden_size\": 64", "\"hidden_size\": null", "'hidden_size'", "missing");
    check_refused("opt", "\"hidden_size\": 64", "\"hidden_size\": 0", "'hidden_size'", NULL);
    check_refused("opt", "\"hidden_size\": 64", "\"hidden_size\": -64", "'hidden_size'", "-64");
    check_refused("opt", "\"hidden_size\": 64", "\"hidden_size\": \"64\"", "'hidden_size'", NULL);
    check_refused("opt", "\"hidden_size\": 64", "\"hidden_size\": 6.5", "'hidden_size'", NULL);
    check_refused("opt", "\"num_attention_heads\": 4", "\"num_attention_heads\": 0", "'num_attention_heads'", NULL);
    check_refused("opt", "\"num_attention_heads\": 4", "\"num_attention_heads\": 5", "'num_attention_heads'", "5");
    check_refused("opt", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 0", "'num_hidden_layers'", NULL);
    check_refused("opt", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 100000000", "'num_hidden_layers'",
                  "100000000");
    check_refused("opt", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 4611686018427387904",
                  "'num_hidden_layers'", "268435456");
    check_refused("opt", "\"ffn_dim\": 128", "\"ffn_dim\": 0", "'ffn_dim'", NULL);
    check_refused("mixtral", "\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 5", "'num_experts_per_tok' is 5",
                  "experts to choose from");
    check_refused("mixtral", "\"num_local_experts\": 4", "\"num_local_experts\": 5", "block_sparse_moe.gate.weight",
                  "[5, 32]");
    check_refused("qwen2_moe", "\"mlp_only_layers\": []", "\"mlp_only_layers\": [2]", "'mlp_only_layers'", "0 to 1");
    check_refused("opt", "\"enable_bias\": true", "\"enable_bias\": 1", "'enable_bias'", "true or false");
    check_refused("llama3_parameters", "\"num_key_value_heads\": 1", "\"num_key_value_heads\": 3",
                  "'num_key_value_heads'", "3");
    check_refused("llama3_parameters", "\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": 0", "'rms_norm_eps'", NULL);
    check_refused("llama3_parameters", "\"head_dim\": 16", "\"head_dim\": 15", "'head_dim'", "15");
}

/* Without tensors there is nothing that blocks could be counted by. */
static void test_too_many_blocks_without_tensors(void **state)
{
    (void)state;
    static const char *const counts[] = {"\"num_hidden_layers\": 100000", "\"num_hidden_layers\": 100001"};
    for (int i = 0; i < 2; i++) {
        struct folder folder;
        struct sq_checkpoint *checkpoint;
        struct sq_model *model = NULL;
        struct capture capture;
        make_folder(&folder, "opt", "\"num_hidden_layers\": 2", counts[i]);
        assert_int_equal(sq_checkpoint_open_bare(folder.path, &checkpoint), SQ_OK);
        capture_start(&capture);
        enum sq_status status = sq_model_open(checkpoint, &model);
        const char *text = capture_stop(&capture);
        assert_int_equal(status, i == 0 ? SQ_OK : SQ_ERR_INPUT);
        if (i == 1 && !capture_is_one_error(text, (const char *const[4]){"is 100001;", "at most 100000 blocks"}))
            fail_msg("got: %s", text);
        sq_model_close(model);
        sq_checkpoint_close(checkpoint);
        folder_remove(&folder);
    }
}

static void test_tensors_that_do_not_fit_are_named(void **state)
{
    (void)state;
    check_refused("opt", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", "layers.2.", NULL);
    check_refused("opt", "\"vocab_size\": 128", "\"vocab_size\": 129", "embed_tokens.weight", "129");
    check_refused("opt", "\"max_position_embeddings\": 64", "\"max_position_embeddings\": 128", "embed_positions",
                  "130");
    check_refused("opt", "\"ffn_dim\": 128", "\"ffn_dim\": 96", "fc1", "96");
    check_refused("llama3_parameters", "\"mlp_bias\": false", "\"mlp_bias\": true", "mlp.gate_proj.bias", NULL);
    check_refused("llama3_parameters", "\"head_dim\": 16", "\"head_dim\": 8", "q_proj", NULL);
    /* fused tensors, and a transposed one */
    check_refused("phi3", "\"num_key_value_heads\": 4", "\"num_key_value_heads\": 2",
                  "qkv_proj.weight has shape [96, 32]", "[64, 32]");
    check_refused("phi3", "\"intermediate_size\": 64", "\"intermediate_size\": 48", "gate_up_proj.weight", "[96, 32]");
    check_refused("falcon_40b", "\"num_kv_heads\": 2", "\"num_kv_heads\": 4", "query_key_value.weight", "[96, 32]");
    check_refused("gpt_bigcode", "\"multi_query\": true", "\"multi_query\": false", "c_attn.bias", "96");
    check_refused("gpt2", "\"n_inner\": 64", "\"n_inner\": 96", "c_fc", "96");
    check_refused("internlm2", "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 1", "wqkv", "48");
    check_refused("cohere", "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 4", "k_norm.weight", "[4, 8]");
    check_refused("deepseek_v2_lite", "\"q_lora_rank\": null", "\"q_lora_rank\": 32", "q_a_layernorm", NULL);
    check_refused("deepseek_v3", "\"kv_lora_rank\": 64", "\"kv_lora_rank\": 32", "kv_a_layernorm", "32");
    check_refused("deepseek_v3", "\"n_shared_experts\": 2", "\"n_shared_experts\": 1", "shared_experts.", "32");
    check_refused("deepseek_v3", "\"n_routed_experts\": 12", "\"n_routed_experts\": 15", "mlp.gate.", "15");
    check_refused("deepseek_v3", "\"first_k_dense_replace\": 1", "\"first_k_dense_replace\": 2",
                  "layers.1.mlp.gate_proj", NULL);
    check_refused("stablelm_parallel", "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 4",
                  "k_layernorm.norms.2.weight", NULL);
}

static void test_experts_that_are_missing_or_have_another_shape(void **state)
{
    (void)state;
    struct folder folder;
    check_tensors_refused("olmoe", "layers.1.mlp.experts.3.up_proj", "layers.1.mlp.experts.3.xp_proj",
                          "layers.1.mlp.experts.3.up_proj has neither weight", NULL);
    check_tensors_refused("mixtral", "layers.0.block_sparse_moe.experts.2.w2", "layers.0.block_sparse_moe.experts.9.w2",
                          "layers.0.block_sparse_moe.experts.2.w2 has neither weight", NULL);
    check_tensors_refused("qwen3_moe_fused", "\"shape\":[5,64,32]", "\"shape\":[5,32,64]", "experts.gate_up_proj",
                          "does not go with");
    check_tensors_refused("qwen3_moe_fused", "\"shape\":[5,64,32]", "\"shape\":[160,64] ", "experts.gate_up_proj",
                          "three dimensions");
    check_tensors_refused("gpt_oss", "\"shape\":[5,32,96]", "\"shape\":[5,96,32]", "experts.gate_up_proj",
                          "does not go with");
    check_tensors_refused("gpt_oss", "\"shape\":[5,48,32]", "\"shape\":[240,32] ", "experts.down_proj",
                          "three dimensions: experts, inputs, outputs");
    check_tensors_refused("gpt_oss", "experts.down_proj_bias", "experts.down_proj_bixs",
                          "layers.0.mlp.experts.0.down_proj.bias", "[32]");
    check_tensors_refused("gpt_oss", "layers.1.self_attn.sinks", "layers.1.self_attn.sixks",
                          "no tensor model.layers.1.self_attn.sinks", "[4]");
    check_tensors_refused("gpt_oss", "layers.1.mlp.router.bias", "layers.1.mlp.router.bixs",
                          "no tensor model.layers.1.mlp.router.bias", "[5]");
    check_tensors_refused("gpt_oss_mxfp4", "\"shape\":[6,192,2,16]", "\"shape\":[6,192,4,8] ",
                          "experts.gate_up_proj_blocks", "four dimensions: experts, outputs, blocks, 16");
    check_tensors_refused("gpt_oss_mxfp4", "layers.0.mlp.experts.gate_up_proj_scales",
                          "layers.0.mlp.experts.gate_up_proj_scalex", "dtype MXFP4", "weight_scale");
    /* what the architecture has nothing to do with is not looked at before it */
    make_folder(&folder, "qwen3_moe_fused", "Qwen3MoeForCausalLM", "Llama4ForCausalLM");
    change_tensors(&folder, "qwen3_moe_fused", "\"shape\":[5,64,32]", "\"shape\":[5,32,64]");
    check_folder_refused(&folder, "'Llama4ForCausalLM' is not supported", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sliding_windows),
        cmocka_unit_test(test_no_shared_experts),
        cmocka_unit_test(test_unknown_architecture_lists_those_known),
        cmocka_unit_test(test_options_that_are_not_supported_are_named),
        cmocka_unit_test(test_values_that_cannot_be_are_named),
        cmocka_unit_test(test_too_many_blocks_without_tensors),
        cmocka_unit_test(test_tensors_that_do_not_fit_are_named),
        cmocka_unit_test(test_experts_that_are_missing_or_have_another_shape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
