/* 8-bit weights: every number, scales of blocks, rows and tensors, and scales that are missing or do not fit. */
#define _XOPEN_SOURCE 700
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/half.h"
#include "capture.h"
#include "folder.h"
#include "io/checkpoint.h"
#include "io/scales.h"

#define ROWS 50
#define COLUMNS 70
#define MAX_SCALES (ROWS * 2)

static const struct sq_checkpoint_linear linear = {"layer", ROWS, COLUMNS, false};

/* The number by its definition; the format has no infinity. */
static float value_of(int code)
{
    int exponent = code >> 3 & 15, mantissa = code & 7;
    double magnitude = exponent ? ldexp(1 + mantissa / 8.0, exponent - 7) : ldexp(mantissa / 8.0, -6);
    if ((code & 0x7f) == 0x7f) magnitude = NAN;
    return (float)(code & 0x80 ? -magnitude : magnitude);
}

static void test_every_number(void **state)
{
    (void)state;
    for (int code = 0; code < 256; code++) {
        float found = sq_f8_e4m3_to_f32((uint8_t)code), wanted = value_of(code);
        assert_true(isnan(wanted) ? isnan(found) : !memcmp(&found, &wanted, sizeof wanted));
    }
    assert_true(sq_f8_e4m3_to_f32(0x7e) == 448);
}

/* How the tensor "layer.weight" and its scales are written. */
struct writing {
    const char *config, *scale_name, *scale_dtype, *scale_shape;
    int n_scales;
    int64_t rows, columns; /* of a block */
    uint8_t codes[ROWS * COLUMNS];
    float scales[MAX_SCALES];
};

static void make_writing(struct writing *w)
{
    *w = (struct writing){.config = "{\"quantization_config\": {\"weight_block_size\": [16, 32]}}",
                          .scale_name = "layer.weight_scale_inv",
                          .scale_dtype = "F32",
                          .scale_shape = "[4,3]",
                          .n_scales = 12,
                          .rows = 16,
                          .columns = 32};
    for (int i = 0; i < ROWS * COLUMNS; i++)
        w->codes[i] = (uint8_t)(i * 37 % 251 & 0xfe); /* no NaN: those end in a one */
    for (int i = 0; i < MAX_SCALES; i++)
        w->scales[i] = 0.25f + (float)i / 64; /* exact in BF16 */
}

static struct sq_checkpoint *write_and_open(struct folder *folder, const struct writing *w, enum sq_status wanted)
{
    static unsigned char data[ROWS * COLUMNS + MAX_SCALES * 4];
    char header[1024];
    struct sq_checkpoint *checkpoint = NULL;
    size_t codes = sizeof w->codes, end = codes;
    memcpy(data, w->codes, codes);
    for (int i = 0; i < w->n_scales; i++) {
        uint16_t half = sq_f32_to_bf16(w->scales[i]);
        bool is_half = !strcmp(w->scale_dtype, "BF16");
        memcpy(data + end, is_half ? (const void *)&half : &w->scales[i], is_half ? 2 : 4);
        end += is_half ? 2 : 4;
    }
    snprintf(header, sizeof header,
             "{\"layer.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[%d,%d],\"data_offsets\":[0,%zu]},"
             "\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}}",
             ROWS, COLUMNS, codes, w->scale_name, w->scale_dtype, w->scale_shape, codes, end);
    folder_create(folder);
    folder_write_text(folder, "config.json", w->config);
    folder_write_tensors(folder, "model.safetensors", header, data, end);
    assert_int_equal(sq_checkpoint_open(folder->path, &checkpoint), wanted);
    return checkpoint;
}

static void check_rows(const struct sq_checkpoint *checkpoint, const struct writing *w, int64_t row, int64_t rows)
{
    static float values[ROWS * COLUMNS];
    const struct sq_tensor *tensor = sq_checkpoint_find(checkpoint, "layer.weight");
    int64_t across = (COLUMNS + w->columns - 1) / w->columns;
    assert_int_equal(sq_tensor_read_f32(tensor, row, rows, values), SQ_OK);
    for (int64_t i = 0; i < rows * COLUMNS; i++) {
        int64_t n = row + i / COLUMNS, k = i % COLUMNS;
        float wanted = value_of(w->codes[n * COLUMNS + k]) * w->scales[n / w->rows * across + k / w->columns];
        assert_memory_equal(&values[i], &wanted, sizeof wanted);
    }
}

static void check_read(const struct writing *w)
{
    struct folder folder;
    struct sq_checkpoint *checkpoint = write_and_open(&folder, w, SQ_OK);
    check_rows(checkpoint, w, 0, ROWS);
    check_rows(checkpoint, w, 15, 2);
    check_rows(checkpoint, w, 49, 1);
    assert_int_equal(sq_checkpoint_check_linear(checkpoint, &linear), SQ_OK);
    assert_true(sq_checkpoint_quantized_bytes(checkpoint, "layer") > ROWS * COLUMNS);
    assert_false(sq_scales_is_auxiliary(checkpoint, sq_checkpoint_find(checkpoint, "layer.weight")));
    assert_true(sq_scales_is_auxiliary(checkpoint, sq_checkpoint_find(checkpoint, w->scale_name)));
    sq_checkpoint_close(checkpoint);
    folder_remove(&folder);
}

static void test_scales(void **state)
{
    (void)state;
    struct writing w;
    make_writing(&w);
    check_read(&w);
    w.config = "{\"quantization_config\": {\"config_groups\": {\"group_0\": {\"weights\":"
               " {\"block_structure\": [16, 32]}}}}}";
    w.scale_name = "layer.weight_scale";
    w.scale_dtype = "BF16";
    check_read(&w);
    w.config = "{}";
    w.scale_shape = "[50,1]";
    w.n_scales = (int)ROWS;
    w.rows = 1;
    w.columns = COLUMNS;
    check_read(&w);
    w.scale_shape = "[50]";
    check_read(&w);
    w.scale_shape = "[]";
    w.n_scales = 1;
    w.rows = ROWS;
    check_read(&w);
    w.scale_shape = "[1]";
    w.scale_dtype = "F32";
    check_read(&w);
}

/* Blocks far wider than any tensor: sixteen whole rows each. */
static void test_blocks_without_end(void **state)
{
    (void)state;
    struct writing w;
    make_writing(&w);
    w.config = "{\"quantization_config\": {\"weight_block_size\": [16, 9223372036854775807]}}";
    w.scale_shape = "[4,1]";
    w.n_scales = 4;
    w.columns = COLUMNS;
    check_read(&w);
}

#define REFUSED(text, ...)                                                                                             \
    if (!capture_is_one_error(text, (const char *const[4]){__VA_ARGS__})) fail_msg("got: %s", text)

static void check_not_opened(const struct writing *w, const char *const parts[4])
{
    struct folder folder;
    struct capture capture;
    capture_start(&capture);
    (void)write_and_open(&folder, w, SQ_ERR_INPUT);
    const char *text = capture_stop(&capture);
    if (!capture_is_one_error(text, parts)) fail_msg("wanted '%s', got: %s", parts[0], text);
    folder_remove(&folder);
}

#define NOT_OPENED(w, ...) check_not_opened(w, (const char *const[4]){__VA_ARGS__})

static void test_bad_scales(void **state)
{
    (void)state;
    struct writing w;
    make_writing(&w);
    w.scale_shape = "[3,4]";
    NOT_OPENED(&w, "layer.weight_scale_inv", "3 x 4", "layer.weight [50, 70]", "16 x 32");
    w.config = "{}";
    w.scale_shape = "[4,3]";
    NOT_OPENED(&w, "layer.weight_scale_inv", "4 x 3", "0 x 0");
    make_writing(&w);
    w.scale_dtype = "I32";
    NOT_OPENED(&w, "layer.weight_scale_inv", "type I32");
}

static void test_unreadable(void **state)
{
    (void)state;
    struct writing w;
    struct folder folder;
    struct capture capture;
    make_writing(&w);
    w.scale_name = "layer.weight_scales"; /* nobody's name for it */
    struct sq_checkpoint *checkpoint = write_and_open(&folder, &w, SQ_OK);
    capture_start(&capture);
    assert_int_equal(sq_checkpoint_check_linear(checkpoint, &linear), SQ_ERR_INPUT);
    const char *text = capture_stop(&capture);
    REFUSED(text, "layer.weight has dtype F8_E4M3", "neither layer.weight_scale_inv nor layer.weight_scale");
    sq_checkpoint_close(checkpoint);
    folder_remove(&folder);
}

/* Rows before the bad one are read. */
static void check_not_finite(const struct writing *w, int64_t row, const char *part)
{
    static float values[ROWS * COLUMNS];
    struct folder folder;
    struct capture capture;
    struct sq_checkpoint *checkpoint = write_and_open(&folder, w, SQ_OK);
    const struct sq_tensor *tensor = sq_checkpoint_find(checkpoint, "layer.weight");
    assert_int_equal(sq_tensor_read_f32(tensor, 0, row, values), SQ_OK);
    assert_int_equal(sq_tensor_read_f32(tensor, 0, ROWS, values), SQ_ERR_NUMERIC);
    capture_start(&capture);
    assert_true(sq_tensor_report_not_finite(tensor));
    const char *text = capture_stop(&capture);
    REFUSED(text, "layer.weight", part, "scaled by layer.weight_scale_inv");
    sq_checkpoint_close(checkpoint);
    folder_remove(&folder);
}

static void test_not_finite(void **state)
{
    (void)state;
    struct writing w;
    make_writing(&w);
    w.codes[3 * COLUMNS + 5] = 0xff;
    check_not_finite(&w, 3, "nan in row 3, column 5");
    make_writing(&w);
    w.scales[10] = NAN; /* rows 48, 49; columns 32 to 63 */
    check_not_finite(&w, 48, "nan in row 48, column 32");
    w.scales[10] = INFINITY;
    w.codes[48 * COLUMNS + 32] = 0x38; /* 1 */
    check_not_finite(&w, 48, "inf in row 48, column 32");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_number), cmocka_unit_test(test_scales),
        cmocka_unit_test(test_bad_scales),   cmocka_unit_test(test_unreadable),
        cmocka_unit_test(test_not_finite),   cmocka_unit_test(test_blocks_without_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
