/* Reading GPTQ layers that others wrote: any group order, scales in F32, missing g_idx, zeros less one; and bad files.
 */
#define _XOPEN_SOURCE 700
#include "gptq_fixture.h"

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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
