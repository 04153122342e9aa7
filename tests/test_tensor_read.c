/* Reading rows of a tensor: every type, any address, values that are not finite. */
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

#define T(dtype, shape, offsets) "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

/* The checkpoint with one tensor "w" that has these data. */
static struct sq_checkpoint *open_one(struct folder *folder, const char *header, const void *data, size_t size)
{
    struct sq_checkpoint *checkpoint = NULL;
    folder_create(folder);
    folder_write_text(folder, "config.json", "{}");
    folder_write_tensors(folder, "model.safetensors", header, data, size);
    assert_int_equal(sq_checkpoint_open(folder->path, &checkpoint), SQ_OK);
    return checkpoint;
}

/* Large tensors of each type, read in pieces (which gives pages back) from data at an odd address, are the
 * definition's. */
static void check_read(const char *dtype, int element, float (*decode)(const unsigned char *bytes))
{
    enum { ROWS = 300, COLUMNS = 333, COUNT = ROWS * COLUMNS };
    struct folder folder;
    unsigned char *data = malloc(COUNT * 4);
    float *values = malloc(COUNT * sizeof *values);
    for (int i = 0; i < COUNT * element; i++)
        data[i] = (unsigned char)(i * 7 + i / 256);
    for (int i = 0; i < COUNT; i++)
        data[i * element + element - 1] &= 0xbf; /* no exponent of ones */
    char header[200];
    int length = sprintf(header, "{\"w\":" T("%s", "[300,9,37]", "[0,%d]") "}", dtype, COUNT * element);
    if (length % 2 == 0) strcat(header, " "); /* data begin at an odd address */
    struct sq_checkpoint *checkpoint = open_one(&folder, header, data, (size_t)COUNT * (size_t)element);
    const struct sq_tensor *tensor = sq_checkpoint_find(checkpoint, "w");
    assert_int_equal((uintptr_t)tensor->data % 2, 1);
    for (int pass = 0; pass < 2; pass++) { /* pages that were given back come back with the same content */
        assert_int_equal(sq_tensor_read_f32(tensor, 0, 250, values), SQ_OK);
        assert_int_equal(sq_tensor_read_f32(tensor, 250, 50, values + 250 * COLUMNS), SQ_OK);
        for (int i = 0; i < COUNT; i++)
            assert_true(values[i] == decode(data + i * element));
        memset(values, 0xff, COUNT * sizeof *values);
        sq_tensor_give_back(tensor);
    }
    sq_checkpoint_close(checkpoint);
    folder_remove(&folder);
    free(values);
    free(data);
}

static float decode_f32(const unsigned char *bytes)
{
    return sq_f32_from_bits((uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
                            (uint32_t)bytes[3] << 24);
}

static float decode_f16(const unsigned char *bytes)
{
    return sq_f16_to_f32((uint16_t)(bytes[0] | bytes[1] << 8));
}

static float decode_bf16(const unsigned char *bytes)
{
    return sq_f32_from_bits((uint32_t)bytes[0] << 16 | (uint32_t)bytes[1] << 24);
}

static void test_read(void **state)
{
    (void)state;
    check_read("F32", 4, decode_f32);
    check_read("F16", 2, decode_f16);
    check_read("BF16", 2, decode_bf16);
}

/* Whether the tensor is reported in one line with these parts. */
static bool is_reported(const struct sq_tensor *tensor, const char *value, const char *place)
{
    struct capture capture;
    capture_start(&capture);
    bool found = sq_tensor_report_not_finite(tensor);
    const char *text = capture_stop(&capture);
    return found &&
           capture_is_one_error(text, (const char *const[4]){"model.safetensors", "tensor layer.w", value, place});
}

/* Any run of columns, turned; a number of them that takes several pieces. */
static void test_columns(void **state)
{
    (void)state;
    enum { ROWS = 7, COLUMNS = 600 };
    static const int runs[][2] = {{0, COLUMNS}, {0, 1}, {599, 1}, {5, 300}, {88, 512}, {600, 0}};
    static uint16_t data[ROWS * COLUMNS];
    static float values[ROWS * COLUMNS + 1];
    struct folder folder;
    for (int i = 0; i < ROWS * COLUMNS; i++)
        data[i] = (uint16_t)(i * 11 & 0xbfff);
    static const char header[] = "{\"w\":" T("BF16", "[7,600]", "[0,8400]") "}";
    struct sq_checkpoint *checkpoint = open_one(&folder, header, data, sizeof data);
    const struct sq_tensor *tensor = sq_checkpoint_find(checkpoint, "w");
    for (size_t r = 0; r < sizeof runs / sizeof *runs; r++) {
        values[runs[r][1] * ROWS] = 12345;
        assert_int_equal(sq_tensor_read_columns_f32(tensor, runs[r][0], runs[r][1], values), SQ_OK);
        for (int n = 0; n < runs[r][1]; n++)
            for (int k = 0; k < ROWS; k++)
                assert_true(values[n * ROWS + k] == sq_bf16_to_f32(data[k * COLUMNS + runs[r][0] + n]));
        assert_true(values[runs[r][1] * ROWS] == 12345);
    }
    sq_checkpoint_close(checkpoint);
    folder_remove(&folder);
}

/* Reading says nothing; the report names the first place. */
static void test_not_finite(void **state)
{
    (void)state;
    enum { ROWS = 20, COLUMNS = 1000 };
    static const struct {
        float value;
        const char *text;
    } cases[] = {{NAN, "nan"}, {INFINITY, "inf"}, {-INFINITY, "-inf"}};
    static float data[ROWS * COLUMNS], values[ROWS * COLUMNS];
    for (size_t i = 0; i < 3; i++) {
        struct folder folder;
        data[17 * COLUMNS + 999] = cases[i].value;
        data[18 * COLUMNS] = NAN;
        static const char header[] = "{\"layer.w\":" T("F32", "[20,1000]", "[0,80000]") "}";
        struct sq_checkpoint *checkpoint = open_one(&folder, header, data, sizeof data);
        const struct sq_tensor *tensor = sq_checkpoint_find(checkpoint, "layer.w");
        assert_int_equal(sq_tensor_read_f32(tensor, 0, 17, values), SQ_OK);
        assert_int_equal(sq_tensor_read_f32(tensor, 19, 1, values), SQ_OK);
        struct capture capture;
        capture_start(&capture);
        assert_int_equal(sq_tensor_read_f32(tensor, 2, 18, values), SQ_ERR_NUMERIC);
        assert_int_equal(sq_tensor_read_f32(tensor, 18, 2, values), SQ_ERR_NUMERIC);
        assert_int_equal(sq_tensor_read_columns_f32(tensor, 900, 100, values), SQ_ERR_NUMERIC);
        assert_string_equal(capture_stop(&capture), "");
        assert_true(is_reported(tensor, cases[i].text, "row 17, column 999"));
        sq_checkpoint_close(checkpoint);
        folder_remove(&folder);
    }
}

/* The last of `count` elements has these bytes. */
static void check_last(const char *dtype, const unsigned char bytes[8], const char *value)
{
    enum { COUNT = 10001 };
    static unsigned char data[COUNT * 8];
    struct folder folder;
    char header[200];
    size_t element = sq_dtype_size((enum sq_dtype)sq_dtype_parse(dtype));
    sprintf(header, "{\"layer.w\":" T("%s", "[10001]", "[0,%d]") "}", dtype, COUNT * (int)element);
    memset(data, 0, sizeof data);
    memcpy(data + (COUNT - 1) * element, bytes, element);
    struct sq_checkpoint *checkpoint = open_one(&folder, header, data, COUNT * element);
    const struct sq_tensor *tensor = sq_checkpoint_find(checkpoint, "layer.w");
    assert_true(sq_tensor_is_finite(tensor, 0, COUNT - 1));
    assert_int_equal(sq_tensor_is_finite(tensor, 1, COUNT - 1), value == NULL);
    if (value)
        assert_true(is_reported(tensor, value, "row 10000, column 0"));
    else
        assert_false(sq_tensor_report_not_finite(tensor));
    sq_checkpoint_close(checkpoint);
    folder_remove(&folder);
}

static void test_every_type(void **state)
{
    (void)state;
    check_last("F16", (const unsigned char[8]){0, 0x7c}, "inf");
    check_last("F16", (const unsigned char[8]){0xff, 0x7b}, NULL);
    check_last("BF16", (const unsigned char[8]){0xc0, 0x7f}, "nan");
    check_last("BF16", (const unsigned char[8]){0x7f, 0x7f}, NULL);
    check_last("F32", (const unsigned char[8]){1, 0, 0x80, 0x7f}, "nan");
    check_last("F64", (const unsigned char[8]){0, 0, 0, 0, 0, 0, 0xf0, 0xff}, "-inf");
    check_last("F64", (const unsigned char[8]){255, 255, 255, 255, 255, 255, 0xef, 0x7f}, NULL);
    check_last("I32", (const unsigned char[8]){0, 0, 0x80, 0x7f}, NULL);
    check_last("I8", (const unsigned char[8]){0xff}, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_columns),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_every_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
