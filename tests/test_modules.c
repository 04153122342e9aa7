/* Sets of layers as patterns and names, as three readers want them. */
#define _XOPEN_SOURCE 700
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "capture.h"
#include "io/modules.h"

#define B0 "model.layers.0."
#define B1 "model.layers.1."
#define LAYER(name, bits, group)                                                                                       \
    {                                                                                                                  \
        name, 64, 64, {bits, true, group, SQ_F16}, false                                                               \
    }

/* A kept tensor. */
#define KEPT(layer_name, dims)                                                                                         \
    {                                                                                                                  \
        .layer = -1, .name = layer_name ".weight", .entry = {.n_dims = dims, .shape = {64, 64} }                       \
    }

struct texts {
    char text[1024];
};

static enum sq_status append(void *context, const char *text, bool is_pattern)
{
    struct texts *texts = context;
    size_t used = strlen(texts->text);
    snprintf(texts->text + used, sizeof texts->text - used, "%s%s ", is_pattern ? "~" : "", text);
    return SQ_OK;
}

static void check_set(const struct sq_modules *modules, int set, const char *wanted)
{
    struct texts texts = {""};
    assert_int_equal(sq_modules_each(modules, set, append, &texts), SQ_OK);
    assert_string_equal(texts.text, wanted);
}

static void list(struct sq_store_layer *layers, int n_layers, struct sq_output *outputs, int64_t n_outputs,
                 struct sq_modules *modules)
{
    const struct sq_assemble_plan plan = {.outputs = outputs, .n_outputs = n_outputs};
    assert_int_equal(sq_modules_list(layers, n_layers, &plan, modules), SQ_OK);
}

static void test_kinds(void **state)
{
    (void)state;
    struct sq_modules modules, joined;
    struct sq_store_layer layers[] = {
        LAYER(B0 "self_attn.q_proj", 4, 32), LAYER(B0 "self_attn.k_proj", 4, 32), LAYER(B0 "mlp.up_proj", 8, 64),
        LAYER(B1 "self_attn.q_proj", 4, 32), LAYER(B1 "self_attn.k_proj", 8, 32), LAYER(B1 "mlp.up_proj", 8, 64),
        LAYER(B0 "mlp.gate_proj", 8, 64),    LAYER(B1 "mlp.gate_proj", 8, 64),    LAYER("lm_head", 4, 32),
    };
    struct sq_output outputs[] = {KEPT("model.embed_tokens", 2), KEPT(B0 "mlp.down_proj", 2), KEPT(B0 "norm", 1),
                                  KEPT(B1 "mlp.down_proj", 2),   KEPT(B1 "router", 2),        KEPT("embed_out", 2)};
    list(layers, 9, outputs, 6, &modules);
    assert_int_equal(modules.n_settings, 3);
    assert_true(modules.settings[0].bits == 8 && modules.settings[0].group_size == 64);
    assert_true(modules.settings[1].bits == 4 && modules.settings[1].group_size == 32);
    assert_true(modules.settings[2].bits == 8 && modules.settings[2].group_size == 32);
    check_set(&modules, 1,
              "lm_head " B0 "self_attn.k_proj "
              "~model\\.layers\\.\\d+\\.self_attn\\.q_proj ");
    check_set(&modules, 0, "~model\\.layers\\.\\d+\\.mlp\\.gate_proj ~model\\.layers\\.\\d+\\.mlp\\.up_proj ");
    check_set(&modules, 2, B1 "self_attn.k_proj ");
    check_set(&modules, SQ_MODULE_OUTSIDE, "embed_out ");
    check_set(&modules, SQ_MODULE_KEPT, "~model\\.layers\\.\\d+\\.mlp\\.down_proj " B1 "router ");

    struct capture capture;
    capture_start(&capture);
    assert_int_equal(sq_modules_join(&modules, &joined), SQ_OK);
    const char *text = capture_stop(&capture);
    assert_non_null(strstr(text, B1 "self_attn.qkv_proj")); /* q_proj has 4 bits, k_proj 8 */
    check_set(&joined, 1, B0 "self_attn.qkv_proj ");
    check_set(&joined, 0, "~model\\.layers\\.\\d+\\.mlp\\.gate_up_proj ");
    check_set(&joined, 2, "");
    sq_modules_release(&joined);
    assert_string_equal(sq_modules_find_head(&modules), "lm_head");
    sq_modules_release(&modules);
}

static void test_experts(void **state)
{
    (void)state;
    struct sq_modules modules, joined;
    struct sq_store_layer layers[] = {
        LAYER("h.3.mlp.experts.0.w1", 4, 32),  LAYER("h.3.mlp.experts.0.w2", 4, 32),
        LAYER("h.3.mlp.experts.10.w1", 4, 32), LAYER("h.3.mlp.experts.10.w2", 4, 32),
        LAYER("h.4.mlp.experts.0.w1", 8, 32),  LAYER("h.4.mlp.experts.0.w2", 8, 32),
    };
    list(layers, 6, NULL, 0, &modules);
    check_set(&modules, 0, "h.3.mlp.experts.0.w1 h.3.mlp.experts.10.w1 h.3.mlp.experts.0.w2 h.3.mlp.experts.10.w2 ");
    assert_int_equal(sq_modules_join(&modules, &joined), SQ_OK);
    check_set(&joined, 0, "h.3.mlp.experts ");
    check_set(&joined, 1, "h.4.mlp.experts ");
    assert_null(sq_modules_find_head(&modules));
    sq_modules_release(&joined);
    sq_modules_release(&modules);
}

/* A number is a whole component; a name that ends in digits is none. */
static void test_names(void **state)
{
    (void)state;
    const char *rest;
    char *pattern;
    assert_true(sq_module_is_in_block("h.12.mlp.c_fc", &rest));
    assert_string_equal(rest, "mlp.c_fc");
    assert_false(sq_module_is_in_block("model.layer2.up", &rest));
    assert_false(sq_module_is_in_block("model.layers.2", &rest));
    assert_int_equal(sq_module_pattern("a2.10.b-c.7", true, &pattern), SQ_OK);
    assert_string_equal(pattern, "a2\\.\\d+\\.b\\-c\\.\\d+");
    sq_free(pattern);
    assert_int_equal(sq_module_pattern("a2.10.b", false, &pattern), SQ_OK);
    assert_string_equal(pattern, "a2\\.10\\.b");
    sq_free(pattern);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_experts),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
