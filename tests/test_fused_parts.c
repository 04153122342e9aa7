/* Fused experts as GPT-OSS has them: inputs before outputs, biases, MXFP4. */
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
#include "io/fused.h"

enum { EXPERTS = 2, WIDTH = 5, HIDDEN = 7, GATE_UP = EXPERTS * HIDDEN * 2 * WIDTH, DOWN = EXPERTS * WIDTH * HIDDEN };

static unsigned char data[8192];

static struct sq_checkpoint *open_folder(struct folder *folder, const char *header, size_t bytes)
{
    struct sq_checkpoint *checkpoint;
    folder_create(folder);
    folder_write_text(folder, "config.json", "{\"architectures\": [\"GptOssForCausalLM\"]}");
    folder_write_tensors(folder, "model.safetensors", header, data, bytes);
    assert_int_equal(sq_checkpoint_open(folder->path, &checkpoint), SQ_OK);
    return checkpoint;
}

/* --- columns and biases ------------------------------------------------------------------------------------------- */

static float number(int64_t index)
{
    return (float)(index % 251) - 100; /* exact in all types */
}

/* Gate, up and down with their biases, element i of each being number(i). */
static struct sq_checkpoint *open_columns(struct folder *folder, enum sq_dtype dtype)
{
    static const int64_t counts[] = {GATE_UP, EXPERTS * 2 * WIDTH, DOWN, EXPERTS * HIDDEN};
    static const char *const names[] = {"gate_up_proj", "gate_up_proj_bias", "down_proj", "down_proj_bias"};
    static const char *const shapes[] = {"[2,7,10]", "[2,10]", "[2,5,7]", "[2,7]"};
    char header[2048] = "{";
    size_t end = 0, size = sq_dtype_size(dtype);
    for (int t = 0; t < 4; t++) {
        size_t first = end, used = strlen(header);
        for (int64_t i = 0; i < counts[t]; i++, end += size) {
            float value = number(i);
            sq_dtype_from_f32(&value, 1, dtype, data + end);
        }
        snprintf(header + used, sizeof header - used,
                 "%s\"m.experts.%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}", t ? "," : "",
                 names[t], sq_dtype_name(dtype), shapes[t], first, end);
    }
    strcat(header, "}");
    return open_folder(folder, header, end);
}

/* W[row, column] of an expert's gate, up or down (part 0, 1, 2). */
static float weight_at(int expert, int part, int64_t row, int64_t column)
{
    return part == 2 ? number((expert * WIDTH + column) * HIDDEN + row)
                     : number((expert * HIDDEN + column) * 2 * WIDTH + part * WIDTH + row);
}

static float bias_at(int expert, int part, int64_t row)
{
    return part == 2 ? number(expert * HIDDEN + row) : number(expert * 2 * WIDTH + part * WIDTH + row);
}

static void check_part(const struct sq_checkpoint *checkpoint, int expert, int part)
{
    static const char *const words[] = {"gate", "up", "down"};
    int64_t rows = part == 2 ? HIDDEN : WIDTH, columns = part == 2 ? WIDTH : HIDDEN;
    char name[64];
    float found[WIDTH * HIDDEN];
    snprintf(name, sizeof name, "m.experts.%d.%s_proj", expert, words[part]);
    const struct sq_tensor *weight = sq_checkpoint_find_part(checkpoint, name, "weight");
    const struct sq_tensor *bias = sq_checkpoint_find_part(checkpoint, name, "bias");
    assert_true(weight && bias && !sq_tensor_is_plain(weight) && sq_tensor_is_plain(bias));
    const struct sq_checkpoint_linear linear = {name, rows, columns, false};
    for (int64_t first = 0; first < rows; first++) { /* any rows, and any elements in their order */
        assert_int_equal(sq_checkpoint_read_linear(checkpoint, &linear, first, rows - first, found), SQ_OK);
        for (int64_t i = 0; i < (rows - first) * columns; i++)
            assert_true(found[i] == weight_at(expert, part, first + i / columns, i % columns));
        assert_int_equal(sq_tensor_read_elements_f32(weight, first * columns + 2, 4, found), SQ_OK);
        for (int64_t i = 0; i < 4 && first * columns + 2 + i < rows * columns; i++)
            assert_true(found[i] == weight_at(expert, part, (first * columns + 2 + i) / columns,
                                              (first * columns + 2 + i) % columns));
        if (first + 2 >= rows) break;
    }
    assert_int_equal(bias->n_dims, 1);
    assert_int_equal(bias->shape[0], rows);
    assert_int_equal(sq_tensor_read_f32(bias, 0, rows, found), SQ_OK);
    for (int64_t i = 0; i < rows; i++)
        assert_true(found[i] == bias_at(expert, part, i));
}

static void test_columns_and_biases(void **state)
{
    (void)state;
    static const enum sq_dtype dtypes[] = {SQ_F32, SQ_F16, SQ_BF16};
    for (int type = 0; type < 3; type++) {
        struct folder folder;
        struct sq_checkpoint *checkpoint = open_columns(&folder, dtypes[type]);
        assert_int_equal(sq_fused_check(checkpoint), SQ_OK);
        assert_int_equal(sq_checkpoint_n_tensors(checkpoint), EXPERTS * 6);
        for (int i = 0; i < 3 * EXPERTS; i++)
            check_part(checkpoint, i / 3, i % 3);
        sq_checkpoint_close(checkpoint);
        folder_remove(&folder);
    }
}

/* --- MXFP4 -------------------------------------------------------------------------------------------------------- */

enum { OUTPUTS = 3, INPUTS = 64, BLOCKS = INPUTS / 32 }; /* of each expert; up has as many outputs as gate */

static const float values_of[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};

static struct sq_checkpoint *open_mxfp4(struct folder *folder, uint8_t scale)
{
    const int codes = 2 * 2 * OUTPUTS * INPUTS / 2, scales = 2 * 2 * OUTPUTS * BLOCKS;
    char header[1024];
    for (int i = 0; i < codes; i++)
        data[i] = (uint8_t)(i * 37 + 11);
    for (int i = 0; i < scales; i++)
        data[codes + i] = (uint8_t)(120 + i % 13);
    data[codes + 3 * OUTPUTS * BLOCKS + 1] = scale; /* expert 1, up, output 0, the second block */
    snprintf(header, sizeof header,
             "{\"m.experts.gate_up_proj_blocks\":{\"dtype\":\"U8\",\"shape\":[2,6,2,16],\"data_offsets\":[0,%d]},"
             "\"m.experts.gate_up_proj_scales\":{\"dtype\":\"U8\",\"shape\":[2,6,2],\"data_offsets\":[%d,%d]}}",
             codes, codes, codes + scales);
    return open_folder(folder, header, (size_t)(codes + scales));
}

static float mxfp4_at(int expert, int part, int row, int column)
{
    int output = expert * 2 * OUTPUTS + part * OUTPUTS + row;
    uint8_t byte = data[output * INPUTS / 2 + column / 2];
    int scale = data[2 * 2 * OUTPUTS * INPUTS / 2 + output * BLOCKS + column / 32];
    return values_of[column % 2 ? byte >> 4 : byte & 15] * ldexpf(1, scale - 127);
}

static void test_mxfp4(void **state)
{
    (void)state;
    struct folder folder;
    struct sq_checkpoint *checkpoint = open_mxfp4(&folder, 121);
    assert_int_equal(sq_fused_check(checkpoint), SQ_OK);
    for (int i = 0; i < 4; i++) {
        float found[OUTPUTS * INPUTS], one;
        char name[64];
        snprintf(name, sizeof name, "m.experts.%d.%s_proj", i / 2, i % 2 ? "up" : "gate");
        const struct sq_checkpoint_linear linear = {name, OUTPUTS, INPUTS, false};
        const struct sq_tensor *weight = sq_checkpoint_find_part(checkpoint, name, "weight");
        assert_int_equal(sq_checkpoint_check_linear(checkpoint, &linear), SQ_OK);
        assert_int_equal(sq_checkpoint_read_linear(checkpoint, &linear, 1, OUTPUTS - 1, found), SQ_OK);
        for (int e = INPUTS; e < OUTPUTS * INPUTS; e++) {
            float wanted = mxfp4_at(i / 2, i % 2, e / INPUTS, e % INPUTS);
            assert_true(found[e - INPUTS] == wanted);
            assert_int_equal(sq_tensor_read_elements_f32(weight, e, 1, &one), SQ_OK);
            assert_true(one == wanted && sq_bf16_to_f32(sq_f32_to_bf16(one)) == one);
        }
        assert_int_equal(sq_checkpoint_quantized_bytes(checkpoint, name), OUTPUTS * (INPUTS / 2 + BLOCKS));
    }
    sq_checkpoint_close(checkpoint);
    folder_remove(&folder);
}

/* What is no number, or too large for one, is found and named with its place. */
static void test_scales_that_give_no_number(void **state)
{
    (void)state;
    static const uint8_t scales[] = {255, 254};
    for (int i = 0; i < 2; i++) {
        struct folder folder;
        struct capture capture;
        float found[OUTPUTS * INPUTS];
        struct sq_checkpoint *checkpoint = open_mxfp4(&folder, scales[i]);
        const struct sq_checkpoint_linear linear = {"m.experts.1.up_proj", OUTPUTS, INPUTS, false};
        assert_int_equal(sq_checkpoint_read_linear(checkpoint, &linear, 1, 2, found), SQ_OK);
        assert_int_equal(sq_checkpoint_read_linear(checkpoint, &linear, 0, 2, found), SQ_ERR_NUMERIC);
        capture_start(&capture);
        assert_true(sq_checkpoint_report_linear(checkpoint, linear.name));
        const char *const parts[4] = {"m.experts.1.up_proj.weight: value", "in row 0, column",
                                      "scaled by m.experts.1.up_proj.weight_scale"};
        assert_true(capture_is_one_error(capture_stop(&capture), parts));
        sq_checkpoint_close(checkpoint);
        folder_remove(&folder);
    }
}

/* --- what is refused ---------------------------------------------------------------------------------------------- */

static void check_refused(const char *header, size_t bytes, const char *words)
{
    struct folder folder;
    struct capture capture;
    struct sq_checkpoint *checkpoint = open_folder(&folder, header, bytes);
    const char *const parts[4] = {"m.experts.", words};
    capture_start(&capture);
    assert_int_equal(sq_fused_check(checkpoint), SQ_ERR_INPUT);
    const char *text = capture_stop(&capture);
    if (!capture_is_one_error(text, parts)) fail_msg("not '%s': %s", words, text);
    sq_checkpoint_close(checkpoint);
    folder_remove(&folder);
}

#define ONE(name, dtype, shape, bytes)                                                                                 \
    "{\"m.experts." name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[0," #bytes "]}}", bytes

static void test_shapes_that_cannot_be_taken_apart(void **state)
{
    (void)state;
    check_refused(ONE("gate_up_proj", "F32", "[2,10]", 80), "three dimensions: experts, inputs, outputs");
    check_refused(ONE("gate_up_proj", "F32", "[1,2,5]", 40), "an even number of outputs");
    check_refused(ONE("gate_up_proj", "I32", "[1,2,4]", 32), "F32, F16 or BF16");
    check_refused(ONE("gate_up_proj", "F8_E4M3", "[1,2,4]", 8), "F32, F16 or BF16");
    check_refused(ONE("gate_up_proj", "F32", "[1,0,4]", 0), "elements");
    check_refused(ONE("down_proj_bias", "F32", "[8]", 32), "two dimensions: experts, outputs");
    check_refused(ONE("gate_up_proj_bias", "F32", "[1,3]", 12), "an even number of outputs");
    check_refused(ONE("down_proj_blocks", "U8", "[1,4,16]", 64), "four dimensions: experts, outputs, blocks, 16");
    check_refused(ONE("down_proj_blocks", "U8", "[1,4,1,8]", 32), "four dimensions: experts, outputs, blocks, 16");
    check_refused(ONE("down_proj_blocks", "I8", "[1,4,1,16]", 64), "bytes (U8)");
    check_refused(ONE("gate_up_proj_scales", "U8", "[1,3,1]", 3), "an even number of outputs");
    memset(data, 0, sizeof data);
    check_refused("{\"m.experts.gate_up_proj\":{\"dtype\":\"F16\",\"shape\":[1,4,6],\"data_offsets\":[0,48]},"
                  "\"m.experts.down_proj\":{\"dtype\":\"F16\",\"shape\":[1,4,3],\"data_offsets\":[48,72]}}",
                  72, "which does not go with m.experts.down_proj");
}

/* Blocks without scales, and with scales of another shape. */
static void test_blocks_without_their_scales(void **state)
{
    (void)state;
    struct folder folder;
    struct capture capture;
    struct sq_checkpoint *checkpoint = open_folder(&folder, ONE("down_proj_blocks", "U8", "[1,4,2,16]", 128));
    const struct sq_checkpoint_linear linear = {"m.experts.0.down_proj", 4, 64, false};
    capture_start(&capture);
    assert_int_equal(sq_checkpoint_check_linear(checkpoint, &linear), SQ_ERR_INPUT);
    const char *const none[4] = {"m.experts.0.down_proj.weight has dtype MXFP4", "weight_scale"};
    const char *text = capture_stop(&capture);
    if (!capture_is_one_error(text, none)) fail_msg("%s", text);
    sq_checkpoint_close(checkpoint);
    folder_remove(&folder);

    folder_create(&folder);
    folder_write_text(&folder, "config.json", "{\"architectures\": [\"GptOssForCausalLM\"]}");
    const char *header =
        "{\"m.experts.down_proj_blocks\":{\"dtype\":\"U8\",\"shape\":[1,4,2,16],\"data_offsets\":[0,128]},"
        "\"m.experts.down_proj_scales\":{\"dtype\":\"U8\",\"shape\":[1,4,1],\"data_offsets\":[128,132]}}";
    folder_write_tensors(&folder, "model.safetensors", header, data, 132);
    capture_start(&capture);
    assert_int_equal(sq_checkpoint_open(folder.path, &checkpoint), SQ_ERR_INPUT);
    const char *const other[4] = {"m.experts.0.down_proj.weight_scale", "are no scales for"};
    assert_true(capture_is_one_error(capture_stop(&capture), other));
    folder_remove(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_columns_and_biases),          cmocka_unit_test(test_mxfp4),
        cmocka_unit_test(test_scales_that_give_no_number),  cmocka_unit_test(test_shapes_that_cannot_be_taken_apart),
        cmocka_unit_test(test_blocks_without_their_scales),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
