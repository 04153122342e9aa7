/* Tables of config keys: other names, nulls, inverses, what follows from what, and which blocks have a window. */
#define _GNU_SOURCE /* capture.h */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "capture.h"
#include "model/dimensions.h"

static const struct sq_config_key keys[] = {
    SQ_KEY_REQUIRED_OR("n_embd", "hidden_size", SQ_KEY_INT, hidden),
    SQ_KEY_REQUIRED("n_head", SQ_KEY_INT, n_heads),
    SQ_KEY_REQUIRED("blocks", SQ_KEY_INT, n_blocks),
    SQ_KEY_DEFAULT_OR("n_kv", "kv_heads", SQ_KEY_INT, n_kv_heads, "0"),
    SQ_KEY_DEFAULT("n_inner", SQ_KEY_INT, ffn, "0"),
    SQ_KEY_DEFAULT("scalar", SQ_KEY_INVERSE_ROOT, attention_scale, "16"),
    SQ_KEY_DEFAULT("divisor", SQ_KEY_INVERSE, logit_scale, "1"),
    SQ_KEY_DEFAULT("cap", SQ_KEY_FLOAT_OR_NULL, attention_cap, "50"),
    SQ_KEY_DEFAULT("window", SQ_KEY_INT_OR_NULL, window, "9"),
    SQ_KEY_DEFAULT("pattern", SQ_KEY_INT, window_pattern, "0"),
    SQ_KEY_DEFAULT("first", SQ_KEY_INT, first_window, "0"),
};

static void complete(struct sq_dimensions *dims)
{
    dims->use_window = true;
}

static const struct sq_config_table table = {keys, SQ_COUNT(keys), .has_layer_types = true, .complete = complete};
static const struct sq_config_table plain = {.keys = keys, .n_keys = 3};

static struct sq_dimensions read_good(const struct sq_config_table *keys_of, const char *text)
{
    struct sq_dimensions dims;
    json_t *config = json_loads(text, 0, NULL);
    assert_non_null(config);
    assert_int_equal(sq_dimensions_read(keys_of, config, "folder", &dims), SQ_OK);
    json_decref(config);
    return dims;
}

#define REQUIRED "\"n_embd\": 64, \"n_head\": 4, \"blocks\": 6"

static void test_values(void **state)
{
    (void)state;
    struct sq_dimensions dims = read_good(&table, "{" REQUIRED "}");
    assert_true(dims.hidden == 64 && dims.head_dim == 16 && dims.n_kv_heads == 4 && dims.ffn == 256);
    assert_true(dims.attention_scale == 0.25 && dims.logit_scale == 1 && dims.attention_cap == 50 && dims.window == 9);
    assert_true(dims.embedding_scale == 1 && dims.residual_scale == 1 && dims.logit_cap == 0);
    assert_true(dims.bias[SQ_BIAS_ALWAYS] && !dims.bias[SQ_BIAS_NEVER] && !dims.bias[SQ_BIAS_LINEAR]);
    dims = read_good(&table, "{\"hidden_size\": 48, \"n_embd\": null, \"n_head\": 3, \"blocks\": 6, \"kv_heads\": 1,"
                             " \"n_inner\": 7, \"scalar\": 4, \"divisor\": 8, \"cap\": null, \"window\": null}");
    assert_true(dims.hidden == 48 && dims.n_kv_heads == 1 && dims.ffn == 7);
    assert_true(dims.attention_scale == 0.5 && dims.logit_scale == 0.125 && dims.attention_cap == 0 &&
                dims.window == 0);
    assert_true(read_good(&plain, "{" REQUIRED "}").attention_scale == 0.25);
}

static void refuse(const char *text, const char *part)
{
    struct sq_dimensions dims;
    struct capture capture;
    json_t *config = json_loads(text, 0, NULL);
    assert_non_null(config);
    capture_start(&capture);
    enum sq_status status = sq_dimensions_read(&table, config, "folder", &dims);
    const char *line = capture_stop(&capture);
    assert_int_equal(status, SQ_ERR_INPUT);
    if (!capture_is_one_error(line, (const char *const[4]){part})) fail_msg("no '%s' in: %s", part, line);
    json_decref(config);
}

static void test_refusals_use_the_name_that_is_there(void **state)
{
    (void)state;
    refuse("{\"n_head\": 4, \"blocks\": 6}", "key 'n_embd' is missing");
    refuse("{\"hidden_size\": -1, \"n_head\": 4, \"blocks\": 6}", "key 'hidden_size' is -1");
    refuse("{\"n_embd\": 64, \"n_head\": 5, \"blocks\": 6}", "key 'n_head' is 5; it does not divide");
    refuse("{" REQUIRED ", \"kv_heads\": 3}", "key 'kv_heads' is 3; it does not divide");
    refuse("{" REQUIRED ", \"cap\": 0}", "key 'cap' is 0; it must be a number above zero, or null");
    refuse("{" REQUIRED ", \"scalar\": -4}", "key 'scalar' is -4");
    refuse("{" REQUIRED ", \"window\": \"9\"}", "key 'window' is \"9\"");
}

static void check_windows(const char *text, const int64_t expected[6])
{
    int64_t windows[6];
    json_t *config = json_loads(text, 0, NULL);
    struct sq_dimensions dims = read_good(&table, text);
    assert_int_equal(sq_windows_read(&table, config, "folder", &dims, windows), SQ_OK);
    for (int i = 0; i < 6; i++)
        assert_int_equal(windows[i], expected[i]);
    json_decref(config);
}

static void test_windows(void **state)
{
    (void)state;
    check_windows("{" REQUIRED "}", (int64_t[]){9, 9, 9, 9, 9, 9});
    check_windows("{" REQUIRED ", \"window\": null}", (int64_t[]){0, 0, 0, 0, 0, 0});
    check_windows("{" REQUIRED ", \"first\": 4}", (int64_t[]){0, 0, 0, 0, 9, 9});
    check_windows("{" REQUIRED ", \"pattern\": 2}", (int64_t[]){9, 0, 9, 0, 9, 0});
    check_windows("{" REQUIRED ", \"pattern\": 3}", (int64_t[]){9, 9, 0, 9, 9, 0});
    check_windows("{" REQUIRED ", \"pattern\": 3, \"layer_types\": [\"full_attention\", \"full_attention\","
                  " \"sliding_attention\", \"full_attention\", \"sliding_attention\", \"full_attention\"]}",
                  (int64_t[]){0, 0, 9, 0, 9, 0});
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_refusals_use_the_name_that_is_there),
        cmocka_unit_test(test_windows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
