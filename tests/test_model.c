/* Models as data: what is read from config.json and the names of tensors. */
#define _GNU_SOURCE /* capture.h */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/memory.h"
#include "capture.h"
#include "golden.h"
#include "io/scales.h"
#include "model/model_private.h"

static void open_golden(const char *name, struct sq_checkpoint **checkpoint, struct sq_model **model)
{
    char path[1024];
    golden_path(name, NULL, path);
    assert_int_equal(sq_checkpoint_open(path, checkpoint), SQ_OK);
    assert_int_equal(sq_model_open(*checkpoint, model), SQ_OK);
}

static void close_both(struct sq_checkpoint *checkpoint, struct sq_model *model)
{
    sq_model_close(model);
    sq_checkpoint_close(checkpoint);
}

/* Of a layer that is no block of the model: DeepSeek's for the token after the next. */
static bool is_behind_last(const struct sq_model *model, const struct sq_tensor *tensor)
{
    const char *number = strstr(tensor->name, "layers.");
    return number && strtoll(number + strlen("layers."), NULL, 10) >= sq_model_n_blocks(model);
}

static void test_every_golden_model_opens(void **state)
{
    (void)state;
    struct golden list[GOLDEN_MAX];
    int n = golden_list(list);
    assert_true(n >= 6);
    for (int i = 0; i < n; i++) {
        struct sq_checkpoint *checkpoint;
        struct sq_model *model;
        open_golden(list[i].name, &checkpoint, &model);
        assert_int_equal(sq_model_vocab_size(model), list[i].vocab);
        int64_t most = sq_model_max_length(model);
        assert_true(most == 0 || most >= list[i].length);
        /* every element of every tensor is a parameter or a scale of one, and none counts twice */
        int64_t elements = 0;
        for (int64_t t = 0; t < sq_checkpoint_n_tensors(checkpoint); t++) {
            const struct sq_tensor *tensor = sq_checkpoint_tensor(checkpoint, t);
            if (!sq_scales_is_auxiliary(checkpoint, tensor) && !is_behind_last(model, tensor))
                elements += sq_tensor_count(tensor);
        }
        assert_int_equal(sq_model_n_parameters(model), elements);
        close_both(checkpoint, model);
    }
}

static void check_linear(const struct sq_model *model, int index, const char *name, int64_t out, int64_t in, int block,
                         int group, int member)
{
    const struct sq_linear *linear = sq_model_linear(model, index);
    assert_string_equal(linear->name, name);
    assert_int_equal(linear->out_features, out);
    assert_int_equal(linear->in_features, in);
    assert_int_equal(linear->block, block);
    assert_int_equal(linear->group, group);
    assert_int_equal(linear->member, member);
}

/* config.json alone says the same of a model as its folder does, whichever family. */
static void test_bare_models_are_the_same(void **state)
{
    (void)state;
    struct golden list[GOLDEN_MAX];
    int n = golden_list(list);
    for (int i = 0; i < n; i++) {
        struct sq_checkpoint *checkpoint, *bare;
        struct sq_model *model, *alone;
        char path[1024];
        open_golden(list[i].name, &checkpoint, &model);
        golden_path(list[i].name, i % 2 ? "config.json" : NULL, path); /* by the folder, or by the file */
        assert_int_equal(sq_checkpoint_open_bare(path, &bare), SQ_OK);
        assert_true(sq_checkpoint_is_bare(bare) && !sq_checkpoint_is_bare(checkpoint));
        assert_int_equal(sq_model_open(bare, &alone), SQ_OK);
        assert_int_equal(sq_model_n_parameters(alone), sq_model_n_parameters(model));
        assert_int_equal(sq_model_n_linears(alone), sq_model_n_linears(model));
        for (int l = 0; l < sq_model_n_linears(model); l++) {
            assert_int_equal(sq_model_linear(alone, l)->out_features, sq_model_linear(model, l)->out_features);
            assert_int_equal(sq_model_linear(alone, l)->in_features, sq_model_linear(model, l)->in_features);
        }
        close_both(bare, alone);
        close_both(checkpoint, model);
    }
}

static void test_linears_of_a_llama(void **state)
{
    (void)state;
    struct sq_checkpoint *checkpoint;
    struct sq_model *model;
    open_golden("llama3_parameters", &checkpoint, &model); /* 2 blocks, hidden 32, ffn 64, 2 heads of 16, 1 kv head */
    assert_string_equal(sq_model_architecture(model), "LlamaForCausalLM");
    assert_int_equal(sq_model_n_linears(model), 15);
    assert_int_equal(sq_model_n_groups(model, 0), 4);
    check_linear(model, 0, "model.layers.0.self_attn.q_proj", 32, 32, 0, 0, 0);
    check_linear(model, 2, "model.layers.0.self_attn.v_proj", 16, 32, 0, 0, 2);
    check_linear(model, 3, "model.layers.0.self_attn.o_proj", 32, 32, 0, 1, 0);
    check_linear(model, 12, "model.layers.1.mlp.up_proj", 64, 32, 1, 2, 1);
    check_linear(model, 13, "model.layers.1.mlp.down_proj", 32, 64, 1, 3, 0);
    check_linear(model, 14, "lm_head", 128, 32, 2, 0, 0);
    int first;
    assert_int_equal(sq_model_group_linears(model, 1, 2, &first), 2);
    assert_int_equal(first, 11);
    assert_int_equal(sq_model_group_linears(model, 2, 0, &first), 1);
    assert_int_equal(first, 14);
    assert_false(sq_model_is_tied(model));
    close_both(checkpoint, model);
}

/* Blocks of two kinds: the first has experts, the second has none. */
static void test_linears_of_experts(void **state)
{
    (void)state;
    struct sq_checkpoint *checkpoint;
    struct sq_model *model;
    open_golden("qwen3_moe", &checkpoint, &model); /* hidden 32, 6 experts of 32, 2 of them for a token */
    assert_int_equal(sq_model_n_experts(model, 0), 6);
    assert_int_equal(sq_model_n_experts(model, 1), 0);
    assert_int_equal(sq_model_n_chosen(model), 2);
    assert_int_equal(sq_model_n_groups(model, 0), 14);
    assert_int_equal(sq_model_n_groups(model, 1), 4);
    assert_int_equal(sq_model_n_linears(model), 4 + 18 + 7 + 1);
    check_linear(model, 4, "model.layers.0.mlp.experts.0.gate_proj", 32, 32, 0, 2, 0);
    check_linear(model, 8, "model.layers.0.mlp.experts.1.up_proj", 32, 32, 0, 4, 1);
    check_linear(model, 21, "model.layers.0.mlp.experts.5.down_proj", 32, 32, 0, 13, 0);
    check_linear(model, 26, "model.layers.1.mlp.gate_proj", 64, 32, 1, 2, 0);
    assert_int_equal(sq_model_linear(model, 8)->expert, 1);
    assert_int_equal(sq_model_linear(model, 3)->expert, -1);
    int first;
    assert_int_equal(sq_model_step_groups(model, 0, 7, &first), 12);
    assert_int_equal(first, 2);
    assert_int_equal(sq_model_step_groups(model, 0, 1, &first), 1);
    assert_int_equal(sq_model_group_linears(model, 0, 5, &first), 1);
    assert_int_equal(first, 9);
    assert_true(sq_model_is_expert_group(model, 0, 2) && !sq_model_is_expert_group(model, 0, 1));
    close_both(checkpoint, model);
}

/* One name for the experts of both layouts. */
static void test_fused_experts_are_taken_apart(void **state)
{
    (void)state;
    struct sq_checkpoint *checkpoint;
    struct sq_model *model;
    open_golden("mixtral_fused", &checkpoint, &model); /* hidden 32, 5 experts of 32 */
    check_linear(model, 4 + 3 * 4 + 1, "model.layers.0.block_sparse_moe.experts.4.w3", 32, 32, 0, 10, 1);
    assert_null(sq_checkpoint_find(checkpoint, "model.layers.0.mlp.experts.gate_up_proj"));
    const struct sq_tensor *gate =
        sq_checkpoint_find(checkpoint, "model.layers.0.block_sparse_moe.experts.0.w1.weight");
    const struct sq_tensor *up = sq_checkpoint_find(checkpoint, "model.layers.0.block_sparse_moe.experts.0.w3.weight");
    const struct sq_tensor *next =
        sq_checkpoint_find(checkpoint, "model.layers.0.block_sparse_moe.experts.1.w1.weight");
    assert_ptr_equal(up->data, (const char *)gate->data + gate->bytes);
    assert_ptr_equal(next->data, (const char *)up->data + up->bytes);
    assert_non_null(sq_checkpoint_find(checkpoint, "model.layers.1.block_sparse_moe.gate.weight"));
    close_both(checkpoint, model);
    open_golden("qwen3_moe_fused", &checkpoint, &model);
    check_linear(model, 4 + 3 * 4 + 1, "model.layers.0.mlp.experts.4.up_proj", 32, 32, 0, 10, 1);
    close_both(checkpoint, model);
}

static void test_biases(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool qkv, out, mlp;
    } cases[] = {{"llama", false, false, false},
                 {"llama_bias", true, true, true},
                 {"qwen2", true, false, false},
                 {"qwen3", false, false, false},
                 {"opt", true, true, true}};
    for (int i = 0; i < 5; i++) {
        struct sq_checkpoint *checkpoint;
        struct sq_model *model;
        open_golden(cases[i].name, &checkpoint, &model);
        assert_int_equal(sq_model_linear(model, 0)->has_bias, cases[i].qkv);
        assert_int_equal(sq_model_linear(model, 3)->has_bias, cases[i].out);
        assert_int_equal(sq_model_linear(model, 4)->has_bias, cases[i].mlp);
        close_both(checkpoint, model);
    }
}
static void test_running_out_of_memory(void **state)
{
    (void)state;
    char path[1024];
    struct sq_checkpoint *checkpoint;
    struct capture capture;
    golden_path("opt", NULL, path);
    assert_int_equal(sq_checkpoint_open(path, &checkpoint), SQ_OK);
    enum sq_status status = SQ_ERR_MEMORY;
    int n = 0;
    capture_start(&capture);
    while (status == SQ_ERR_MEMORY && n < 1000) {
        struct sq_model *model = NULL;
        sq_memory_fail_at(++n);
        status = sq_model_open(checkpoint, &model);
        sq_memory_fail_at(0);
        sq_model_close(model);
    }
    capture_stop(&capture);
    assert_int_equal(status, SQ_OK);
    assert_true(n > 10);
    sq_checkpoint_close(checkpoint);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_golden_model_opens),
        cmocka_unit_test(test_bare_models_are_the_same),
        cmocka_unit_test(test_linears_of_a_llama),
        cmocka_unit_test(test_linears_of_experts),
        cmocka_unit_test(test_fused_experts_are_taken_apart),
        cmocka_unit_test(test_biases),
        cmocka_unit_test(test_running_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
