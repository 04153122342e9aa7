/* What the user hears of readers that will not load a checkpoint. */
#define _XOPEN_SOURCE 700
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "capture.h"
#include "io/readers.h"

static int n_lines(const char *text)
{
    int n = 0;
    for (; *text; text++)
        n += *text == '\n';
    return n;
}

/* What is said of a checkpoint of two layers, the second of which has this grid. */
static const char *said(struct capture *capture, const char *architecture, enum sq_format format, struct sq_grid grid)
{
    const struct sq_store_layer layers[] = {{"m.0.a", 64, 256, {4, true, 128, SQ_F16}, false},
                                            {"m.0.b", 64, 256, grid, false}};
    json_t *config = json_pack("{s:[s]}", "architectures", architecture);
    capture_start(capture);
    sq_readers_tell("OUT", config, format, layers, 2);
    json_decref(config);
    return capture_stop(capture);
}

static const struct sq_grid plain = {4, true, 128, SQ_F16};

static void test_what_all_take(void **state)
{
    (void)state;
    struct capture capture;
    const struct sq_grid channel = {8, true, 256, SQ_F16};
    for (int f = SQ_FORMAT_GPTQ; f <= SQ_FORMAT_COMPRESSED_TENSORS; f++)
        assert_string_equal(said(&capture, "LlamaForCausalLM", (enum sq_format)f, plain), "");
    assert_string_equal(said(&capture, "OPTForCausalLM", SQ_FORMAT_COMPRESSED_TENSORS, channel), "");
    const char *text = said(&capture, "OPTForCausalLM", SQ_FORMAT_GPTQ, channel);
    assert_int_equal(n_lines(text), 2);
    assert_non_null(strstr(text, "ExLlamaV2 0.3 does not know the family"));
    assert_non_null(strstr(text, "ExLlamaV2 0.3 takes 4 bits only"));
}

static void test_families(void **state)
{
    (void)state;
    struct capture capture;
    const char *text = said(&capture, "GPT2LMHeadModel", SQ_FORMAT_COMPRESSED_TENSORS, plain);
    assert_int_equal(n_lines(text), 1);
    assert_non_null(strstr(text, "OUT: transformers 5.23 leaves all layers at random values: its Conv1D"));
    text = said(&capture, "GPT2LMHeadModel", SQ_FORMAT_GPTQ, plain);
    assert_int_equal(n_lines(text), 2);
    assert_non_null(strstr(text, "OUT: transformers 5.23 ends with an error"));
    text = said(&capture, "Glm4ForCausalLM", SQ_FORMAT_GPTQ_V2, plain);
    assert_int_equal(n_lines(text), 2);
    assert_non_null(strstr(text, "OUT: GPTQModel 7.7 refuses it"));
    assert_string_equal(said(&capture, "Glm4ForCausalLM", SQ_FORMAT_COMPRESSED_TENSORS, plain), "");
    assert_non_null(strstr(said(&capture, "BloomForCausalLM", SQ_FORMAT_COMPRESSED_TENSORS, plain), "OUT: vLLM"));
}

/* What a reader lacks may hang on a key of config.json. */
static void test_keys(void **state)
{
    (void)state;
    static const struct {
        const char *config, *words; /* words NULL: nothing is said */
    } cases[] = {
        {"{'architectures':['StableLmForCausalLM'],'qk_layernorm':true}", "vLLM 0.32 refuses it: it has no StableLM"},
        {"{'architectures':['StableLmForCausalLM'],'qk_layernorm':false}", NULL},
        {"{'architectures':['InternLM2ForCausalLM'],'bias':false}", NULL},
        {"{'architectures':['InternLM2ForCausalLM']}", "vLLM 0.32 takes InternLM2's layers without bias only"},
        {"{'architectures':['FalconForCausalLM'],'hidden_size':64,'ffn_hidden_size':256}", NULL},
        {"{'architectures':['FalconForCausalLM'],'hidden_size':64,'ffn_hidden_size':128}", "four times the model's"},
        {"{'architectures':['LlamaForCausalLM'],'attention_bias':true,'dtype':'float16'}", NULL},
        {"{'architectures':['LlamaForCausalLM'],'attention_bias':true,'dtype':'bfloat16'}", "biases in F16 only"},
        {"{'architectures':['Qwen2ForCausalLM'],'torch_dtype':'float16'}", NULL},
        {"{'architectures':['Qwen2ForCausalLM'],'torch_dtype':'bfloat16'}", "biases in F16 only"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct capture capture;
        const struct sq_store_layer layer = {"m.0.a", 64, 256, plain, false};
        char text[256];
        snprintf(text, sizeof text, "%s", cases[i].config);
        for (char *c = text; *c; c++)
            if (*c == '\'') *c = '"';
        json_t *config = json_loads(text, 0, NULL);
        assert_non_null(config);
        capture_start(&capture);
        sq_readers_tell("OUT", config, SQ_FORMAT_GPTQ, &layer, 1);
        const char *said = capture_stop(&capture);
        bool speaks = strstr(said, "OUT: vLLM") || strstr(said, "F16 only");
        assert_true(speaks == (cases[i].words != NULL));
        if (cases[i].words) assert_non_null(strstr(said, cases[i].words));
        json_decref(config);
    }
}

static void test_keys_of_experts(void **state)
{
    (void)state;
    struct capture capture;
    const struct sq_store_layer layer = {"m.0.a", 64, 256, plain, false};
    json_t *config = json_pack("{s:[s], s:i}", "architectures", "Qwen3MoeForCausalLM", "decoder_sparse_step", 2);
    capture_start(&capture);
    sq_readers_tell("OUT", config, SQ_FORMAT_GPTQ, &layer, 1);
    const char *text = capture_stop(&capture);
    assert_int_equal(n_lines(text), 3); /* transformers' experts, ExLlamaV2's norms, and this */
    assert_non_null(strstr(text, "GPTQModel 7.7 leaves the blocks without experts at random values"));
    json_object_set_new(config, "decoder_sparse_step", json_integer(1));
    json_object_set_new(config, "mlp_only_layers", json_array());
    capture_start(&capture);
    sq_readers_tell("OUT", config, SQ_FORMAT_GPTQ, &layer, 1);
    assert_int_equal(n_lines(capture_stop(&capture)), 2);
    json_decref(config);
}

/* Mixtral's experts have two names, of which each reader takes one. */
static void test_names_of_experts(void **state)
{
    (void)state;
    static char names[2][64] = {"model.layers.0.block_sparse_moe.experts.0.w1",
                                "model.layers.0.mlp.experts.0.gate_proj"};
    for (int i = 0; i < 2; i++) {
        struct capture capture;
        const struct sq_store_layer layer = {names[i], 64, 256, plain, false};
        json_t *config = json_pack("{s:[s]}", "architectures", "MixtralForCausalLM");
        capture_start(&capture);
        sq_readers_tell("OUT", config, SQ_FORMAT_GPTQ, &layer, 1);
        const char *text = capture_stop(&capture);
        assert_true((strstr(text, "GPTQModel 7.7 refuses it") != NULL) == (i == 0));
        assert_true((strstr(text, "ExLlamaV2 0.3 refuses it") != NULL) == (i == 1));
        assert_true((strstr(text, "vLLM 0.32 refuses it") != NULL) == (i == 1));
        json_decref(config);
    }
}

/* One layer is enough. */
static void test_layers(void **state)
{
    (void)state;
    struct capture capture;
    const struct sq_grid three = {3, false, 128, SQ_F16}, ragged = {4, true, 96, SQ_F16};
    const char *text = said(&capture, "LlamaForCausalLM", SQ_FORMAT_GPTQ_V2, three);
    assert_int_equal(n_lines(text), 4);
    assert_non_null(strstr(text, "takes 4 and 8 bits only"));
    assert_non_null(strstr(text, "takes symmetric layers only"));
    assert_non_null(strstr(text, "misreads zero points of 0"));
    text = said(&capture, "LlamaForCausalLM", SQ_FORMAT_GPTQ, ragged);
    assert_int_equal(n_lines(text), 3);
    assert_non_null(strstr(text, "leaves out a last group"));
    assert_non_null(strstr(text, "takes groups of 32, 64 or 128 only"));
    assert_non_null(strstr(text, "other powers of two only"));
    text = said(&capture, "LlamaForCausalLM", SQ_FORMAT_COMPRESSED_TENSORS, three);
    assert_int_equal(n_lines(text), 1);
    assert_non_null(strstr(text, "dequantize=True"));
}

static void test_output_layer(void **state)
{
    (void)state;
    struct capture capture;
    const struct sq_store_layer layers[] = {{"m.0.a", 64, 256, plain, false}, {"lm_head", 64, 256, plain, false}};
    capture_start(&capture);
    sq_readers_tell("OUT", NULL, SQ_FORMAT_GPTQ, layers, 2);
    const char *text = capture_stop(&capture);
    assert_int_equal(n_lines(text), 1);
    assert_non_null(strstr(text, "leaves the output layer at random values"));
}

static void test_no_architecture(void **state)
{
    (void)state;
    struct capture capture;
    const struct sq_store_layer layer = {"m.0.a", 64, 256, plain, false};
    capture_start(&capture);
    sq_readers_tell("OUT", NULL, SQ_FORMAT_GPTQ, &layer, 1);
    assert_string_equal(capture_stop(&capture), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_of_experts), cmocka_unit_test(test_keys),
        cmocka_unit_test(test_keys_of_experts),  cmocka_unit_test(test_what_all_take),
        cmocka_unit_test(test_families),         cmocka_unit_test(test_layers),
        cmocka_unit_test(test_output_layer),     cmocka_unit_test(test_no_architecture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
