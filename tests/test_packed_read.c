/* Reading compressed-tensors layers (pack-quantized) that others wrote: every width, groups and channels, both kinds of
 * zero point, rows that do not fill a word; and bad files. */
#define _XOPEN_SOURCE 700
#include "base/half.h"
#include "quantized_fixture.h"
#include "tensor/dtype.h"

#define IN 90 /* no multiple of a word's codes */
#define MAX_GROUPS 4

/* One layer "layer" and how it is written. */
struct layer {
    int bits, groups;
    bool asymmetric, has_order;
    const char *config, *scale_dtype; /* BF16 or F32 */
    int64_t shape[2];
    int codes[OUT][IN], zeros[OUT][MAX_GROUPS]; /* signed: -2^(bits - 1) ... */
    float scales[OUT][MAX_GROUPS];
};

#define CONFIG(format)                                                                                                 \
    "{\"quantization_config\": {\"quant_method\": \"compressed-tensors\", \"format\": \"" format "\"}}"

static void make_layer(int bits, int groups, bool asymmetric, struct layer *layer)
{
    uint32_t x = (uint32_t)(bits * 10 + groups);
    int low = -(1 << (bits - 1)), mask = (1 << bits) - 1;
    *layer = (struct layer){.bits = bits,
                            .groups = groups,
                            .asymmetric = asymmetric,
                            .config = CONFIG("pack-quantized"),
                            .scale_dtype = "BF16",
                            .shape = {OUT, IN}};
    for (int n = 0; n < OUT; n++) {
        for (int k = 0; k < IN; k++)
            layer->codes[n][k] = low + ((int)((x = x * 1664525u + 1013904223u) >> 20) & mask);
        for (int g = 0; g < groups; g++) {
            layer->zeros[n][g] = asymmetric ? low + ((int)((x = x * 1664525u + 1013904223u) >> 20) & mask) : 0;
            layer->scales[n][g] = 0.5f + (float)(n + g) / 128; /* exact in BF16 */
        }
    }
}

/* Puts a signed value into bits [position, position + bits) of a stream of words that lie `stride` apart. */
static void put(uint32_t *words, int64_t stride, int64_t position, int bits, int value)
{
    uint32_t field = (uint32_t)(value + (1 << (bits - 1)));
    for (int b = 0; b < bits; b++)
        words[(position + b) / 32 * stride] |= (field >> b & 1) << (position + b) % 32;
}

static int words_of(int count, int bits)
{
    return (count * bits + 31) / 32;
}

static void write_layer(const struct folder *folder, const void *written)
{
    const struct layer *layer = written;
    static uint32_t packed[OUT * IN], zeros[OUT * MAX_GROUPS];
    static uint16_t halves[OUT * MAX_GROUPS];
    static float floats[OUT * MAX_GROUPS];
    static unsigned char data[1 << 17];
    char header[2048];
    int row_words = words_of(IN, layer->bits), zero_words = words_of(OUT, layer->bits), groups = layer->groups;
    bool is_half = !strcmp(layer->scale_dtype, "BF16");
    size_t end[6] = {0}, used = 0;
    memset(packed, 0, sizeof packed);
    memset(zeros, 0, sizeof zeros);
    for (int n = 0; n < OUT; n++) {
        for (int k = 0; k < IN; k++)
            put(packed + n * row_words, 1, (int64_t)k * layer->bits, layer->bits, layer->codes[n][k]);
        for (int g = 0; g < groups; g++) {
            put(zeros + g, groups, (int64_t)n * layer->bits, layer->bits, layer->zeros[n][g]);
            floats[n * groups + g] = layer->scales[n][g];
            halves[n * groups + g] = sq_f32_to_bf16(layer->scales[n][g]);
        }
    }
    end[1] = append(data, &used, layer->shape, sizeof layer->shape);
    end[2] = append(data, &used, packed, (size_t)(OUT * row_words) * 4);
    end[3] = append(data, &used, zeros, (size_t)(zero_words * groups) * 4);
    end[4] = append(data, &used, is_half ? (const void *)halves : (const void *)floats,
                    (size_t)(OUT * groups) * (is_half ? 2 : 4));
    snprintf(header, sizeof header,
             "{\"layer.weight_shape\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[%zu,%zu]},"
             "\"layer.weight_packed\":{\"dtype\":\"I32\",\"shape\":[%d,%d],\"data_offsets\":[%zu,%zu]},"
             "\"%s\":{\"dtype\":\"I32\",\"shape\":[%d,%d],\"data_offsets\":[%zu,%zu]},"
             "\"layer.weight_scale\":{\"dtype\":\"%s\",\"shape\":[%d,%d],\"data_offsets\":[%zu,%zu]},"
             "\"%s\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[%zu,%zu]}}",
             end[0], end[1], OUT, row_words, end[1], end[2], layer->asymmetric ? "layer.weight_zero_point" : "other",
             zero_words, groups, end[2], end[3], layer->scale_dtype, OUT, groups, end[3], end[4],
             layer->has_order ? "layer.weight_g_idx" : "another", end[4], end[4]);
    folder_write_tensors(folder, "model.safetensors", header, data, used);
    folder_write_text(folder, "config.json", layer->config);
}

static float weight_of(const void *written, int n, int k)
{
    const struct layer *layer = written;
    int g = k / (IN / layer->groups);
    return layer->scales[n][g] * (float)(layer->codes[n][k] - layer->zeros[n][g]);
}

static int64_t bytes_of(const void *written)
{
    const struct layer *layer = written;
    int64_t scale_bytes = OUT * layer->groups * (!strcmp(layer->scale_dtype, "BF16") ? 2 : 4);
    int64_t zero_bytes = layer->asymmetric ? 4 * words_of(OUT, layer->bits) * layer->groups : 0;
    return 4 * OUT * words_of(IN, layer->bits) + scale_bytes + zero_bytes;
}

static const struct form form = {IN, write_layer, weight_of, bytes_of};

static void test_all_forms(void **state)
{
    (void)state;
    static const int all_bits[] = {2, 3, 4, 8};
    struct layer layer;
    for (int b = 0; b < 4; b++)
        for (int asymmetric = 0; asymmetric < 2; asymmetric++) {
            make_layer(all_bits[b], 3, asymmetric, &layer);
            check_layer(&form, &layer);
            make_layer(all_bits[b], 1, asymmetric, &layer);
            check_layer(&form, &layer);
            layer.scale_dtype = "F32";
            layer.config = CONFIG("mixed-precision");
            check_layer(&form, &layer);
        }
}

#define REFUSED(layer, in, ...) check_refused(&form, layer, "layer", in, (const char *const[4]){__VA_ARGS__})

static void test_refused(void **state)
{
    (void)state;
    struct layer layer;
    make_layer(4, 3, true, &layer);
    REFUSED(&layer, IN - 30, "layer.weight_packed", "70 outputs and 60 inputs");
    layer.shape[1] = IN + 1;
    REFUSED(&layer, IN, "layer.weight_shape", "70 outputs and 90 inputs");
    layer.shape[1] = IN;
    layer.scale_dtype = "I32";
    REFUSED(&layer, IN, "layer.weight_scale", "type I32");
    layer.scale_dtype = "F32";
    layer.scales[69][2] = INFINITY;
    REFUSED(&layer, IN, "layer.weight_scale[69, 2] is inf");
    layer.scales[69][2] = 1;
    layer.has_order = true;
    REFUSED(&layer, IN, "layer.weight_g_idx is there");
    layer.has_order = false;
    layer.config = CONFIG("marlin-24");
    REFUSED(&layer, IN, "format is marlin-24");
    layer.config = "{\"quantization_config\": {\"quant_method\": \"gptq\"}}";
    REFUSED(&layer, IN, "quant_method is gptq", "layer", "compressed-tensors");
    layer.config = "{}";
    REFUSED(&layer, IN, "no quantization_config");
    make_layer(4, 4, false, &layer);
    REFUSED(&layer, IN, "layer.weight_scale", "the first 70 x 4"); /* 90 inputs are not 4 equal groups */
}

/* members: of quantization_config, behind a comma */
#define SETTINGS(members)                                                                                              \
    "{\"quantization_config\": {\"quant_method\": \"compressed-tensors\", \"format\": \"pack-quantized\", " members "}}"
#define GROUPS(members) "\"config_groups\": {" members "}"
#define GROUP(name, targets, bits, symmetric, size)                                                                    \
    "\"" name "\": {\"targets\": [" targets "], \"weights\": {\"num_bits\": " bits ", \"symmetric\": " symmetric       \
    ", \"group_size\": " size "}}"
#define LINEAR "\"Linear\""

struct settings_case {
    int groups, asymmetric;
    const char *config, *message;
};

static void check_configs(const struct settings_case *cases, size_t n_cases)
{
    for (size_t i = 0; i < n_cases; i++) {
        struct layer layer;
        make_layer(4, cases[i].groups, cases[i].asymmetric, &layer);
        layer.config = cases[i].config;
        check_settings(&form, &layer, cases[i].message);
    }
}
#define CHECK_CONFIGS(cases) check_configs(cases, sizeof cases / sizeof *cases)

/* The tensors of a layer are what its entry of config_groups says. */
static void test_settings(void **state)
{
    (void)state;
    static const struct settings_case cases[] = {
        {3, 1, SETTINGS(GROUPS("")), NULL},
        {3, 1, SETTINGS(GROUPS(GROUP("a", LINEAR, "4", "false", "30"))), NULL},
        {3, 1, SETTINGS(GROUPS(GROUP("a", LINEAR, "8", "false", "30"))),
         "config.json: config_groups.a.weights.num_bits is 8, but layer has 4 bits, 3 groups of its 90 inputs"},
        {3, 1, SETTINGS(GROUPS(GROUP("a", LINEAR, "4", "false", "45"))), "a.weights.group_size is 45, but layer has"},
        /* as many groups, but no size that divides a row */
        {3, 1, SETTINGS(GROUPS(GROUP("a", LINEAR, "4", "false", "31"))), "a.weights.group_size is 31, but layer has"},
        {3, 1, SETTINGS(GROUPS(GROUP("a", LINEAR, "4", "true", "30"))),
         "a.weights.symmetric is true, but layer has 4 bits, 3 groups of its 90 inputs, and a weight_zero_point"},
        {3, 0, SETTINGS(GROUPS(GROUP("a", LINEAR, "4", "false", "30"))), "symmetric is false, but layer has"},
        {3, 0, SETTINGS(GROUPS(GROUP("a", LINEAR, "4", "true", "null"))), "group_size is missing, but layer has"},
        {1, 0, SETTINGS(GROUPS(GROUP("a", LINEAR, "4", "true", "null"))), NULL},
        {1, 0, SETTINGS(GROUPS(GROUP("a", LINEAR, "4", "null", "null"))), NULL},
        {1, 0, SETTINGS(GROUPS(GROUP("a", LINEAR, "4", "true", "-1"))), NULL},
        {1, 0, SETTINGS(GROUPS(GROUP("a", LINEAR, "4", "true", "9223372036854775807"))), NULL},
        {3, 0, SETTINGS(GROUPS(GROUP("a", LINEAR, "4", "true", "9223372036854775807"))),
         "group_size is 92233720368547"},
        {1, 0, SETTINGS(GROUPS(GROUP("a", LINEAR, "4", "true", "89"))), "group_size is 89, but layer has"},
    };
    CHECK_CONFIGS(cases);
}

/* A layer has the settings of a target that is its name, else of a pattern that matches from the name's first
 * character, else of its class. */
static void test_targets(void **state)
{
    (void)state;
#define OTHER(name, targets) GROUP(name, targets, "8", "true", "30")
#define RIGHT(name, targets) GROUP(name, targets, "4", "true", "30")
    static const struct settings_case cases[] = {
        {3, 0, SETTINGS(GROUPS(OTHER("a", LINEAR) ", " RIGHT("b", "\"layer\""))), NULL},
        {3, 0, SETTINGS(GROUPS(OTHER("a", LINEAR) ", " RIGHT("b", "\"x\", \"re:l.y\""))), NULL},
        {3, 0, SETTINGS(GROUPS(RIGHT("a", LINEAR) ", " OTHER("b", "\"re:.*yer$\""))),
         "config_groups.b.weights.num_bits is 8, but layer has"},
        {3, 0, SETTINGS(GROUPS(RIGHT("a", LINEAR) ", " OTHER("b", "\"re:yer\""))), NULL},
        {3, 0, SETTINGS(GROUPS(OTHER("a", "\"re:.*\"") ", " RIGHT("b", "\"layer\""))), NULL},
        {3, 0, SETTINGS(GROUPS(OTHER("a", "\"re:l\"") ", " RIGHT("b", "\"re:.*\""))), NULL},
        {3, 0, SETTINGS(GROUPS(OTHER("a", "\"Own\"") ", " RIGHT("b", LINEAR))), NULL},
        {3, 0, SETTINGS(GROUPS(OTHER("a", "\"Conv1D\"") ", " RIGHT("b", LINEAR))), NULL},
        {3, 0, SETTINGS(GROUPS(RIGHT("a", "\"OwnLinear\""))), NULL}, /* it may be the layer's class */
        {3, 0, SETTINGS(GROUPS(RIGHT("a", "\"lay\", \"re:yer\", \"other.layer\""))),
         "config.json: config_groups has no target that layer matches"},
        {3, 0, SETTINGS(GROUPS(RIGHT("a", LINEAR)) ", \"ignore\": [\"lm_head\", \"re:yer\", \"Own\"]"), NULL},
        {3, 0, SETTINGS(GROUPS(RIGHT("a", LINEAR)) ", \"ignore\": [\"lm_head\", \"layer\"]"),
         "config.json: ignore leaves layer as it is, but its tensors are quantized"},
        {3, 0, SETTINGS(GROUPS(RIGHT("a", LINEAR)) ", \"ignore\": [\"re:.*yer\"]"), "ignore leaves layer"},
        {3, 0, SETTINGS(GROUPS("\"a\": {\"targets\": [\"Linear\"], \"weights\": null}")),
         "config_groups.a.weights leaves layer as it is"},
        {3, 0, SETTINGS(GROUPS(RIGHT("a", "\"re:(\""))), "a.weights: bad regular expression \"(\""},
    };
    CHECK_CONFIGS(cases);
}

static void test_types(void **state)
{
    (void)state;
    static const struct settings_case cases[] = {
        {3, 0, SETTINGS("\"config_groups\": []"), "config.json: config_groups is [], a list; it must be an object"},
        {3, 0, SETTINGS(GROUPS("\"a\": [\"Linear\"]")),
         "config_groups.a is [\"Linear\"], a list; it must be an object"},
        {3, 0, SETTINGS(GROUPS("\"a\": {\"targets\": [\"Linear\"], \"weights\": {\"group_size\": 30}}")),
         "config_groups.a.weights.num_bits is missing; it must be an integer"},
        {3, 0, SETTINGS(GROUPS("\"a\": {\"targets\": [\"Linear\"], \"weights\": 4}")),
         "config_groups.a.weights is 4, an integer; it must be an object"},
        {3, 0, SETTINGS(GROUPS("\"a\": {\"weights\": {\"num_bits\": 4}}")),
         "config_groups.a.targets is missing; it must be a list"},
        {3, 0, SETTINGS(GROUPS("\"a\": {\"targets\": \"Linear\", \"weights\": {\"num_bits\": 4}}")),
         "config_groups.a.targets is \"Linear\", a string; it must be a list"},
        {3, 0, SETTINGS(GROUPS(GROUP("a", "4", "4", "true", "30"))), "config_groups.a.targets has something that is"},
        {3, 0, SETTINGS(GROUPS(GROUP("a", LINEAR, "\"4\"", "true", "30"))),
         "num_bits is \"4\", a string; it must be an"},
        {3, 0, SETTINGS(GROUPS(GROUP("a", LINEAR, "4", "\"true\"", "30"))), "symmetric is \"true\", a string; it must"},
        {3, 0, SETTINGS(GROUPS(GROUP("a", LINEAR, "4", "true", "\"30\""))), "group_size is \"30\", a string; it must"},
        {3, 0, SETTINGS("\"ignore\": \"lm_head\""), "ignore is \"lm_head\", a string; it must be a list"},
        {3, 0, "{\"quantization_config\": {\"quant_method\": \"compressed-tensors\"}}",
         "format is missing; it must be a string"},
    };
    CHECK_CONFIGS(cases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_forms), cmocka_unit_test(test_refused), cmocka_unit_test(test_settings),
        cmocka_unit_test(test_targets),   cmocka_unit_test(test_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
