/* Reading GPTQ layers that others wrote: any group order, scales in F32, missing g_idx, zeros less one; and bad files.
 */
#define _XOPEN_SOURCE 700
#include "io/pack.h"
#include "quantized_fixture.h"

#define IN 96
#define GROUPS 3
#define MAX_WORDS (IN * 8 / 32 * OUT)

/* One layer "layer" and how it is written. */
struct layer {
    int bits;
    const char *config;      /* config.json */
    const char *older;       /* quantize_config.json; NULL: there is none */
    const char *scale_dtype; /* F32 or F16 */
    bool with_g_idx, less_one;
    uint8_t codes[OUT][IN], zeros[GROUPS][OUT];
    float scales[GROUPS][OUT];
    int32_t g_idx[IN];
};

/* more: members behind a comma */
#define CONFIG(format, more)                                                                                           \
    "{\"quantization_config\": {\"quant_method\": \"gptq\", \"checkpoint_format\": \"" format "\"" more "}}"
#define BITS_4 ", \"bits\": 4, \"group_size\": 32"
#define DYNAMIC(members) ", \"dynamic\": {" members "}"

static void make_layer(int bits, struct layer *layer)
{
    uint32_t x = (uint32_t)bits;
    *layer = (struct layer){.bits = bits, .config = CONFIG("gptq_v2", ""), .scale_dtype = "F32", .with_g_idx = true};
    for (int n = 0; n < OUT; n++)
        for (int k = 0; k < IN; k++)
            layer->codes[n][k] = (uint8_t)((x = x * 1664525u + 1013904223u) >> 24 & ((1u << bits) - 1));
    for (int g = 0; g < GROUPS; g++)
        for (int n = 0; n < OUT; n++) {
            layer->zeros[g][n] = (uint8_t)((x = x * 1664525u + 1013904223u) >> 24 & ((1u << bits) - 1));
            layer->scales[g][n] = 0.25f + (float)(x >> 22);
        }
    for (int k = 0; k < IN; k++)
        layer->g_idx[k] = k * 7 % GROUPS; /* an order that no group size explains */
}

/* Zeros less one as they came about: one taken from every field of a whole word at once, or with 3 bits from each
 * field. */
static void pack_zeros(const struct layer *layer, int g, uint32_t *words, int64_t n_words)
{
    uint8_t zeros[OUT];
    uint32_t mask = (1u << layer->bits) - 1;
    for (int n = 0; n < OUT; n++)
        zeros[n] =
            (uint8_t)(layer->bits == 3 && layer->less_one ? (layer->zeros[g][n] - 1u) & mask : layer->zeros[g][n]);
    sq_pack_codes(layer->bits, 1, OUT, zeros, words, 1);
    for (int64_t w = 0; w < n_words && layer->bits != 3 && layer->less_one; w++)
        words[w] -= UINT32_MAX / mask;
}

static void write_layer(const struct folder *folder, const void *written)
{
    const struct layer *layer = written;
    static uint32_t qweight[MAX_WORDS], qzeros[GROUPS * OUT];
    static unsigned char data[1 << 17];
    static uint16_t halves[GROUPS * OUT];
    char header[2048];
    int64_t words = sq_pack_words(IN, layer->bits), zero_words = sq_pack_words(OUT, layer->bits);
    size_t end[5] = {0}, used = 0;
    sq_pack_codes(layer->bits, OUT, IN, layer->codes[0], qweight, OUT);
    for (int g = 0; g < GROUPS; g++)
        pack_zeros(layer, g, qzeros + g * zero_words, zero_words);
    bool is_half = !strcmp(layer->scale_dtype, "F16");
    sq_dtype_from_f32(layer->scales[0], GROUPS * OUT, SQ_F16, halves);
    end[1] = append(data, &used, qweight, (size_t)(words * OUT) * 4);
    end[2] = append(data, &used, qzeros, (size_t)(GROUPS * zero_words) * 4);
    end[3] = append(data, &used, is_half ? (const void *)halves : (const void *)layer->scales,
                    GROUPS * OUT * (is_half ? 2 : 4));
    end[4] = append(data, &used, layer->g_idx, sizeof layer->g_idx);
    snprintf(header, sizeof header,
             "{\"layer.qweight\":{\"dtype\":\"I32\",\"shape\":[%d,%d],\"data_offsets\":[%zu,%zu]},"
             "\"layer.qzeros\":{\"dtype\":\"I32\",\"shape\":[%d,%d],\"data_offsets\":[%zu,%zu]},"
             "\"layer.scales\":{\"dtype\":\"%s\",\"shape\":[%d,%d],\"data_offsets\":[%zu,%zu]},"
             "\"%s\":{\"dtype\":\"I32\",\"shape\":[%d],\"data_offsets\":[%zu,%zu]}}",
             (int)words, OUT, end[0], end[1], GROUPS, (int)zero_words, end[1], end[2], layer->scale_dtype, GROUPS, OUT,
             end[2], end[3], layer->with_g_idx ? "layer.g_idx" : "other", IN, end[3], end[4]);
    folder_write_tensors(folder, "model.safetensors", header, data, used);
    folder_write_text(folder, "config.json", layer->config);
    if (layer->older) folder_write_text(folder, "quantize_config.json", layer->older);
}

static float weight_of(const void *written, int n, int k)
{
    const struct layer *layer = written;
    int g = layer->with_g_idx ? layer->g_idx[k] : k / (IN / GROUPS);
    return layer->scales[g][n] * (float)(layer->codes[n][k] - layer->zeros[g][n]);
}

static int64_t bytes_of(const void *written)
{
    const struct layer *layer = written;
    int64_t words = sq_pack_words(IN, layer->bits) * OUT + GROUPS * sq_pack_words(OUT, layer->bits);
    return 4 * words + GROUPS * OUT * (!strcmp(layer->scale_dtype, "F16") ? 2 : 4);
}

static const struct form form = {IN, write_layer, weight_of, bytes_of};

static void test_all_bits(void **state)
{
    (void)state;
    static const int all_bits[] = {2, 3, 4, 8};
    struct layer layer;
    for (int b = 0; b < 4; b++) {
        make_layer(all_bits[b], &layer);
        check_layer(&form, &layer);
        layer.less_one = true;
        layer.config = CONFIG("gptq", ", \"group_size\": 32");
        check_layer(&form, &layer);
    }
}

static void test_half_scales(void **state)
{
    (void)state;
    struct layer layer;
    make_layer(4, &layer);
    layer.scale_dtype = "F16";
    for (int g = 0; g < GROUPS; g++)
        for (int n = 0; n < OUT; n++)
            layer.scales[g][n] = 0.5f + (float)(g * OUT + n) / 1024;
    check_layer(&form, &layer);
}

static void test_missing_g_idx(void **state)
{
    (void)state;
    struct layer layer;
    make_layer(3, &layer);
    layer.with_g_idx = false;
    check_layer(&form, &layer);
    layer.config = CONFIG("gptq_v2", ", \"bits\": 3");
    check_layer(&form, &layer);
}

/* A format that is not named is the older one. */
static void test_unnamed_format(void **state)
{
    (void)state;
    struct layer layer;
    make_layer(4, &layer);
    layer.less_one = true;
    layer.config = "{\"quantization_config\": {\"quant_method\": \"gptq\", \"bits\": 4}}";
    check_layer(&form, &layer);
}

#define REFUSED(layer, prefix, in, ...) check_refused(&form, layer, prefix, in, (const char *const[4]){__VA_ARGS__})

static void test_refused(void **state)
{
    (void)state;
    struct layer layer;
    make_layer(4, &layer);
    REFUSED(&layer, "nobody", IN, "nobody", "neither weight nor qweight");
    REFUSED(&layer, "layer", IN - 10, "layer.qweight", "70 outputs and 86 inputs");
    layer.config = "{\"architectures\": []}";
    REFUSED(&layer, "layer", IN, "no quantization_config");
    layer.config = "{\"quantization_config\": {\"quant_method\": \"awq\", \"bits\": 4}}";
    REFUSED(&layer, "layer", IN, "quant_method is awq");
    layer.config = CONFIG("marlin", BITS_4);
    REFUSED(&layer, "layer", IN, "checkpoint_format is marlin");
    layer.config = CONFIG("gptq", BITS_4);
    layer.g_idx[95] = GROUPS;
    REFUSED(&layer, "layer", IN, "layer.g_idx[95] is 3");
    layer.g_idx[95] = -1;
    REFUSED(&layer, "layer", IN, "layer.g_idx[95] is -1");
    layer.g_idx[95] = 0;
    layer.scale_dtype = "I32";
    REFUSED(&layer, "layer", IN, "layer.scales", "type I32");
}

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

/* quantize_config.json, which stands alone in older folders. */
static void test_older_file(void **state)
{
    (void)state;
    static const struct {
        const char *config, *older, *message;
    } cases[] = {
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
    };
    struct layer layer;
    make_layer(4, &layer);
    layer.less_one = true;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        layer.older = cases[i].older;
        check_config(&layer, cases[i].config, cases[i].message);
    }
    layer.config = "{}";
    layer.older = "{\"bits\": 4, \"group_size\": 32}";
    check_layer(&form, &layer);
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

/* Reading says nothing, the report names the place. */
static void test_not_finite(void **state)
{
    (void)state;
    static float weights[OUT * IN];
    struct layer layer;
    struct capture capture;
    const struct sq_checkpoint_linear linear = linear_of(&form);
    make_layer(4, &layer);
    layer.scales[2][69] = INFINITY;
    struct opened opened = open_layer(&form, &layer);
    capture_start(&capture);
    assert_int_equal(sq_checkpoint_read_linear(opened.checkpoint, &linear, 0, 69, weights), SQ_OK);
    assert_int_equal(sq_checkpoint_read_linear(opened.checkpoint, &linear, 0, OUT, weights), SQ_ERR_NUMERIC);
    assert_true(sq_checkpoint_report_linear(opened.checkpoint, "layer"));
    const char *text = capture_stop(&capture);
    assert_true(capture_is_one_error(
        text, (const char *const[4]){"model.safetensors: tensor layer.scales", "value inf in row 2, column 69"}));
    close_layer(&opened);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_bits),      cmocka_unit_test(test_half_scales),
        cmocka_unit_test(test_missing_g_idx), cmocka_unit_test(test_unnamed_format),
        cmocka_unit_test(test_refused),       cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_settings),      cmocka_unit_test(test_group_sizes),
        cmocka_unit_test(test_dynamic),       cmocka_unit_test(test_types),
        cmocka_unit_test(test_other_format),  cmocka_unit_test(test_older_file),
        cmocka_unit_test(test_fingerprint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
