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
#define DYNAMIC                                                                                                        \
    ", \"dynamic\": {\"+:a\": {\"bits\": 2}, \"+:b\": {\"bits\": 3, \"group_size\": 32}, \"+:c\": {\"bits\": 8}}"

static void make_layer(int bits, struct layer *layer)
{
    uint32_t x = (uint32_t)bits;
    *layer = (struct layer){
        .bits = bits, .config = CONFIG("gptq_v2", BITS_4 DYNAMIC), .scale_dtype = "F32", .with_g_idx = true};
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
        make_layer(all_bits[b], &layer); /* the shapes know what `dynamic` says in patterns */
        check_layer(&form, &layer);
        layer.less_one = true;
        layer.config = CONFIG("gptq", ", \"bits\": 4, \"group_size\": -1" DYNAMIC);
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

static void test_settings(void **state)
{
    (void)state;
    static const struct {
        const char *config, *message;
    } cases[] = {
        {CONFIG("gptq_v2", ""), NULL},
        {CONFIG("gptq_v2", BITS_4 ", \"sym\": false, \"desc_act\": true"), NULL},
        {CONFIG("gptq_v2", ", \"bits\": 8"), "bits is 8, but layer has 4 bits"},
        {CONFIG("gptq_v2", ", \"bits\": \"4\""), "bits is \"4\""},
        {CONFIG("gptq_v2", ", \"bits\": 8, \"dynamic\": {\"+:a\": {\"bits\": 3}, \"-:b\": {}}"), "bits is 8"},
        {CONFIG("gptq_v2", ", \"bits\": 8, \"dynamic\": {\"+:a\": {\"bits\": 4}}"), NULL},
        {CONFIG("gptq_v2", ", \"group_size\": 64"),
         "group_size is 64, but layer has 4 bits, 3 groups of its 96 inputs"},
        {CONFIG("gptq_v2", ", \"group_size\": -1"), "group_size is -1"},
        {CONFIG("gptq_v2", ", \"group_size\": 9223372036854775807"), "group_size is 9223372036854775807"},
        {CONFIG("gptq_v2", ", \"group_size\": 40"), NULL}, /* the last one short */
        {CONFIG("gptq_v2", BITS_4 ", \"sym\": true"),
         "sym is true, but layer has 4 bits, 3 groups of its 96 inputs, and zero"},
        {CONFIG("gptq_v2", BITS_4 ", \"desc_act\": false"), "desc_act is false, but layer has"},
    };
    struct layer layer;
    make_layer(4, &layer);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_config(&layer, cases[i].config, cases[i].message);
    memset(layer.zeros, 8, sizeof layer.zeros);
    for (int k = 0; k < IN; k++)
        layer.g_idx[k] = k / (IN / GROUPS);
    check_config(&layer, CONFIG("gptq_v2", BITS_4 ", \"sym\": true, \"desc_act\": false"), NULL);
    check_config(&layer, CONFIG("gptq", BITS_4 ", \"sym\": true"), "sym is true"); /* of the other format */
    layer.zeros[0][OUT - 1] = 7;
    check_config(&layer, CONFIG("gptq_v2", BITS_4 ", \"sym\": true"), "sym is true");
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
        cmocka_unit_test(test_all_bits),       cmocka_unit_test(test_half_scales), cmocka_unit_test(test_missing_g_idx),
        cmocka_unit_test(test_unnamed_format), cmocka_unit_test(test_refused),     cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
