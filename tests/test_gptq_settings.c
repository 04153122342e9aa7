/* What GPTQ folders say of their layers, in config.json and quantize_config.json, beside what the tensors are. */
#define _XOPEN_SOURCE 700
#include "gptq_fixture.h"

#define DYNAMIC(members) ", \"dynamic\": {" members "}"

static void check_config(const struct layer *given, const char *config, const char *message)
{
    struct layer layer = *given;
    layer.config = config;
    check_settings(&form, &layer, message);
}

struct settings_case {
    const char *config, *message;
};

static void check_configs(const struct layer *layer, const struct settings_case *cases, size_t n_cases)
{
    for (size_t i = 0; i < n_cases; i++)
        check_config(layer, cases[i].config, cases[i].message);
}
#define CHECK_CONFIGS(layer, cases) check_configs(layer, cases, sizeof cases / sizeof *cases)

static void test_settings(void **state)
{
    (void)state;
    static const struct settings_case cases[] = {
        {CONFIG("gptq_v2", ""), NULL},
        {CONFIG("gptq_v2", BITS_4 ", \"sym\": false, \"desc_act\": true"), NULL},
        {CONFIG("gptq_v2", ", \"bits\": null, \"sym\": null, \"dynamic\": null"), NULL},
        {CONFIG("gptq_v2", ", \"bits\": 8"), "config.json: bits is 8, but layer has 4 bits"},
        {CONFIG("gptq_v2", ", \"group_size\": 64"),
         "group_size is 64, but layer has 4 bits, 3 groups of its 96 inputs"},
        {CONFIG("gptq_v2", ", \"group_size\": -1"), "group_size is -1"},
        {CONFIG("gptq_v2", ", \"group_size\": 9223372036854775807"), "group_size is 9223372036854775807"},
        {CONFIG("gptq_v2", BITS_4 ", \"sym\": true"),
         "sym is true, but layer has 4 bits, 3 groups of its 96 inputs, and zero"},
        {CONFIG("gptq_v2", BITS_4 ", \"desc_act\": false"), "desc_act is false, but layer has"},
    };
    struct layer layer;
    make_layer(4, &layer);
    CHECK_CONFIGS(&layer, cases);
    memset(layer.zeros, 8, sizeof layer.zeros);
    for (int k = 0; k < IN; k++)
        layer.g_idx[k] = k / (IN / GROUPS);
    check_config(&layer, CONFIG("gptq_v2", BITS_4 ", \"sym\": true, \"desc_act\": false"), NULL);
    layer.zeros[0][OUT - 1] = 7;
    check_config(&layer, CONFIG("gptq_v2", BITS_4 ", \"sym\": true"), "sym is true");
}

/* Sizes that come to the same number of groups: g_idx tells them apart, in whichever order its groups are. */
static void test_group_sizes(void **state)
{
    (void)state;
    static const char wrong[] = "group_size is 40, but layer has 4 bits, 3 groups of its 96 inputs, and a g_idx";
    struct layer layer;
    make_layer(4, &layer);
    check_config(&layer, CONFIG("gptq_v2", ", \"group_size\": 40"), wrong);
    check_config(&layer, CONFIG("gptq_v2", ", \"group_size\": 40" DYNAMIC("\"lay\": {\"group_size\": 32}")), NULL);
    for (int k = 0; k < IN; k++)
        layer.g_idx[k] = k / 32;
    check_config(&layer, CONFIG("gptq_v2", ", \"group_size\": 40, \"desc_act\": false"), wrong);
    check_config(&layer, CONFIG("gptq_v2", ", \"group_size\": 32, \"desc_act\": false"), NULL);
    for (int k = 0; k < IN; k++)
        layer.g_idx[k] = k / 40; /* the last one short */
    check_config(&layer, CONFIG("gptq_v2", ", \"group_size\": 40, \"desc_act\": false"), NULL);
    check_config(&layer, CONFIG("gptq_v2", ", \"group_size\": 32, \"desc_act\": false"), "group_size is 32");
    layer.with_g_idx = false; /* nothing tells */
    check_config(&layer, CONFIG("gptq_v2", ", \"group_size\": 40"), NULL);
}

/* The first entry that matches from the name's first character decides; what it does not say is as for all layers. */
static void test_dynamic(void **state)
{
    (void)state;
    static const struct settings_case cases[] = {
        {CONFIG("gptq_v2", ", \"bits\": 8" DYNAMIC("\"+:layer\": {\"bits\": 4}")), NULL},
        {CONFIG("gptq_v2", ", \"bits\": 8" DYNAMIC("\"l.y\": {\"bits\": 4}")), NULL},
        {CONFIG("gptq_v2", ", \"bits\": 8" DYNAMIC("\"+:.*yer$\": {\"bits\": 4}")), NULL},
        {CONFIG("gptq_v2", ", \"bits\": 8" DYNAMIC("\"+:yer\": {\"bits\": 4}")), "config.json: bits is 8, but layer"},
        {CONFIG("gptq_v2", ", \"bits\": 8" DYNAMIC("\"+:layer\": {\"group_size\": 32}")), "config.json: bits is 8"},
        {CONFIG("gptq_v2", BITS_4 DYNAMIC("\"+:other\": {\"bits\": 8}, \"-:another\": {}")), NULL},
        {CONFIG("gptq_v2", BITS_4 DYNAMIC("\"+:layer\": {\"bits\": 8}, \"+:l\": {\"bits\": 4}")),
         "config.json: dynamic.+:layer.bits is 8, but layer has 4 bits"},
        {CONFIG("gptq_v2", BITS_4 DYNAMIC("\"+:l\": {}, \"+:layer\": {\"bits\": 8}")), NULL},
        {CONFIG("gptq_v2", BITS_4 DYNAMIC("\"+:l\": {\"sym\": true}")), "dynamic.+:l.sym is true"},
        {CONFIG("gptq_v2", BITS_4 DYNAMIC("\"+:l\": {\"desc_act\": false}")), "dynamic.+:l.desc_act is false"},
        {CONFIG("gptq_v2", BITS_4 DYNAMIC("\"-:layer\": {}")), "dynamic.-:layer leaves layer as it is"},
        {CONFIG("gptq_v2", BITS_4 DYNAMIC("\"+:l\": {}, \"-:layer\": {}")), NULL},
        {CONFIG("gptq_v2", BITS_4 DYNAMIC("\"+:(\": {}")), "config.json: dynamic.+:(: bad regular expression \"(\""},
        {CONFIG("gptq_v2", BITS_4 DYNAMIC("\"+:a\": {\"bits\": \"4\"}")), "dynamic.+:a.bits is \"4\", a string"},
        {CONFIG("gptq_v2", BITS_4 DYNAMIC("\"+:a\": 4")), "dynamic.+:a is 4, an integer; it must be an object"},
    };
    struct layer layer;
    make_layer(4, &layer);
    CHECK_CONFIGS(&layer, cases);
}

static void test_types(void **state)
{
    (void)state;
    static const struct settings_case cases[] = {
        {CONFIG("gptq_v2", ", \"bits\": \"4\""), "config.json: bits is \"4\", a string; it must be an integer"},
        {CONFIG("gptq_v2", ", \"bits\": 4.0"), "config.json: bits is 4.0, a number with a fraction"},
        {CONFIG("gptq_v2", ", \"group_size\": true"), "group_size is true, a truth value; it must be an integer"},
        {CONFIG("gptq_v2", ", \"group_size\": -9223372036854775808"),
         "config.json: group_size is -9223372036854775808; it must be larger"},
        {CONFIG("gptq_v2", DYNAMIC("\"+:a\": {\"bits\": -9223372036854775808}")),
         "config.json: dynamic.+:a.bits is -9223372036854775808; it must be larger"},
        {CONFIG("gptq_v2", ", \"sym\": \"true\""), "config.json: sym is \"true\", a string; it must be true or false"},
        {CONFIG("gptq_v2", ", \"desc_act\": 0"), "desc_act is 0, an integer; it must be true or false"},
        {CONFIG("gptq_v2", ", \"dynamic\": []"), "dynamic is [], a list; it must be an object"},
        {"{\"quantization_config\": [4]}", "quantization_config is [4], a list; it must be an object"},
        {"{\"quantization_config\": {\"quant_method\": 4}}", "quant_method is 4, an integer; it must be a string"},
        {"{\"quantization_config\": {\"quant_method\": \"gptq\", \"checkpoint_format\": 2}}",
         "checkpoint_format is 2, an integer; it must be a string"},
    };
    struct layer layer;
    make_layer(4, &layer);
    CHECK_CONFIGS(&layer, cases);
}

/* Symmetric zero points of the other format: its key is at fault. */
static void test_other_format(void **state)
{
    (void)state;
    struct layer layer;
    make_layer(4, &layer);
    memset(layer.zeros, 8, sizeof layer.zeros);
    check_config(&layer, CONFIG("gptq", BITS_4 ", \"sym\": true"),
                 "config.json: checkpoint_format is gptq, but the zero points of layer are those of gptq_v2");
    check_config(&layer, "{\"quantization_config\": {\"quant_method\": \"gptq\", \"sym\": true}}",
                 "config.json: checkpoint_format is missing, which stands for gptq, but the zero points of layer");
    layer.less_one = true;
    check_config(&layer, CONFIG("gptq_v2", BITS_4 ", \"sym\": true"),
                 "config.json: checkpoint_format is gptq_v2, but the zero points of layer are those of gptq");
    check_config(&layer,
                 "{\"quantization_config\": {\"quant_method\": \"gptq\", \"format\": \"gptq_v2\", \"sym\": true}}",
                 "config.json: format is gptq_v2, but the zero points");
    check_config(&layer, CONFIG("gptq_v2", BITS_4 ", \"sym\": false"), NULL);
}

struct two_files {
    const char *config, *older, *message;
};

static void check_files(const struct layer *given, const struct two_files *cases, size_t n_cases)
{
    struct layer layer = *given;
    for (size_t i = 0; i < n_cases; i++) {
        layer.older = cases[i].older;
        check_config(&layer, cases[i].config, cases[i].message);
    }
}
#define CHECK_FILES(layer, cases) check_files(layer, cases, sizeof cases / sizeof *cases)

/* quantize_config.json, which stands alone in older folders. */
static void test_older_file(void **state)
{
    (void)state;
    static const struct two_files cases[] = {
        {"{}", "{\"bits\": 4, \"group_size\": 32, \"desc_act\": true, \"sym\": false}", NULL},
        {"{\"quantization_config\": null}", "{\"bits\": 4}", NULL},
        {"{}", "{\"bits\": 8}", "quantize_config.json: bits is 8, but layer has 4 bits"},
        {"{}", "{\"bits\": \"4\"}", "quantize_config.json: bits is \"4\", a string"},
        {"{}", "[]", "quantize_config.json: not a JSON object"},
        {"{}", "{", "quantize_config.json: line 1"},
        {"{}", "{\"quant_method\": \"awq\"}", "quantize_config.json: quant_method is awq"},
        {CONFIG("gptq", BITS_4), "{\"bits\": 4, \"sym\": false, \"desc_act\": null}", NULL},
        {CONFIG("gptq", BITS_4), "{\"bits\": 8}", ": bits is 4 in config.json, but 8 in quantize_config.json"},
        {CONFIG("gptq", BITS_4), "{\"group_size\": -1}", "group_size is 32 in config.json, but -1 in quantize_config"},
        {CONFIG("gptq", ", \"sym\": false"), "{\"sym\": true}", "sym is false in config.json, but true in quantize"},
        {CONFIG("gptq", ", \"desc_act\": true"), "{\"desc_act\": false}", "desc_act is true in config.json, but false"},
        {CONFIG("gptq", ""), "{\"checkpoint_format\": \"gptq_v2\"}",
         "checkpoint_format is gptq in config.json, but gptq_v2 in quantize_config.json"},
        {CONFIG("gptq", ""), "{\"quant_method\": \"gptq\"}", NULL},
        {CONFIG("gptq", ""), "{\"quant_method\": \"awq\"}",
         ": quant_method is gptq in config.json, but awq in quantize_config.json"},
        {"{\"quantization_config\": {\"quant_method\": \"compressed-tensors\", \"format\": \"pack-quantized\"}}",
         "{\"quant_method\": \"gptq\"}",
         "quant_method is compressed-tensors in config.json, but gptq in quantize_config"},
    };
    struct layer layer;
    make_layer(4, &layer);
    layer.less_one = true;
    CHECK_FILES(&layer, cases);
    layer.config = "{}";
    layer.older = "{\"bits\": 4, \"group_size\": 32}";
    check_layer(&form, &layer);
}

/* `dynamic` of both files. */
static void test_older_dynamic(void **state)
{
    (void)state;
#define OLDER(bits, members) "{" bits "\"dynamic\": {" members "}}"
    static const struct two_files cases[] = {
        {CONFIG("gptq", BITS_4 DYNAMIC("\"+:l\": {\"bits\": 4}")), "{\"bits\": 4, \"dynamic\": null}", NULL},
        {CONFIG("gptq", BITS_4 DYNAMIC("\"+:l\": {\"bits\": 4}, \"-:a\": {}")),
         OLDER("", "\"+:l\": {\"bits\": 4}, \"-:a\": {}"), NULL},
        {CONFIG("gptq", BITS_4 DYNAMIC("\"+:l\": {\"group_size\": 32, \"bits\": 4}")),
         OLDER("\"bits\": 4, ", "\"+:l\": {}"), NULL},
        {CONFIG("gptq", BITS_4 DYNAMIC("\"+:l\": {\"bits\": 4}")), OLDER("", "\"+:l\": {\"bits\": 8}"),
         ": dynamic.+:l.bits is 4 in config.json, but 8 in quantize_config.json"},
        {CONFIG("gptq", BITS_4 DYNAMIC("\"+:b\": {\"bits\": 8}")), OLDER("\"bits\": 4, ", "\"+:b\": {}"),
         "dynamic.+:b.bits is 8 in config.json, but 4 in quantize_config.json"},
        {CONFIG("gptq", BITS_4 DYNAMIC("\"+:l\": {}, \"-:a\": {}")), OLDER("", "\"-:a\": {}, \"+:l\": {}"),
         ": key 1 of dynamic is +:l in config.json, but -:a in quantize_config.json"},
        {CONFIG("gptq", BITS_4 DYNAMIC("\"+:l\": {}, \"-:a\": {}")), OLDER("", "\"+:l\": {}"),
         "key 2 of dynamic is -:a in config.json, but missing in quantize_config.json"},
        {CONFIG("gptq", BITS_4 DYNAMIC("")), OLDER("", "\"-:layer\": {}"),
         "key 1 of dynamic is missing in config.json, but -:layer in quantize_config.json"},
        {CONFIG("gptq", BITS_4), OLDER("", "\"+:(\": {}"), "quantize_config.json: dynamic.+:(: bad regular expression"},
    };
    struct layer layer;
    make_layer(4, &layer);
    layer.less_one = true;
    CHECK_FILES(&layer, cases);
}

/* Ranks with other settings do not have the same folder, whichever file says them. */
static void test_fingerprint(void **state)
{
    (void)state;
    static const char *const older[] = {"{\"bits\": 4}", "{\"bits\": 4, \"checkpoint_format\": \"gptq_v2\"}"};
    uint64_t hashes[2];
    struct layer layer;
    make_layer(4, &layer);
    layer.config = "{}";
    for (int i = 0; i < 2; i++) {
        layer.older = older[i];
        struct opened opened = open_layer(&form, &layer);
        hashes[i] = sq_checkpoint_fingerprint(opened.checkpoint);
        close_layer(&opened);
    }
    assert_true(hashes[0] != hashes[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settings),      cmocka_unit_test(test_group_sizes),  cmocka_unit_test(test_dynamic),
        cmocka_unit_test(test_types),         cmocka_unit_test(test_other_format), cmocka_unit_test(test_older_file),
        cmocka_unit_test(test_older_dynamic), cmocka_unit_test(test_fingerprint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
