/* Fused experts of 8-bit weights: what scales of which shapes mean, and what is refused. */
#define _XOPEN_SOURCE 700
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

enum { EXPERTS = 2, WIDTH = 4, HIDDEN = 6, GATE_UP = EXPERTS * 2 * WIDTH * HIDDEN, DOWN = EXPERTS * HIDDEN * WIDTH };

/* How the scales of gate and up are written; the blocks are 2 rows high. */
struct writing {
    const char *ending, *shape;
    int n_scales, rows, columns; /* a scale is for so many of an expert's rows and columns */
};

static unsigned char data[1024];

static uint8_t code_of(int index)
{
    return (uint8_t)(index * 5 % 120);
}

static float scale_of(int index)
{
    return 0.5f + (float)index / 8;
}

static void write_folder(struct folder *folder, const struct writing *w, int block_rows)
{
    char header[2048], config[256];
    int end = GATE_UP;
    for (int i = 0; i < GATE_UP; i++)
        data[i] = code_of(i);
    for (int i = 0; i < w->n_scales; i++, end += 4) {
        float scale = scale_of(i);
        memcpy(data + end, &scale, sizeof scale);
    }
    memset(data + end, 0, DOWN * 2);
    snprintf(header, sizeof header,
             "{\"m.experts.gate_up_proj\":{\"dtype\":\"F8_E4M3\",\"shape\":[%d,%d,%d],\"data_offsets\":[0,%d]},"
             "\"m.experts.gate_up_proj%s\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[%d,%d]},"
             "\"m.experts.down_proj\":{\"dtype\":\"BF16\",\"shape\":[%d,%d,%d],\"data_offsets\":[%d,%d]}}",
             EXPERTS, 2 * WIDTH, HIDDEN, GATE_UP, w->ending, w->shape, GATE_UP, end, EXPERTS, HIDDEN, WIDTH, end,
             end + 2 * DOWN);
    snprintf(config, sizeof config, "{\"quantization_config\":{\"weight_block_size\":[%d,4]}}", block_rows);
    folder_create(folder);
    folder_write_text(folder, "config.json", config);
    folder_write_tensors(folder, "model.safetensors", header, data, (size_t)(end + 2 * DOWN));
}

/* Row by row what the definition says. */
static void check_part(const struct sq_checkpoint *checkpoint, const struct writing *w, int expert, int part)
{
    char name[64];
    float found[WIDTH * HIDDEN];
    snprintf(name, sizeof name, "m.experts.%d.%s_proj", expert, part ? "up" : "gate");
    const struct sq_checkpoint_linear linear = {name, WIDTH, HIDDEN, false};
    assert_int_equal(sq_checkpoint_read_linear(checkpoint, &linear, 0, WIDTH, found), SQ_OK);
    for (int r = 0; r < WIDTH; r++)
        for (int c = 0; c < HIDDEN; c++) {
            int row = part * WIDTH + r, per_row = (HIDDEN + w->columns - 1) / w->columns;
            int scale = expert * w->n_scales / EXPERTS + row / w->rows * per_row + c / w->columns;
            float weight = sq_f8_e4m3_to_f32(code_of((expert * 2 * WIDTH + row) * HIDDEN + c));
            assert_true(found[r * HIDDEN + c] == weight * scale_of(scale));
        }
}

static void test_scales_go_with_their_experts(void **state)
{
    (void)state;
    static const struct writing writings[] = {
        {"_scale_inv", "[2,4,2]", 16, 2, 4},
        {"_scale", "[2,8,1]", 16, 1, HIDDEN},
        {"_scale", "[2,1,1]", 2, 2 * WIDTH, HIDDEN},
        {"_scale", "[2]", 2, 2 * WIDTH, HIDDEN},
    };
    for (size_t i = 0; i < sizeof writings / sizeof *writings; i++) {
        struct folder folder;
        struct sq_checkpoint *checkpoint;
        write_folder(&folder, &writings[i], 2);
        assert_int_equal(sq_checkpoint_open(folder.path, &checkpoint), SQ_OK);
        assert_int_equal(sq_fused_check(checkpoint), SQ_OK);
        for (int part = 0; part < 2 * EXPERTS; part++)
            check_part(checkpoint, &writings[i], part / 2, part % 2);
        sq_checkpoint_close(checkpoint);
        folder_remove(&folder);
    }
}

static void check_refused(const struct writing *w, int block_rows, const char *words)
{
    struct folder folder;
    struct capture capture;
    struct sq_checkpoint *checkpoint;
    const char *const parts[4] = {"m.experts.gate_up_proj", words};
    write_folder(&folder, w, block_rows);
    assert_int_equal(sq_checkpoint_open(folder.path, &checkpoint), SQ_OK);
    capture_start(&capture);
    assert_int_equal(sq_fused_check(checkpoint), SQ_ERR_INPUT);
    assert_true(capture_is_one_error(capture_stop(&capture), parts));
    sq_checkpoint_close(checkpoint);
    folder_remove(&folder);
}

static void test_scales_that_cannot_be_taken_apart(void **state)
{
    (void)state;
    /* rows 3 to 5 are of gate and of up */
    check_refused(&(struct writing){"_scale_inv", "[2,3,2]", 12, 3, 4}, 3, "none is for gate and up");
    check_refused(&(struct writing){"_scale_inv", "[2,2,2]", 8, 6, 4}, 6, "none is for gate and up");
    check_refused(&(struct writing){"_scale", "[3]", 3, 8, 6}, 2, "as many experts");
    check_refused(&(struct writing){"_scale", "[2,8]", 16, 1, 6}, 2, "three dimensions");
    check_refused(&(struct writing){"_scale", "[2,0,2]", 0, 1, 6}, 2, "elements");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scales_go_with_their_experts),
        cmocka_unit_test(test_scales_that_cannot_be_taken_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
